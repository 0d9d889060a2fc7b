"""What the encoders have in common: the gradients through a sparse code, and how weights meet frames of another dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from musae.kernels import dispatch, factored
from musae.kernels.dispatch import Path
from musae.kernels.op import first_order
from musae.kernels.transposed import shared

Find = Callable[[Path, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From a path, frames, weights and biases to values and indices ``[n, s]``."""


def encode(x: Tensor, W_enc: Tensor, b_enc: Tensor, find: Find) -> tuple[Tensor, Tensor]:
    """The code that `find` selects, differentiable in x, W_enc and b_enc where its values are positive."""
    keep = factored.current()
    if keep and not keep.takes(W_enc):
        keep = None
    values, indices = _Encode.apply(x, W_enc, b_enc, find, keep)  # type: ignore[no-untyped-call]
    return values, indices


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, W_enc: Tensor, b_enc: Tensor, find: Find, keep: factored.Factors | None
    ) -> tuple[Tensor, Tensor]:
        ctx.path, ctx.keep, ctx.parameter = dispatch.path_for(x), keep, id(W_enc)
        ctx.dtypes = x.dtype, W_enc.dtype, b_enc.dtype
        x, W_enc = x.contiguous(), W_enc.to(x.dtype).contiguous()
        values, indices = find(ctx.path, x, W_enc, b_enc.to(x.dtype).contiguous())
        if any(ctx.needs_input_grad):  # now, while a forced path is known: backward may run in another thread
            ctx.sums = dispatch.sums(ctx.path, indices.shape[1], len(W_enc), x)
        ctx.save_for_backward(x, W_enc, values, indices)
        ctx.mark_non_differentiable(indices)
        return values, indices

    @staticmethod
    @first_order
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, W_enc, values, indices = ctx.saved_tensors
        through = upstream[0] * (values > 0)
        return *gradients(ctx, x, W_enc, values, indices, through), None, None


def gradients(
    ctx: Any, x: Tensor, W_enc: Tensor, kept: Tensor, indices: Tensor, through: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of frames, weights and biases from those of the pre-activations, ``through [n, s]``.

    `kept` tells, by not being 0, which slots there are; ``through`` is 0 in the others.
    """
    sums = ctx.sums
    dx = dW = db = None
    if ctx.needs_input_grad[0]:
        dx = sums.gather_sum(through, indices, W_enc, dtype=ctx.dtypes[0])
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        by_latent = shared.of(ctx.path.transpose, indices, kept, len(W_enc))
        db = ctx.path.total(by_latent, through).to(ctx.dtypes[2])
        if ctx.keep and ctx.needs_input_grad[1] and sums is ctx.path:
            ctx.keep.add(ctx.parameter, factored.Outer(by_latent, through, x))
        elif ctx.needs_input_grad[1]:
            dW = sums.outer(by_latent, through, x, ctx.dtypes[1])
    return dx, dW, db
