"""The control: a trained TopK autoencoder whose latents write each other's atoms.

Trained like ``topk``, codes and all; when it is frozen, the rows of the decoder are permuted so that none stays in its place.
Scores that read codes alone, like sparse probing, cannot tell it from ``topk`` ("Are SAE Benchmarks Reliable?", arXiv
2605.18229); one that reads atoms or reconstructions must, or it does not measure what it says.
"""

from __future__ import annotations

import torch
from torch import Tensor

from musae.card import MethodCard
from musae.dictionary import generator
from musae.methods.topk import Topk

CARD = MethodCard(
    name="permuted_decoder",
    summary="control: TopK whose atoms are permuted among its latents after training",
    paper="arXiv 2605.18229",
    role="control",
    configurations=11,
)


class PermutedDecoder(Topk):
    """`Topk` with the rows of ``W_dec`` deranged."""

    name = CARD.name

    def folded(self) -> dict[str, Tensor]:
        tensors = super().folded()
        return tensors | {"W_dec": tensors["W_dec"][derangement(self.width, self.seed)]}


def derangement(n: int, seed: int) -> Tensor:
    """A random permutation of 0 to n - 1 (n > 1) without a fixed point, int64 ``[n]``: one cycle through a random order."""
    order = torch.randperm(n, generator=generator("derangement", seed))
    return torch.empty_like(order).index_copy_(0, order, order.roll(1))


METHOD = PermutedDecoder
