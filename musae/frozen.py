"""Frozen encoders: the rules by which a trained dictionary turns a frame into a sparse code, one function for all of them.

Shapes: ``x [n, d]``, ``W_enc [F, d]``, ``b_enc [F]``; a row of a weight belongs to a latent. With ``z = x W_enc^T + b_enc``:

| rule | value of a latent | tensors besides |
| --- | --- | --- |
| ``relu`` | ``max(z, 0)`` | |
| ``topk`` | the k largest of ``max(z, 0)`` in each frame | |
| ``jumprelu`` | ``max(z, 0)`` where ``z > threshold`` | ``threshold [F]`` |
| ``gated`` | ``max(exp(log_magnitude) y + magnitude_bias, 0)`` where ``y + gate_bias > 0`` | those three, each ``[F]`` |

``y = x W_enc^T``: a gated encoder has no ``b_enc``.

Methods that select over a batch (BatchTopK) are frozen to ``jumprelu`` with one threshold for all latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from musae.dictionary import SparseCode
from musae.kernels.jumprelu import jumprelu
from musae.kernels.topk_encode import topk_encode

Rule = Literal["relu", "topk", "jumprelu", "gated"]

TENSORS: Mapping[str, tuple[str, ...]] = {
    "relu": ("W_enc", "b_enc"),
    "topk": ("W_enc", "b_enc"),
    "jumprelu": ("W_enc", "b_enc", "threshold"),
    "gated": ("W_enc", "gate_bias", "log_magnitude", "magnitude_bias"),
}
"""What each rule reads."""

HAIR = 1e-30
"""A bandwidth for `jumprelu`, whose forward pass does not depend on it but for slots of value 0."""

ROWS = 8192
"""Frames at a time: a code without a fixed k is padded to its fullest frame until it is packed."""


@torch.no_grad()
def encode(x: Tensor, tensors: Mapping[str, Tensor], rule: Rule, k: int) -> SparseCode:
    """The code of frames by a rule; `k` matters for ``topk`` alone. Zeros are not stored."""
    parts = [_encode(rows, tensors, rule, k) for rows in torch.split(x, ROWS)] or [_encode(x, tensors, rule, k)]
    return parts[0] if len(parts) == 1 else SparseCode.concat(parts)


def _encode(x: Tensor, tensors: Mapping[str, Tensor], rule: Rule, k: int) -> SparseCode:
    W_enc = tensors["W_enc"]
    if rule == "topk":
        return SparseCode.from_topk(*topk_encode(x, W_enc, tensors["b_enc"], k), len(W_enc))
    bias = tensors["gate_bias" if rule == "gated" else "b_enc"]
    threshold = tensors["threshold"].clamp_min(0) if rule == "jumprelu" else torch.zeros_like(bias)
    values, indices, _ = jumprelu(x, W_enc, bias, threshold, HAIR)
    if rule == "gated":
        open_gate = values > 0
        magnitude = tensors["log_magnitude"].exp()[indices] * (values - bias[indices]) + tensors["magnitude_bias"][indices]
        values = magnitude.clamp_min(0) * open_gate
    return SparseCode.from_topk(values, indices, len(W_enc))
