"""The control: a TopK autoencoder of a generator that never heard music.

Trained and scored like ``topk``, on the stream of the same architecture with random weights, run over the same tokens. What a
score reads here was in the tokens already, and needs no generator that learnt anything ("Sparse autoencoders on random
transformers", arXiv 2501.17727). Its rows stand beside those of the trained generator, whose revision they bear; their
provenance names the generator that was read.
"""

from __future__ import annotations

from musae.card import MethodCard
from musae.methods.topk import Topk

CARD = MethodCard(
    name="untrained_generator",
    summary="control: TopK on the stream of the generator with random weights",
    paper="arXiv 2501.17727",
    role="control",
    stream="untrained",
    configurations=11,
)


class UntrainedGenerator(Topk):
    """`Topk`; its card says whose stream it is given."""

    name = CARD.name


METHOD = UntrainedGenerator
