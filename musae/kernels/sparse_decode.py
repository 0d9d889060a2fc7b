"""``sparse_decode``: a weighted sum of atoms for each frame, ``x_hat = sum_j values[:, j] * W_dec[indices[:, j]] + b_dec``.

``values [n, k]``, ``indices [n, k]`` (int64), ``W_dec [F, d]``, ``b_dec [d]`` -> ``[n, d]``. A slot of value 0 adds nothing.
The gradient of the atoms runs over the transposed code: deterministic, no [n, k, d] temporary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from musae.kernels.op import Op, Shape, check_tensors, dyadic
from musae.kernels.transposed import Transposed, gather_dot, gather_sum


def sparse_decode(values: Tensor, indices: Tensor, W_dec: Tensor, b_dec: Tensor) -> Tensor:
    """Reconstruction ``[n, d]``; differentiable in values, W_dec and b_dec. Raises UserError for bad dtypes or devices."""
    check_tensors("sparse_decode", None, W_dec.shape[0], values=values, W_dec=W_dec, b_dec=b_dec)
    decoded: Tensor = _SparseDecode.apply(values, indices, W_dec, b_dec)  # type: ignore[no-untyped-call]
    return decoded


def reference(values: Tensor, indices: Tensor, W_dec: Tensor, b_dec: Tensor) -> Tensor:
    """The definition."""
    return torch.einsum("nk,nkd->nd", values, W_dec[indices]) + b_dec


class _SparseDecode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, indices: Tensor, W_dec: Tensor, b_dec: Tensor) -> Tensor:
        values, indices, W_dec = values.contiguous(), indices.contiguous(), W_dec.contiguous()
        ctx.save_for_backward(values, indices, W_dec)
        return gather_sum(values, indices, W_dec).add_(b_dec)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None]:
        values, indices, W_dec = ctx.saved_tensors
        g = upstream[0].contiguous()
        dvalues = gather_dot(g, indices, W_dec) if ctx.needs_input_grad[0] else None
        dW_dec = Transposed.of(indices, W_dec.shape[0]).outer(values, g) if ctx.needs_input_grad[2] else None
        return dvalues, None, dW_dec, g.sum(0) if ctx.needs_input_grad[3] else None


def _inputs(shape: Shape, dtype: torch.dtype, device: torch.device, seed: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(seed)
    indices = torch.rand(shape.n, shape.width, generator=generator).argsort(1)[:, : shape.k].contiguous().to(device)
    values, W_dec, b_dec = (
        dyadic(size, dtype, device, generator) for size in ((shape.n, shape.k), (shape.width, shape.d), (shape.d,))
    )
    return values, indices, W_dec, b_dec


def _min_bytes(shape: Shape) -> int:
    return 12 * shape.n * shape.k + 4 * (min(shape.width, shape.n * shape.k) * shape.d + shape.d + shape.n * shape.d)


OP = Op(
    name="sparse_decode",
    fn=sparse_decode,
    reference=reference,
    inputs=_inputs,
    tolerance={torch.float32: 1e-5, torch.float64: 1e-13},
    min_bytes=_min_bytes,
)
