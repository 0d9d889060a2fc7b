"""My method (paper): frames of the training set as atoms.

Say here what is learnt, and in which conventions: x a frame, h its code, ``x ~ bias + h @ W_dec``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from torch import Tensor
from torch.nn import functional

from musae.card import MethodCard
from musae.dictionary import Dictionary, FrameSource, Report, SparseCode

CARD = MethodCard(name="my_method", summary="frames drawn at random as atoms; the k largest projections of each frame")
"""Read from the source, without importing it: every argument must be a literal."""


class MyMethod(Dictionary):
    """Centred training frames at norm 1 as atoms, TopK of the projections on them as the code."""

    name = CARD.name

    def __init__(self, width: int = 2048, k: int = 32, seed: int = 0) -> None:
        """`width`: atoms; `k`: of a frame's projections, so many are kept; `seed`: of the draw. They are stored as they come."""
        super().__init__()
        self.width = width
        self.k = k
        self.seed = seed

    def fit(self, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> Self:
        """Learn from frames. A method that learns by gradient descent subclasses `musae.training.GradientMethod` instead."""
        self.check_sizes()
        mean, drawn = frames.mean(), frames.sample(self.width, self.seed)
        atoms = functional.normalize(drawn - mean, dim=1)
        self.tensors = {"W_dec": atoms, "b_dec": mean}
        self.trained = {"frames": len(drawn), "store": frames.identity}
        return self.freeze()

    def encode(self, x: Tensor) -> SparseCode:
        projections = (self.checked(x) - self.bias) @ self.atoms.T
        values, indices = projections.relu().topk(min(self.k, self.width), dim=1)
        return SparseCode.from_topk(values, indices, self.width)


METHOD = MyMethod
