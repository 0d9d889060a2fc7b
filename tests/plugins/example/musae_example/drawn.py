"""Frames drawn at random as atoms; the k largest projections of each frame."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from torch import Tensor
from torch.nn import functional

from musae.card import MethodCard
from musae.dictionary import Dictionary, FrameSource, Report, SparseCode

CARD = MethodCard(name="drawn", summary="frames drawn at random as atoms")


class Drawn(Dictionary):
    name = CARD.name

    def __init__(self, width: int = 2048, k: int = 32, seed: int = 0) -> None:
        super().__init__()
        self.width, self.k, self.seed = width, k, seed

    def fit(self, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> Self:
        self.check_sizes()
        drawn = frames.sample(self.width, self.seed)
        self.tensors = {"W_dec": functional.normalize(drawn - frames.mean(), dim=1), "b_dec": frames.mean()}
        self.trained = {"frames": len(drawn), "store": frames.identity}
        return self.freeze()

    def encode(self, x: Tensor) -> SparseCode:
        projections = ((self.checked(x) - self.bias) @ self.atoms.T).relu()
        return SparseCode.from_topk(*projections.topk(self.k, dim=1), self.width)


METHOD = Drawn
