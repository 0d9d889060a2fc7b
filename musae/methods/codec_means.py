"""Baseline: visible codewords with their causal means, over the last second and over the clip so far.

What a model could know of the past by averaging alone. A mean over frames that lie before the clip is a mean over fewer frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

from musae.card import MethodCard
from musae.dictionary import FeatureSet

CARD = MethodCard(
    name="codec_means",
    summary="codewords of the tokens visible at the step, their means over the last second and over the clip so far",
    role="baseline",
    seeded=False,
    features="codec_means",
)


class CodecMeans(FeatureSet):
    """For each step: its codewords, their mean over the last `window` steps (itself included), and over all steps so far."""

    name = CARD.name
    context = "causal"
    source = "tokens"

    def __init__(self, columns: int, window: int = 25) -> None:
        """`columns`: codebooks times codeword width; `window`: steps of the short mean, 1 s at nano's 25 steps a second."""
        self.columns = columns
        self.window = window
        self.width = 3 * columns

    @property
    def inputs(self) -> int:
        return self.columns

    def encode(self, x: Tensor) -> Tensor:
        x = self.checked(x)
        sums = x.cumsum(1, dtype=torch.float64)
        steps = torch.arange(1, x.shape[1] + 1, device=x.device).unsqueeze(1)
        recent = sums.clone()
        recent[:, self.window :] -= sums[:, : -self.window]
        means = (recent / steps.clamp(max=self.window), sums / steps)
        return torch.cat([x, *(mean.to(x.dtype) for mean in means)], dim=2).flatten(0, 1)


METHOD = CodecMeans
