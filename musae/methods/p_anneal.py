"""ReLU sparse autoencoder under a p-norm that is annealed (Karvonen et al. 2024, "Measuring Progress in Dictionary Learning for
Language Model Interpretability with Board Game Models", arXiv 2408.00113).

``h = ReLU(W_enc z + b_enc)``, ``z_hat = W_dec^T h + b_dec``; the penalty is ``sum_f h_f^p``. p falls from 1, an L1 norm, that
finds directions but shrinks values, to 0.2, near an L0, that does not. Whenever p falls, the coefficient is multiplied by the
ratio of the penalties before and after, so that the penalty stays as strong as it was; `musae.penalty` steers it besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from musae import parallel
from musae.autoencoder import fired
from musae.card import MethodCard
from musae.dictionary import FrameSource
from musae.errors import UserError
from musae.frozen import HAIR
from musae.kernels.jumprelu import jumprelu
from musae.kernels.sparse_decode import sparse_decode
from musae.penalty import Penalised
from musae.recipe import Recipe

CARD = MethodCard(
    name="p_anneal",
    summary="ReLU sparse autoencoder whose penalty is annealed from an L1 norm towards an L0",
    paper="Karvonen et al. 2024, arXiv 2408.00113",
    configurations=9,
)

SMALL = 0.5
"""Added to values, in units of z, before they are raised to p: at 0 a power below 1 has no finite slope. Values are of the size
``sqrt(d / k)``, some 3. On planted data 0.1, 0.5 and 1 found atoms with an MCC of 0.66, 0.70 and 0.71; with 0.01, in a shorter
run, a quarter of the latents died."""


class PAnneal(Penalised):
    """A ReLU sparse autoencoder with p-annealing.

    Tried with learning rates 5e-3 and 1e-2 on planted data, and 1e-2 on nano's training activations. A small p drives what is
    small to 0, and whole latents with it: dead ones are resampled four times. p reaches its end when the learning rate begins to
    fall, not at the end of the run as in the paper, so that L0 can settle.
    """

    name = CARD.name
    rule = "relu"
    defaults = Recipe(batch_size=1024, learning_rate=1e-2, resample=4)

    def __init__(
        self, width: int = 2048, k: int = 32, seed: int = 0, p_end: float = 0.2, sparsity_warmup: float = 0.2, **recipe: Any
    ) -> None:
        """`p_end`: what p falls to, above 0 and at most 1; 0.2 is the paper's. The others: see `musae.penalty` and `Recipe`."""
        super().__init__(width, k, seed, sparsity_warmup, **recipe)
        if not 0 < p_end <= 1:
            raise UserError(f"{self.name}: p_end = {p_end!r} must lie above 0 and at most at 1; choose another.")
        self.p_end = p_end

    def start(self, frames: FrameSource) -> None:
        super().start(frames)
        self.buffers |= {"p": torch.ones((), dtype=torch.float64), "ratio": torch.ones(())}

    def opened(self, levels: Tensor) -> dict[str, Tensor]:
        return {"b_enc": -levels}

    @property
    def power(self) -> float:
        """p for this batch: 1 during the sparsity warm-up, falling evenly until the learning rate does, then `p_end`."""
        first, last = self.sparsity_warmup, 1 - self.recipe.decay
        done = (self.progress - first) / (last - first) if last > first else float(self.progress >= last)
        return 1 - (1 - self.p_end) * min(1.0, max(0.0, done))

    def objective(self, z: Tensor) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor]:
        p = self.parameters
        zero = torch.zeros_like(p["b_enc"])
        values, indices, _ = jumprelu(z, p["W_enc"], p["b_enc"], zero, HAIR)
        z_hat = sparse_decode(values, indices, p["W_dec"], p["b_dec"])
        active = fired(values, indices, self.width)
        before, now = float(self.buffers["p"]), self.power
        powers = (values + SMALL).pow(now) - SMALL**now
        if now != before:
            with torch.no_grad():
                old = ((values + SMALL).pow(before) - SMALL**before).sum()
                sums = parallel.add(torch.stack([old, powers.sum()]))
                if sums[1] > 0:  # a batch without an active latent says nothing of the penalty's strength
                    self.buffers["ratio"].mul_(sums[0] / sums[1])
                    self.buffers["p"].fill_(now)
        loss = functional.mse_loss(z_hat, z.float()) + self.coefficient * self.buffers["ratio"].clone() * powers.sum() / z.numel()
        return loss, {"l0": active.sum() / len(z), "p": z.new_tensor(now, dtype=torch.float32)}, z_hat, active


METHOD = PAnneal
