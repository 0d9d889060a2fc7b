"""ReLU sparse autoencoder with an L1 penalty, in the two forms that are in use.

``h = ReLU(W_enc z + b_enc)``, ``z_hat = W_dec^T h + b_dec``. The penalty is

- ``unit_norm``: ``sum_f h_f``, with atoms of norm 1 (Bricken et al. 2023, "Towards Monosemanticity", Transformer Circuits);
- ``decoder_norm``: ``sum_f h_f ||W_dec,f||``, with atoms of any norm (Conerly et al. 2024, "Update on how we train SAEs",
  Transformer Circuits, April). Norms are folded into the encoder when the dictionary is frozen: its atoms have norm 1, too.

`musae.penalty` steers the coefficient. ReLU is computed as a JumpReLU of threshold 0, so that codes stay sparse.
"""

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
    paper="Bricken et al. 2023, Towards Monosemanticity; Conerly et al. 2024, Update on how we train SAEs",
    configurations=9,
)


class Relu(Penalised):
    """A ReLU sparse autoencoder.

    The learning rate was chosen on planted data among 2e-3, 5e-3, 1e-2 and 2e-2 (250 steps, width 1024, k 16: FVU 0.64, 0.51,
    0.39, 0.33; the last let a fifth of the latents die), and tried on nano's training activations at 1e-2. No latents are
    resampled by default: of nano's latents one in a hundred dies, and on planted data resampling changed nothing.
    """

    name = CARD.name
    rule = "relu"
    defaults = Recipe(batch_size=1024, learning_rate=1e-2)

    def __init__(
        self,
        width: int = 2048,
        k: int = 32,
        seed: int = 0,
        penalty: Literal["unit_norm", "decoder_norm"] = "unit_norm",
        sparsity_warmup: float = 0.2,
        **recipe: Any,
    ) -> None:
        """`penalty`: ``unit_norm``, the form that most papers compare with, or ``decoder_norm``; see above.

        `sparsity_warmup`: see `musae.penalty.Penalised`; the others: see `GradientMethod`. Raises UserError for another penalty.
        """
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
