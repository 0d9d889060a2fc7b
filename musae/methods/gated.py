"""Gated sparse autoencoder (Rajamanoharan et al. 2024, "Improving Dictionary Learning with Gated SAEs", arXiv 2404.16014).

Which latents fire and how strongly is decided apart, by one set of directions: with ``pi = W_enc z``,

    gate      ``g = pi + gate_bias``                          opens where g > 0
    magnitude ``m = exp(log_magnitude) pi + magnitude_bias``
    code      ``h = ReLU(m) where g > 0``                     z_hat = W_dec^T h + b_dec

The step has no gradient, so the gate learns by two terms of its own: the penalty is the L1 norm of ``ReLU(g)``, and an auxiliary
reconstruction is decoded from ``ReLU(g)`` by the decoder as it is (no gradient reaches the decoder by it):

    ``||z - z_hat||^2 + ||z - W_dec^T ReLU(g) - b_dec||^2 + coefficient * sum_f ReLU(g_f)``, all over d, a mean over frames.

So the penalty shrinks the gates and not the code. `musae.penalty` steers the coefficient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from musae.autoencoder import fired
from musae.card import MethodCard
from musae.dictionary import FrameSource
from musae.frozen import HAIR
from musae.kernels.jumprelu import jumprelu
from musae.kernels.sparse_decode import sparse_decode
from musae.penalty import Penalised
from musae.recipe import Recipe

CARD = MethodCard(
    name="gated",
    summary="Gated sparse autoencoder: gates decide which latents fire, magnitudes how strongly",
    paper="Rajamanoharan et al. 2024, arXiv 2404.16014",
    configurations=5,
)


class Gated(Penalised):
    """A gated sparse autoencoder.

    Tried with learning rates 5e-3 and 1e-2 on planted data, and 1e-2 on nano's training activations. No latents are resampled by
    default: one in a hundred dies.
    """

    name = CARD.name
    rule = "gated"
    defaults = Recipe(batch_size=1024, learning_rate=1e-2)

    def __init__(self, width: int = 2048, k: int = 32, seed: int = 0, sparsity_warmup: float = 0.2, **recipe: Any) -> None:
        super().__init__(width, k, seed, sparsity_warmup, **recipe)

    def start(self, frames: FrameSource) -> None:
        super().start(frames)
        del self.parameters["b_enc"]

    def opened(self, levels: Tensor) -> dict[str, Tensor]:
        none = torch.zeros_like(levels)
        return {"gate_bias": -levels, "log_magnitude": none, "magnitude_bias": none.clone()}

    @property
    def encoder_bias(self) -> Tensor:
        return self.parameters["gate_bias"]

    def revived(self, z: Tensor, dead: Tensor, directions: Tensor) -> dict[str, Tensor]:
        rows = super().revived(z, dead, directions)
        del rows["b_enc"]
        return rows

    def objective(self, z: Tensor) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor]:
        p = self.parameters
        bias = p["gate_bias"].detach()
        above, indices, _ = jumprelu(z, p["W_enc"], bias, torch.zeros_like(bias), HAIR)
        open_gate = above > 0
        gate = above + (p["gate_bias"] - bias)[indices] * open_gate
        magnitude = p["log_magnitude"].exp()[indices] * (above - bias[indices]) + p["magnitude_bias"][indices]
        values = magnitude.clamp_min(0) * open_gate
        z_hat = sparse_decode(values, indices, p["W_dec"], p["b_dec"])
        by_gate = sparse_decode(gate, indices, p["W_dec"].detach(), p["b_dec"].detach())
        wide = z.float()
        loss = functional.mse_loss(z_hat, wide) + functional.mse_loss(by_gate, wide) + self.coefficient * gate.sum() / z.numel()
        active = fired(values, indices, self.width)
        return loss, {"l0": active.sum() / len(z)}, z_hat, active

    def folded(self) -> dict[str, Tensor]:
        p = {name: tensor.detach().double() for name, tensor in self.parameters.items()}
        centre, scale = self.buffers["centre"].double(), self.buffers["scale"].double()
        at_centre = p["W_enc"] @ centre
        return {
            "W_enc": p["W_enc"],
            "gate_bias": p["gate_bias"] / scale - at_centre,
            "log_magnitude": p["log_magnitude"],
            "magnitude_bias": p["magnitude_bias"] / scale - p["log_magnitude"].exp() * at_centre,
            "W_dec": p["W_dec"],
            "b_dec": p["b_dec"] / scale + centre,
        }


METHOD = Gated
