"""Matryoshka sparse autoencoder (Bussmann et al. 2025, "Learning Multi-Level Features with Matryoshka Sparse Autoencoders",
arXiv 2503.17547).

The latents are cut into groups, and every prefix of groups has to reconstruct the frame without the later ones:
``z_hat_m = sum of W_dec_f h_f over f < F_m, + b_dec`` for the nested sizes ``F_1 < ... < F_M = F``. The loss is the mean of the
squared errors of all prefixes (the paper's sum, divided by their number, so that the auxiliary loss keeps its weight beside it).
So general features gather in the first latents, and need not be split up or absorbed by more specific ones. The code is that of
BatchTopK over all latents, and so is the frozen threshold (`musae.batch_budget`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from musae.autoencoder import fired
from musae.batch_budget import BatchBudget
from musae.card import MethodCard
from musae.errors import UserError
from musae.recipe import Recipe

CARD = MethodCard(
    name="matryoshka",
    summary="BatchTopK sparse autoencoder whose nested prefixes of latents each reconstruct the frame",
    paper="Bussmann et al. 2025, arXiv 2503.17547",
    configurations=1,
)


class Matryoshka(BatchBudget):
    """A Matryoshka sparse autoencoder.

    The learning rate is that of `topk`, the only one that was tried: on nano's training activations (width 2048, k 32, 1.05 M
    frames, 1 epoch) FVU on training pieces set aside was 0.240, and 0.41 for the first 128 latents alone, in training.
    """

    name = CARD.name
    defaults = Recipe(batch_size=1024, learning_rate=5e-3, aux_weight=1 / 32)

    def __init__(
        self,
        width: int = 2048,
        k: int = 32,
        seed: int = 0,
        prefixes: Sequence[float] = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1),
        **recipe: Any,
    ) -> None:
        """`width`, `k`, `seed`, `recipe`: see `GradientMethod`.

        `prefixes`: shares of the latents that reconstruct by themselves, rising, the last one 1; each is rounded up to whole
        latents. Halving from all latents down to a sixteenth follows the paper, whose five prefixes grow by powers of two.
        """
        super().__init__(width, k, seed, **recipe)
        self.prefixes = prefixes
        shares = tuple(prefixes)
        numbers = all(isinstance(share, int | float) for share in shares)
        if not numbers or shares[-1:] != (1,) or any(a >= b for a, b in pairwise((0, *shares))):
            raise UserError(f"{self.name}: prefixes = {prefixes!r} must rise from above 0 to 1, as (0.25, 0.5, 1) does.")

    def config(self) -> dict[str, Any]:
        return super().config() | {"prefixes": list(self.prefixes)}

    def sizes(self) -> list[int]:
        """Latents of each prefix: rising, without repetitions, the last one the width."""
        return sorted({-int(-self.width * share // 1) for share in self.prefixes})

    def objective(self, z: Tensor) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor]:
        values, indices, smallest = self.select(z)
        z_hat, errors = self.nested(z, values, indices, self.sizes())
        active = fired(values, indices, self.width)
        first = errors[0].detach() / z.float().var(0, correction=0).mean()
        figures = {"l0": active.sum() / len(z), "threshold": smallest, "fvu_first": first}
        return errors.mean(), figures, z_hat, active


METHOD = Matryoshka
