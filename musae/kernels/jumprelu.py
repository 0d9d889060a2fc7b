"""``jumprelu``: latents above a threshold that is learnt by straight-through gradients.

After Rajamanoharan et al. 2024, "Jumping Ahead" (arXiv 2407.14435). With ``z = x W_enc^T + b_enc`` and thresholds ``theta [F]``:
``values = z H(z - theta)`` and ``l0 = sum_f H(z - theta)``, H the step. Where a pre-activation lies within half a bandwidth of
its threshold, the threshold learns (their equations for the pseudo-derivatives, with the rectangle kernel K of width 1):

    d value / d theta = -(theta / bandwidth) K((z - theta) / bandwidth)
    d l0    / d theta = -(1 / bandwidth)     K((z - theta) / bandwidth)

``values [n, s]``, ``indices [n, s]`` (int64), ``l0 [n]``. Slots hold every entry above ``theta - bandwidth / 2``, by falling z,
of equals the lower index first: those below their threshold have value 0, and are there to carry the threshold's gradient. s is
the most of a frame, at least 1.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from musae.errors import UserError
from musae.kernels import dispatch, factored
from musae.kernels.encoding import gradients
from musae.kernels.op import TOLERANCE, Op, Shape, dyadic, first_order
from musae.kernels.topk_encode import check_encoder, encoder_bytes
from musae.kernels.transposed import shared


def jumprelu(x: Tensor, W_enc: Tensor, b_enc: Tensor, threshold: Tensor, bandwidth: float) -> tuple[Tensor, Tensor, Tensor]:
    """Values and indices ``[n, s]`` and the number of active latents ``[n]`` (float).

    Differentiable in x, W_enc, b_enc and threshold.
    Raises UserError for a bandwidth that is not positive, and for bad shapes, dtypes or devices.
    """
    check_encoder("jumprelu", x, W_enc, b_enc, threshold=threshold)
    if not bandwidth > 0:
        raise UserError(f"jumprelu: bandwidth = {bandwidth} must be positive; the paper takes 0.001 for inputs of unit scale.")
    keep = factored.current()
    if keep and not keep.takes(W_enc):
        keep = None
    values, indices, l0 = _JumpReLU.apply(x, W_enc, b_enc, threshold, bandwidth, keep)  # type: ignore[no-untyped-call]
    return values, indices, l0


def reference(x: Tensor, W_enc: Tensor, b_enc: Tensor, threshold: Tensor, bandwidth: float) -> tuple[Tensor, Tensor, Tensor]:
    """The definition, over dense codes."""
    z = x @ W_enc.T + b_enc
    dense = _Jump.apply(z, threshold, bandwidth)  # type: ignore[no-untyped-call]
    active = _Step.apply(z, threshold, bandwidth)  # type: ignore[no-untyped-call]
    stored = z > threshold - bandwidth / 2
    slots = max(1, int(stored.sum(1).max()) if len(x) else 1)
    order = z.detach().masked_fill(~stored, -torch.inf).sort(dim=1, descending=True, stable=True).indices[:, :slots]
    there = stored.gather(1, order)
    return dense.gather(1, order) * there, order.masked_fill(~there, 0), active.sum(1)


class _JumpReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, W_enc: Tensor, b_enc: Tensor, threshold: Tensor, bandwidth: float, keep: factored.Factors | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.path, ctx.keep, ctx.parameter = dispatch.path_for(x), keep, id(W_enc)
        ctx.dtypes, ctx.bandwidth = (x.dtype, W_enc.dtype, b_enc.dtype, threshold.dtype), bandwidth
        x, W_enc = x.contiguous(), W_enc.to(x.dtype).contiguous()
        threshold = threshold.contiguous()
        z, indices = ctx.path.jumprelu(x, W_enc, b_enc.to(x.dtype).contiguous(), threshold, bandwidth / 2)
        threshold = threshold.to(z.dtype)
        active = z > threshold[indices]
        if any(ctx.needs_input_grad):  # now, while a forced path is known: backward may run in another thread
            ctx.sums = dispatch.sums(ctx.path, indices.shape[1], len(W_enc), x)
        ctx.save_for_backward(x, W_enc, threshold, z, indices)
        ctx.mark_non_differentiable(indices)
        return z.where(active, 0), indices, active.sum(1, dtype=z.dtype)

    @staticmethod
    @first_order
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, W_enc, threshold, z, indices = ctx.saved_tensors
        by_value, _, by_l0 = upstream
        theta = threshold[indices]
        kept = (z > -torch.inf).to(z.dtype)  # the slots that there are: in empty ones z is -inf, and all below is 0
        through = by_value * (z > theta)
        dthreshold = None
        if ctx.needs_input_grad[3]:
            band = (z - theta).abs() < ctx.bandwidth / 2
            pseudo = (theta * by_value + by_l0[:, None]).masked_fill_(~band, 0).div_(-ctx.bandwidth)
            by_latent = shared.of(ctx.path.transpose, indices, kept, len(W_enc))
            dthreshold = ctx.path.total(by_latent, pseudo).to(ctx.dtypes[3])
        return *gradients(ctx, x, W_enc, kept, indices, through), dthreshold, None, None


class _Jump(torch.autograd.Function):
    """``z H(z - theta)`` over dense ``[n, F]``, with its pseudo-derivative."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return z * (z > threshold)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None]:
        z, threshold = ctx.saved_tensors
        band = ((z - threshold) / ctx.bandwidth).abs() < 0.5
        return upstream[0] * (z > threshold), (-threshold / ctx.bandwidth * band * upstream[0]).sum(0), None


class _Step(torch.autograd.Function):
    """``H(z - theta)`` over dense ``[n, F]``, with its pseudo-derivative."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return (z > threshold).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, Tensor, None]:
        z, threshold = ctx.saved_tensors
        band = ((z - threshold) / ctx.bandwidth).abs() < 0.5
        return None, (-1 / ctx.bandwidth * band * upstream[0]).sum(0), None


def _inputs(shape: Shape, dtype: torch.dtype, device: torch.device, seed: int) -> tuple[Any, ...]:
    """Thresholds about the level that k of F pre-activations exceed, on a grid of which bfloat16 represents every point."""
    generator = torch.Generator().manual_seed(seed)
    sizes = ((shape.n, shape.d), (shape.width, shape.d), (shape.width,))
    x, W_enc, b_enc = (dyadic(size, dtype, device, generator) for size in sizes)
    deviation = 1.19**2 * shape.d**0.5  # of a sum of products of multiples of 1/8 between -2 and 2
    level = deviation * float(torch.special.ndtri(1 - torch.tensor(min(0.5, shape.k / shape.width))))
    step = 2.0 ** max(-2, math.ceil(math.log2(max(level, 1) / 64)))
    steps = max(1, round(level / step)) + torch.randint(0, 4, (shape.width,), generator=generator)
    return x, W_enc, b_enc, (steps * step).to(device, dtype), 4 * step


def _min_bytes(shape: Shape, itemsize: int) -> int:
    return encoder_bytes(shape, itemsize) + itemsize * shape.width + 4 * shape.n


OP = Op(
    name="jumprelu",
    fn=jumprelu,
    reference=reference,
    inputs=_inputs,
    tolerance=TOLERANCE,
    min_bytes=_min_bytes,
    rowwise=True,
)
