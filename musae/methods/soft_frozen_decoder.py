"""The control: a TopK autoencoder whose atoms never leave the neighbourhood of their random start.

After "Sanity Checks for Sparse Autoencoders" (arXiv 2602.14111): the cosine of each atom to its initial direction stays at least
0.8. After each step an atom that has strayed is put back on the rim of its cone, at the nearest point.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

from musae.card import MethodCard
from musae.dictionary import FrameSource
from musae.errors import UserError
from musae.methods.topk import Topk

CARD = MethodCard(
    name="soft_frozen_decoder",
    summary="control: TopK with atoms that keep a cosine of 0.8 to their random start",
    paper="arXiv 2602.14111",
    role="control",
)


class SoftFrozenDecoder(Topk):
    """`Topk` with atoms in cones about their initial directions."""

    name = CARD.name

    def __init__(self, width: int = 2048, k: int = 32, seed: int = 0, cosine: float = 0.8, **recipe: Any) -> None:
        """`cosine`: least cosine of an atom to its start, between 0 and 1; the paper's 0.8. The rest as `Topk`."""
        super().__init__(width, k, seed, **recipe)
        if not 0 < cosine < 1:
            raise UserError(f"{self.name}: cosine = {cosine} must lie between 0 and 1; the paper takes 0.8.")
        self.cosine = cosine

    def start(self, frames: FrameSource) -> None:
        super().start(frames)
        self.buffers["anchor"] = self.parameters["W_dec"].clone()

    @torch.no_grad()
    def constrain(self) -> None:
        atoms, anchor = self.parameters["W_dec"], self.buffers["anchor"]
        cosine = (atoms * anchor).sum(1, keepdim=True)
        aside = functional.normalize(atoms - cosine * anchor, dim=1)
        rim = self.cosine * anchor + math.sqrt(1 - self.cosine**2) * aside
        atoms.copy_(torch.where(cosine < self.cosine, rim, atoms))


METHOD = SoftFrozenDecoder
