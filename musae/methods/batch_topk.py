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
    configurations=3,
)


class BatchTopk(BatchBudget):
    """A BatchTopK sparse autoencoder.

    Three learning rates were tried on nano's training activations (width 2048, k 32, 1.05 M frames, 1 epoch): FVU on training
    pieces set aside was 0.250 at 3e-3, 0.234 at 5e-3 and 0.226 at 8e-3, where 2 % of the latents were silent; on planted atoms
    8e-3 found more than 5e-3, too. Larger ones and other options were not tried. The auxiliary loss is that of `topk`.
    """

    name = CARD.name
    defaults = Recipe(batch_size=1024, learning_rate=8e-3, aux_weight=1 / 32)

    def objective(self, z: Tensor) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor]:
        p = self.parameters
        values, indices, smallest = self.select(z)
        z_hat = sparse_decode(values, indices, p["W_dec"], p["b_dec"])
        active = fired(values, indices, self.width)
        return functional.mse_loss(z_hat, z.float()), {"l0": active.sum() / len(z), "threshold": smallest}, z_hat, active


METHOD = BatchTopk
