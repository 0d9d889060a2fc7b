"""Principal components as a dictionary: orthonormal atoms, and of each frame's scores the k of largest magnitude.

The sparse code makes it comparable with the other methods at the same L0. Among all codes with k of these atoms it is the one
that reconstructs best, since the atoms are orthonormal. Values are signed; a component's sign makes its largest entry positive.
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
    name="pca",
    summary="principal components; the k scores of largest magnitude of each frame, signed",
    paper="Pearson 1901; Hotelling 1933",
    seeded=False,
)

BATCH = 8192
"""Frames at a time: bounds memory, changes nothing else."""


class Pca(Dictionary):
    """min(width, d) components of largest variance about the mean of all frames."""

    name = CARD.name

    def __init__(self, width: int = 2048, k: int = 32, seed: int = 0) -> None:
        """`width`: at most so many components (there are d); `k`: scores kept a frame; `seed`: changes nothing but the order in
        which frames are read."""
        super().__init__()
        self.width = width
        self.k = k
        self.seed = seed

    def fit(self, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> Self:
        self.tensors = {}  # the width asked for counts, not how many atoms an earlier fit found
        self.check_sizes()
        mean = frames.mean().double()
        scatter = torch.zeros(frames.d, frames.d, dtype=torch.float64)
        for step, x in enumerate(frames.batches(BATCH, seed=self.seed), start=1):
            centred = x.double() - mean
            scatter.addmm_(centred.T, centred)
            for report in reports:
                report({"step": step, "steps": -(-frames.frames // BATCH)})
        self.check_finite(scatter, frames)
        components = torch.linalg.eigh(scatter).eigenvectors.flip(1).T[: self.width]
        peaks = components.gather(1, components.abs().argmax(1, keepdim=True))
        self.tensors = {"W_dec": (components * peaks.sign()).float().contiguous(), "b_dec": mean.float()}
        self.trained = {"frames": frames.frames, "store": frames.identity}
        return self.freeze()

    def encode(self, x: Tensor) -> SparseCode:
        return SparseCode.from_scores((self.checked(x) - self.bias) @ self.atoms.T, self.k)


METHOD = Pca
