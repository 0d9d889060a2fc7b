"""``batch_topk``: the n * k largest latents of a batch, so that frames share one budget.

As `topk_encode`, but the n * k largest entries of ``ReLU(x W_enc^T + b_enc)`` are taken over the whole batch (Bussmann, Leask and
Nanda 2024, "BatchTopK Sparse Autoencoders", arXiv 2412.06410). Of equal values at the cut the first by position stay: lower
frame, then lower latent. ``values`` and ``indices`` are ``[n, s]`` with s the largest number of latents in a frame (at least 1);
each frame's entries fall.

The result depends on the batch: a dictionary is evaluated with a frozen threshold instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from musae.kernels.encoding import encode
from musae.kernels.op import TOLERANCE, Op, check_k
from musae.kernels.topk_encode import check_encoder, encoder_bytes, encoder_inputs


def batch_topk(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and indices ``[n, s]``; differentiable in x, W_enc and b_enc.

    Raises UserError for bad k, shapes, dtypes or devices.
    """
    check_encoder("batch_topk", x, W_enc, b_enc)
    check_k("batch_topk", k, len(W_enc))
    return encode(x, W_enc, b_enc, lambda path, x, W_enc, b_enc: path.batch_topk(x, W_enc, b_enc, k))


def reference(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The definition."""
    h = torch.relu(x @ W_enc.T + b_enc)
    chosen = h.flatten().sort(descending=True, stable=True).indices[: len(x) * k]
    kept = torch.zeros_like(h, dtype=torch.bool).flatten().index_fill(0, chosen, True).view_as(h) & (h > 0)
    slots = max(1, int(kept.sum(1).max()) if len(x) else 1)
    values, indices = (h * kept).sort(dim=1, descending=True, stable=True)
    values, indices = values[:, :slots], indices[:, :slots]
    return values, indices.masked_fill(values == 0, 0)


OP = Op(
    name="batch_topk",
    fn=batch_topk,
    reference=reference,
    inputs=encoder_inputs,
    tolerance=TOLERANCE,
    min_bytes=encoder_bytes,
)
