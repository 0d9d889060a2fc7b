"""JumpReLU sparse autoencoder (Rajamanoharan et al. 2024, "Jumping Ahead", arXiv 2407.14435).

With ``pi = W_enc z + b_enc`` and thresholds ``theta = exp(SPEED * log_threshold)``: ``h = pi H(pi - theta)``, H the step, and
``z_hat = W_dec^T h + b_dec``. The penalty is L0 itself. Thresholds alone learn from it, and from what they cost the
reconstruction, by straight-through gradients (`musae.kernels.jumprelu`). `musae.penalty` steers the coefficient, in place of
the paper's fixed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from musae.autoencoder import fired
from musae.card import MethodCard
from musae.errors import UserError
from musae.kernels.jumprelu import jumprelu
from musae.kernels.sparse_decode import sparse_decode
from musae.penalty import Penalised
from musae.recipe import Recipe

CARD = MethodCard(
    name="jumprelu",
    summary="JumpReLU sparse autoencoder: a threshold is learnt for each latent",
    paper="Rajamanoharan et al. 2024, arXiv 2407.14435",
    configurations=10,
)

LEAST = 1e-3
"""Least threshold at the start, in units of z."""
SPEED = 5.0
"""How much faster thresholds' logarithms learn than other parameters: Adam moves each by about the learning rate a step, and a
threshold has further to go than a weight."""


class JumpRelu(Penalised):
    """A JumpReLU sparse autoencoder.

    Tried on planted data (500 steps, width 1024, k 16): learning rates 5e-3 and 1e-2, and bandwidths 0.5, 1 and 2, by which atoms
    were found with an MCC of 0.76, 0.78 and 0.74. The coefficient of L0 is steered, as that of the other penalties is. The square
    of ``L0 / k - 1`` was tried in its place: with weight 1 L0 ended 3 % above k, with weight 5 at k, and the MCC at bandwidth 0.5
    was 0.75 and 0.73. A dead latent's pre-activations are below its threshold, but often positive, so that the auxiliary loss of
    `topk` reaches it; it has Gao et al.'s weight.
    """

    name = CARD.name
    rule = "jumprelu"
    defaults = Recipe(batch_size=1024, learning_rate=1e-2, aux_weight=1 / 32)

    def __init__(
        self,
        width: int = 2048,
        k: int = 32,
        seed: int = 0,
        bandwidth: float = 0.5,
        sparsity_warmup: float = 0.2,
        **recipe: Any,
    ) -> None:
        """`bandwidth`: of the straight-through gradients, in units of z, whose mean squared norm is d; thresholds are about 1.

        The paper's 0.001 is for frames of unit norm and a thousand times as many of them: a threshold learns only from what falls
        into its band. All that lies above the band's lower end is computed: 1 takes almost twice the time of 0.5, for atoms found
        a little better and no better an FVU on nano's activations. `sparsity_warmup`: see `musae.penalty.Penalised`; the others:
        see `GradientMethod`. Raises UserError for a bandwidth that is not positive.
        """
        super().__init__(width, k, seed, sparsity_warmup, **recipe)
        if not bandwidth > 0:
            raise UserError(f"{self.name}: bandwidth = {bandwidth!r} must be positive; choose another.")
        self.bandwidth = bandwidth

    def opened(self, levels: Tensor) -> dict[str, Tensor]:
        return {"b_enc": torch.zeros_like(levels), "log_threshold": levels.clamp_min(LEAST).log() / SPEED}

    @property
    def threshold(self) -> Tensor:
        """In units of z ``[F]``."""
        return (SPEED * self.parameters["log_threshold"]).exp()

    def objective(self, z: Tensor) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor]:
        p = self.parameters
        values, indices, l0 = jumprelu(z, p["W_enc"], p["b_enc"], self.threshold, self.bandwidth)
        z_hat = sparse_decode(values, indices, p["W_dec"], p["b_dec"])
        loss = functional.mse_loss(z_hat, z.float()) + self.coefficient * l0.mean() / z.shape[1]
        return loss, {"l0": l0.detach().mean()}, z_hat, fired(values, indices, self.width)

    def folded(self) -> dict[str, Tensor]:
        return {**super().folded(), "threshold": self.threshold.detach().double() / self.buffers["scale"].double()}


METHOD = JumpRelu
