"""The control: a TopK autoencoder whose atoms are random and stay so; encoder and biases are trained.

After "Sanity Checks for Sparse Autoencoders" (arXiv 2602.14111), where such dictionaries come close to trained ones on common
benchmarks: what a score owes to directions that were learnt is what lies above this row.
"""

from __future__ import annotations

from musae.card import MethodCard
from musae.methods.topk import Topk

CARD = MethodCard(
    name="frozen_decoder",
    summary="control: TopK with random atoms that are never trained",
    paper="arXiv 2602.14111",
    role="control",
)


class FrozenDecoder(Topk):
    """`Topk` with ``W_dec`` as it was drawn."""

    name = CARD.name
    fixed = ("W_dec",)


METHOD = FrozenDecoder
