"""Problem sizes, data and initial weights that benches of training and encoding share.

Frames are sparse sums of planted unit atoms plus noise, so that a dictionary has something to learn; their mean is near zero and
their mean squared norm near d, so that no library's input scaling matters. The initial weights come from another seed than the
planted atoms: an initialisation that equals the truth would have nothing left to learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn import functional

from musae.files import atomic_path
from musae.kernels.op import Shape

T = TypeVar("T")

DATA_SEED, WEIGHT_SEED = 1, 2
LEARNING_RATE = 1e-3
"""Of Adam, constant: every library learns with it at every size here, within tens of steps."""
BATCHES = 4
"""Different training batches, used in turn; one more is held out."""


@dataclass(frozen=True)
class Size:
    """A problem: `Shape` with a name, and how much of it makes one timed round."""

    name: str
    d: int
    width: int
    k: int
    n: int
    steps: int
    """Training steps in a round: enough that the fastest contestant's round is long against the clock and the pipe."""
    passes: int
    """Encoding passes over a batch in a round."""
    check: int
    """Training steps after which what a contestant has learnt is compared with the others."""
    device: str = "cpu"

    @property
    def shape(self) -> Shape:
        return Shape(n=self.n, d=self.d, width=self.width, k=self.k)

    def case(self) -> dict[str, int | str]:
        """What identifies the problem in a row."""
        return {"size": self.name, "d": self.d, "width": self.width, "k": self.k, "n": self.n}


SIZES = {
    size.name: size
    for size in (
        Size("small", d=256, width=4096, k=32, n=2048, steps=4, passes=4, check=32),
        Size("large", d=1024, width=16384, k=64, n=2048, steps=1, passes=1, check=8),
        Size("gpu", d=2048, width=32768, k=64, n=8192, steps=4, passes=8, check=32, device="cuda"),
    )
}
"""The sizes of the side-by-side comparison; ``gpu`` needs CUDA."""


def frames(d: int, rows: int, k: int, seed: int = DATA_SEED) -> torch.Tensor:
    """Planted data, float32 ``[rows, d]``: k of 8 d unit atoms with exponential weights of random sign, and 10 % noise."""
    generator = torch.Generator().manual_seed(seed)
    atoms = functional.normalize(torch.randn(8 * d, d, generator=generator), dim=1)
    indices = torch.randint(8 * d, (rows, k), generator=generator)
    signs = torch.randint(0, 2, (rows, k), generator=generator) * 2.0 - 1.0
    weights = signs * torch.empty(rows, k).exponential_(generator=generator)
    x = functional.embedding_bag(indices, atoms, per_sample_weights=weights, mode="sum")
    x *= (d / x.square().sum(1).mean()) ** 0.5
    return x + 0.1 * torch.randn(rows, d, generator=generator)


def initial_atoms(width: int, d: int, seed: int = WEIGHT_SEED) -> torch.Tensor:
    """Initial ``W_enc`` and ``W_dec``: random directions of norm 1, float32 ``[width, d]``; biases start at zero."""
    return functional.normalize(torch.randn(width, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def write(folder: Path, size: Size) -> Path:
    """Write ``frames.npy [(BATCHES + 1) n, d]`` and ``atoms.npy [width, d]``, for workers of any environment."""
    makers: dict[str, Callable[[], torch.Tensor]] = {
        "frames.npy": lambda: frames(size.d, (BATCHES + 1) * size.n, size.k),
        "atoms.npy": lambda: initial_atoms(size.width, size.d),
    }
    for name, make in makers.items():
        if not (folder / name).exists():
            with atomic_path(folder / name) as temporary, temporary.open("wb") as file:
                np.save(file, make().numpy())
    return folder


def finished(work: Callable[..., T], *arguments: Any) -> T:
    """Call `work`, and wait until a GPU has done it too."""
    made = work(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return made
