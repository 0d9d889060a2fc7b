"""``sparse_decode``: a weighted sum of atoms for each frame, ``x_hat = sum_j values[:, j] * W_dec[indices[:, j]] + b_dec``.

``values [n, s]``, ``indices [n, s]`` (int64), ``W_dec [F, d]``, ``b_dec [d]`` -> ``[n, d]``, float32 (float64 for float64). A
slot of value 0 adds nothing, but its value has a gradient. The gradient of the atoms runs over the transposed code:
deterministic, no [n, s, d] temporary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from musae.errors import UserError
from musae.kernels import dispatch, factored
from musae.kernels.op import TOLERANCE, Op, Shape, check_shapes, check_tensors, dyadic, first_order
from musae.kernels.transposed import shared


def sparse_decode(values: Tensor, indices: Tensor, W_dec: Tensor, b_dec: Tensor) -> Tensor:
    """Reconstruction ``[n, d]``; differentiable in values, W_dec and b_dec.

    Raises UserError for indices that are no latents, and for bad shapes, dtypes or devices (on a GPU, where looking at indices
    would stall, wrong ones trip an assertion of the device).
    """
    check_tensors("sparse_decode", values=values, W_dec=W_dec, b_dec=b_dec)
    d = W_dec.shape[-1] if W_dec.dim() else 0
    codes = {"values": (values, (None, None)), "indices": (indices, tuple(values.shape))}
    check_shapes("sparse_decode", **codes, W_dec=(W_dec, (None, d)), b_dec=(b_dec, (d,)))
    _check_indices(indices, W_dec)
    keep = factored.current()
    if keep and not keep.takes(W_dec):
        keep = None
    decoded: Tensor = _SparseDecode.apply(values, indices, W_dec, b_dec, keep)  # type: ignore[no-untyped-call]
    return decoded


def reference(values: Tensor, indices: Tensor, W_dec: Tensor, b_dec: Tensor) -> Tensor:
    """The definition."""
    return torch.einsum("nk,nkd->nd", values, W_dec[indices]) + b_dec


class _SparseDecode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, indices: Tensor, W_dec: Tensor, b_dec: Tensor, keep: factored.Factors | None) -> Tensor:
        ctx.path, ctx.keep, ctx.parameter = dispatch.path_for(W_dec), keep, id(W_dec)
        ctx.dtypes = values.dtype, W_dec.dtype, b_dec.dtype
        values, indices, W_dec = values.contiguous(), indices.contiguous(), W_dec.contiguous()
        ctx.save_for_backward(values, indices, W_dec)
        ctx.sums = dispatch.sums(ctx.path, indices.shape[1], len(W_dec), W_dec)
        decoded: Tensor = ctx.sums.gather_sum(values, indices, W_dec, b_dec)
        return decoded

    @staticmethod
    @first_order
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        values, indices, W_dec = ctx.saved_tensors
        g = upstream[0].contiguous()
        sums = ctx.sums
        dvalues = dW = None
        if ctx.needs_input_grad[0]:
            dvalues, db = sums.dots_and_sum(g, indices, W_dec, ctx.dtypes[0])
        else:
            db = g.sum(0)
        if ctx.needs_input_grad[2]:
            by_latent = shared.of(ctx.path.transpose, indices, values, len(W_dec))
            if ctx.keep and sums is ctx.path:
                ctx.keep.add(ctx.parameter, factored.Outer(by_latent, values, g))
            else:
                dW = sums.outer(by_latent, values, g, ctx.dtypes[1])
        return dvalues, None, dW, db.to(ctx.dtypes[2]) if ctx.needs_input_grad[3] else None, None


def _check_indices(indices: Tensor, W_dec: Tensor) -> None:
    if indices.dtype != torch.int64 or indices.device != W_dec.device:
        raise UserError(f"sparse_decode: indices are {indices.dtype} on {indices.device}; give int64 on {W_dec.device}.")
    if indices.numel() == 0:
        return
    low, high = indices.aminmax()
    if indices.is_cuda:
        torch._assert_async((low >= 0) & (high < len(W_dec)))
    elif int(low) < 0 or int(high) >= len(W_dec):
        worst = int(low) if int(low) < 0 else int(high)
        raise UserError(f"sparse_decode: index {worst} is no latent of {len(W_dec)}; give indices from 0 to {len(W_dec) - 1}.")


def _inputs(shape: Shape, dtype: torch.dtype, device: torch.device, seed: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(seed)
    indices = torch.rand(shape.n, shape.width, generator=generator).argsort(1)[:, : shape.k].contiguous().to(device)
    values, W_dec, b_dec = (
        dyadic(size, dtype, device, generator) for size in ((shape.n, shape.k), (shape.width, shape.d), (shape.d,))
    )
    return values, indices, W_dec, b_dec


def _min_bytes(shape: Shape, itemsize: int) -> int:
    atoms = min(shape.width, shape.n * shape.k)
    return (itemsize + 8) * shape.n * shape.k + itemsize * (atoms + 1) * shape.d + 4 * shape.n * shape.d


OP = Op(
    name="sparse_decode",
    fn=sparse_decode,
    reference=reference,
    inputs=_inputs,
    tolerance=TOLERANCE,
    min_bytes=_min_bytes,
    rowwise=True,
)
