"""Baseline: the codewords of exactly the tokens that a step has newly read. What the stream knows without any context."""

from __future__ import annotations

from torch import Tensor

from musae.card import MethodCard
from musae.dictionary import FeatureSet

CARD = MethodCard(
    name="codec_step",
    summary="codewords of the tokens visible at the step",
    role="baseline",
    seeded=False,
    features="codec_step",
)


class CodecStep(FeatureSet):
    """The identity on the generator's `visible` codewords."""

    name = CARD.name
    source = "tokens"

    def __init__(self, columns: int) -> None:
        """`columns`: codebooks times codeword width, the last axis of the generator's `visible`."""
        self.columns = columns
        self.width = columns

    @property
    def inputs(self) -> int:
        return self.columns

    def encode(self, x: Tensor) -> Tensor:
        return self.checked(x)


METHOD = CodecStep
