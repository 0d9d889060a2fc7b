"""ReLU sparse autoencoder with an L1 penalty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from musae.autoencoder import fired
from musae.card import MethodCard
from musae.errors import UserError
from musae.frozen import HAIR
from musae.kernels.auxk import TINY
from musae.kernels.jumprelu import jumprelu
from musae.kernels.sparse_decode import sparse_decode
from musae.penalty import Penalised
from musae.recipe import Recipe

CARD = MethodCard(
    name="relu",
    summary="ReLU sparse autoencoder with an L1 penalty",
    paper="Bricken et al. 2023",
    configurations=1,
)


class Relu(Penalised):
    name = CARD.name
    rule = "relu"
    defaults = Recipe(batch_size=1024, learning_rate=5e-3)

    def __init__(
        self,
        width: int = 2048,
        k: int = 32,
        seed: int = 0,
        penalty: Literal["unit_norm", "decoder_norm"] = "unit_norm",
        sparsity_warmup: float = 0.2,
        **recipe: Any,
    ) -> None:
        super().__init__(width, k, seed, sparsity_warmup, **recipe)
        if penalty not in ("unit_norm", "decoder_norm"):
            raise UserError(f"{self.name}: penalty = {penalty!r} must be 'unit_norm' or 'decoder_norm'; choose one of them.")
        self.penalty = penalty
        if penalty == "decoder_norm":
            self.unit_norm = ()

    def opened(self, levels: Tensor) -> dict[str, Tensor]:
        return {"b_enc": -levels}

    def objective(self, z: Tensor) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor]:
        p = self.parameters
        zero = torch.zeros_like(p["b_enc"])
        values, indices, _ = jumprelu(z, p["W_enc"], p["b_enc"], zero, HAIR)
        z_hat = sparse_decode(values, indices, p["W_dec"], p["b_dec"])
        weights = values if self.penalty == "unit_norm" else values * p["W_dec"].norm(dim=1)[indices]
        active = fired(values, indices, self.width)
        loss = functional.mse_loss(z_hat, z.float()) + self.coefficient * weights.sum() / z.numel()
        return loss, {"l0": active.sum() / len(z)}, z_hat, active

    def folded(self) -> dict[str, Tensor]:
        """Lengths of free atoms go into the encoder, so that atoms have norm 1."""
        tensors = super().folded()
        if self.penalty == "decoder_norm":
            norms = tensors["W_dec"].norm(dim=1).clamp_min(TINY)
            tensors |= {
                "W_enc": tensors["W_enc"] * norms[:, None],
                "b_enc": tensors["b_enc"] * norms,
                "W_dec": tensors["W_dec"] / norms[:, None],
            }
        return tensors


METHOD = Relu
