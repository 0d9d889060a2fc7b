"""BatchTopK sparse autoencoder (Bussmann, Leask and Nanda 2024, "BatchTopK Sparse Autoencoders", arXiv 2412.06410).

``h = BatchTopK(ReLU(W_enc z + b_enc))`` keeps the n * k largest values of a batch of n frames, so that a frame takes as many
latents as it needs; ``z_hat = W_dec^T h + b_dec``. The loss is the mean squared error, with the auxiliary loss of dead latents of
`topk` (Gao et al. 2024, section A.2). `musae.batch_budget` says how the selection is shared and how it becomes a threshold.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from musae.autoencoder import fired
from musae.batch_budget import BatchBudget
from musae.card import MethodCard
from musae.kernels.sparse_decode import sparse_decode
from musae.recipe import Recipe

CARD = MethodCard(
    name="batch_topk",
    summary="BatchTopK sparse autoencoder: frames share a budget, frozen to one threshold",
    paper="Bussmann et al. 2024, arXiv 2412.06410",
    configurations=1,
)


class BatchTopk(BatchBudget):
    """A BatchTopK sparse autoencoder."""

    name = CARD.name
    defaults = Recipe(batch_size=1024, learning_rate=5e-3, aux_weight=1 / 32)

    def objective(self, z: Tensor) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor]:
        p = self.parameters
        values, indices, smallest = self.select(z)
        z_hat = sparse_decode(values, indices, p["W_dec"], p["b_dec"])
        active = fired(values, indices, self.width)
        return functional.mse_loss(z_hat, z.float()), {"l0": active.sum() / len(z), "threshold": smallest}, z_hat, active


METHOD = BatchTopk
