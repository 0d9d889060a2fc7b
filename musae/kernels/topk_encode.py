"""``topk_encode``: the k largest latents of ``ReLU(x W_enc^T + b_enc)``, without ever storing the dense code.

``x [n, d]``, ``W_enc [F, d]``, ``b_enc [F]`` -> ``values [n, k]``, ``indices [n, k]`` (int64), by falling value; of equal values
the lower index comes first. An entry that ReLU makes 0 is no latent: a frame with fewer than k positive entries ends in empty
slots, value 0 and index 0, which carry no gradient.

The fast path works through chunks of frames whose pre-activations stay in cache. Selection is exact in two stages: the k largest
lie in the k groups of latents with the largest maxima. One entry more than k is looked at: where those k + 1 fall strictly, they
have one answer; a frame with equals among them (rare for real-valued inputs) is sorted in full, stably.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from musae.kernels.op import Op, Shape, check_tensors, dyadic
from musae.kernels.transposed import Transposed, gather_sum

CHUNK = 256
"""Frames whose dense code exists at one time: 2 MB at F = 2,048, so that it stays in a core's cache."""


def topk_encode(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and indices ``[n, k]``; differentiable in x, W_enc and b_enc. Raises UserError for bad k, dtypes or devices."""
    check_tensors("topk_encode", k, W_enc.shape[0], x=x, W_enc=W_enc, b_enc=b_enc)
    values, indices = _TopkEncode.apply(x, W_enc, b_enc, k)  # type: ignore[no-untyped-call]
    return values, indices


def reference(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The definition."""
    values, indices = torch.relu(x @ W_enc.T + b_enc).sort(dim=1, descending=True, stable=True)
    values, indices = values[:, :k], indices[:, :k]
    return values, indices.masked_fill(values == 0, 0)


def select(h: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row of ``h [c, F]``, h >= 0, as `topk_encode` orders them."""
    more = min(k + 1, h.shape[1])
    values, indices = _largest(h, more)
    equal = ((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > 0)).any(1)
    values, indices = values[:, :k], indices[:, :k]
    if bool(equal.any()):
        exact = h[equal].sort(dim=1, descending=True, stable=True)
        values[equal], indices[equal] = exact.values[:, :k], exact.indices[:, :k]
    return values, indices.masked_fill_(values == 0, 0)


def _largest(h: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`torch.topk`, in two stages where that is less work: group j holds the columns j, j + G, j + 2 G, ..."""
    width = h.shape[1]
    size = next((size for size in (16, 8, 4) if width % size == 0 and size * size * k <= 2 * width), 1)
    if size == 1:
        return h.topk(k)
    groups = width // size
    best = h.view(-1, size, groups).amax(1).topk(k, sorted=False).indices
    columns = (best.unsqueeze(1) + torch.arange(0, width, groups, device=h.device).view(1, size, 1)).flatten(1)
    values, places = h.gather(1, columns).topk(k)
    return values, columns.gather(1, places)


def _activations(x: Tensor, W_enc: Tensor, b_enc: Tensor) -> Tensor:
    """Dense ``ReLU(x W_enc^T + b_enc)`` of one chunk; by oneDNN where it is there, at twice the speed of `mm` on AMD."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        h: Tensor = torch.ops.mkldnn._linear_pointwise(x, W_enc, b_enc, "relu", [], "")
        return h
    return functional.linear(x, W_enc, b_enc).relu_()


class _TopkEncode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor]:
        x, W_enc = x.contiguous(), W_enc.contiguous()
        values = x.new_empty(x.shape[0], k)
        indices = torch.empty(x.shape[0], k, dtype=torch.int64, device=x.device)
        for start in range(0, x.shape[0], CHUNK):
            rows = slice(start, start + CHUNK)
            values[rows], indices[rows] = select(_activations(x[rows], W_enc, b_enc), k)
        ctx.save_for_backward(x, W_enc, values, indices)
        ctx.mark_non_differentiable(indices)
        return values, indices

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, W_enc, values, indices = ctx.saved_tensors
        through = upstream[0] * (values > 0)
        dx = gather_sum(through, indices, W_enc) if ctx.needs_input_grad[0] else None
        if not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
            return dx, None, None, None
        by_latent = Transposed.of(indices, W_enc.shape[0])
        return dx, by_latent.outer(through, x), by_latent.total(through), None


def _inputs(shape: Shape, dtype: torch.dtype, device: torch.device, seed: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((shape.n, shape.d), (shape.width, shape.d), (shape.width,))
    return (*(dyadic(size, dtype, device, generator) for size in sizes), shape.k)


def _min_bytes(shape: Shape) -> int:
    return 4 * (shape.n * shape.d + shape.width * shape.d + shape.width) + 12 * shape.n * shape.k


OP = Op(
    name="topk_encode",
    fn=topk_encode,
    reference=reference,
    inputs=_inputs,
    tolerance={torch.float32: 1e-5, torch.float64: 1e-13},
    min_bytes=_min_bytes,
    configs=({"CHUNK": CHUNK},),
)
