"""The control: a TopK autoencoder whose encoder is random and stays so; atoms and the decoder's bias are trained.

After "Sanity Checks for Sparse Autoencoders" (arXiv 2602.14111). Where `random` solves for its atoms in closed form, these are
trained as the method's are. Atoms may have any norm: an encoder that cannot learn the scale of its values leaves it to them.
"""

from __future__ import annotations

from dataclasses import replace

from musae.card import MethodCard
from musae.methods.topk import Topk

CARD = MethodCard(
    name="frozen_encoder",
    summary="control: TopK with a random encoder that is never trained",
    paper="arXiv 2602.14111",
    role="control",
)


class FrozenEncoder(Topk):
    """`Topk` with ``W_enc`` and ``b_enc`` as they were drawn. A latent that is dead stays dead, so there is no auxiliary loss."""

    name = CARD.name
    fixed = ("W_enc", "b_enc")
    unit_norm = ()
    defaults = replace(Topk.defaults, aux_weight=0.0)


METHOD = FrozenEncoder
