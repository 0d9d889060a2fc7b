"""The residual stream's own axes as a dictionary: of each frame the k coordinates that lie farthest from their mean, signed.

What a sparse code over the raw basis can do: the bottom line for every learnt basis. Were the stream's axes privileged (Elhage et
al. 2023, "Privileged bases in the transformer residual stream"), it would do well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from musae.card import MethodCard
from musae.dictionary import Dictionary, FrameSource, Report, SparseCode

CARD = MethodCard(
    name="identity",
    summary="the stream's own axes; the k coordinates of each frame farthest from their mean, signed",
    paper="Elhage et al. 2023, transformer-circuits.pub/2023/privileged-basis",
    seeded=False,
)

BATCH = 32_768
"""Frames at a time: bounds memory, changes nothing else."""


class Identity(Dictionary):
    """min(width, d) axes about the mean of all frames: where there are fewer atoms than axes, those of largest variance."""

    name = CARD.name

    def __init__(self, width: int = 2048, k: int = 32, seed: int = 0) -> None:
        """`width`: at most so many axes (there are d); `k`: coordinates kept a frame; `seed`: changes nothing but the order in
        which frames are read."""
        super().__init__()
        self.width = width
        self.k = k
        self.seed = seed

    def fit(self, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> Self:
        self.tensors = {}  # the width asked for counts, not how many axes an earlier fit found
        self.check_sizes()
        mean = frames.mean()
        spread = torch.zeros(frames.d, dtype=torch.float64)
        steps = -(-frames.frames // BATCH)
        for step, x in enumerate(frames.batches(BATCH, seed=self.seed), start=1):
            spread += (x.double() - mean).square().sum(0)
            for report in reports:
                report({"step": step, "steps": steps})
        self.check_finite(spread, frames)
        axes = spread.topk(min(self.width, frames.d)).indices.sort().values
        self.tensors = {"W_dec": torch.eye(frames.d)[axes], "b_dec": mean}
        self.trained = {"frames": frames.frames, "store": frames.identity}
        return self.freeze()

    def encode(self, x: Tensor) -> SparseCode:
        return SparseCode.from_scores((self.checked(x) - self.bias)[:, self.atoms.argmax(1)], self.k)


METHOD = Identity
