"""Baseline: the raw residual stream, one feature a dimension. What any dictionary of the layer could at best have read."""

from __future__ import annotations

from torch import Tensor

from musae.card import MethodCard
from musae.dictionary import FeatureSet

CARD = MethodCard(
    name="residual",
    summary="the raw residual stream itself",
    role="baseline",
    seeded=False,
    features="residual",
)


class Residual(FeatureSet):
    """The identity on the stream."""

    name = CARD.name

    def __init__(self, columns: int) -> None:
        """`columns`: width d of the stream."""
        self.columns = columns
        self.width = columns

    @property
    def inputs(self) -> int:
        return self.columns

    def encode(self, x: Tensor) -> Tensor:
        return self.checked(x)


METHOD = Residual
