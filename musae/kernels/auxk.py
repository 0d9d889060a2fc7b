"""``auxk``: the auxiliary loss of dead latents (Gao et al. 2024, arXiv 2406.04093, section A.2).

The k largest of the dead latents reconstruct what the living left over, and the loss is the squared error of that, relative to
the square of the leftover: ``mean((error - guess)^2) / mean(error^2)``. Its gradient reaches the dead latents' encoder as well as
their atoms: without the first they never come to life.

``x [n, d]``, ``error [n, d]``, ``W_enc [F, d]``, ``b_enc [F]``, ``W_dec [F, d]``, ``dead [m]`` (int64, ascending) -> a scalar.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from musae.kernels import dispatch
from musae.kernels.op import TOLERANCE, Op, Shape, accumulator, check_shapes, check_tensors, dyadic, first_order
from musae.kernels.sparse_decode import sparse_decode
from musae.kernels.topk_encode import check_encoder, check_latents, topk_encode

TINY = 1e-30
"""Keeps a leftover of 0 from dividing by zero."""


def auxk(x: Tensor, error: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, dead: Tensor, k: int) -> Tensor:
    """The loss; differentiable in x, error, W_enc, b_enc and W_dec; 0 without dead latents. With at most k of them all are taken.

    Raises UserError for bad shapes, dtypes or devices, and for dead latents that do not ascend.
    """
    check_encoder("auxk", x, W_enc, b_enc)
    check_tensors("auxk", x=x, error=error, W_dec=W_dec)
    check_latents("auxk", "dead", dead, W_enc)
    check_shapes("auxk", error=(error, tuple(x.shape)), W_dec=(W_dec, tuple(W_enc.shape)))
    if len(dead) == 0 or len(x) == 0:
        return x.new_zeros((), dtype=accumulator(x.dtype))
    if len(dead) <= k:  # nothing to select: dense is faster
        wide = accumulator(x.dtype)
        W, b, atoms = W_enc[dead].to(x.dtype).to(wide), b_enc[dead].to(x.dtype).to(wide), W_dec[dead].to(wide)
        guess = torch.relu(functional.linear(x.to(wide), W, b)) @ atoms
    else:
        values, indices = topk_encode(x, W_enc, b_enc, k, among=dead)
        guess = sparse_decode(values, indices, W_dec, torch.zeros_like(W_dec[0]))
    loss: Tensor = _RelativeError.apply(error, guess)  # type: ignore[no-untyped-call]
    return loss


def reference(x: Tensor, error: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, dead: Tensor, k: int) -> Tensor:
    """The definition."""
    if len(dead) == 0 or len(x) == 0:
        return x.new_zeros(())
    h = torch.relu(x @ W_enc[dead].T + b_enc[dead])
    values, places = h.sort(dim=1, descending=True, stable=True)
    kept = min(k, len(dead))
    guess = torch.einsum("nk,nkd->nd", values[:, :kept], W_dec[dead][places[:, :kept]])
    return (error - guess).square().mean() / error.square().mean().clamp_min(TINY)


class _RelativeError(torch.autograd.Function):
    """``mean((error - guess)^2) / mean(error^2)``: either pass reads error and guess once, on paths that can."""

    @staticmethod
    def forward(ctx: Any, error: Tensor, guess: Tensor) -> Tensor:
        ctx.path = dispatch.path_for(guess)
        means: Tensor = ctx.path.mean_squares(error, guess)
        ctx.save_for_backward(error, guess, means)
        return means[0] / means[1].clamp_min(TINY)

    @staticmethod
    @first_order
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor]:
        error, guess, means = ctx.saved_tensors
        square = means[1].clamp_min(TINY)
        by_guess = 2 * upstream[0] / (square * error.numel())
        by_square = torch.where(means[1] < TINY, 0, by_guess * (means[0] / square))  # what is clamped has no gradient
        factors = torch.stack([by_guess, by_square])
        gradients: tuple[Tensor | None, Tensor] = ctx.path.relative_gradients(error, guess, factors, ctx.needs_input_grad[0])
        return gradients


def _inputs(shape: Shape, dtype: torch.dtype, device: torch.device, seed: int) -> tuple[Any, ...]:
    """Every second latent is dead."""
    generator = torch.Generator().manual_seed(seed)
    sizes = ((shape.n, shape.d), (shape.n, shape.d), (shape.width, shape.d), (shape.width,), (shape.width, shape.d))
    x, error, W_enc, b_enc, W_dec = (dyadic(size, dtype, device, generator) for size in sizes)
    return x, error, W_enc, b_enc, W_dec / 8, torch.arange(0, shape.width, 2, device=device), shape.k


def _min_bytes(shape: Shape, itemsize: int) -> int:
    dead = (shape.width + 1) // 2
    return itemsize * (2 * shape.n * shape.d + 2 * dead * shape.d + dead) + 8 * dead + 4


OP = Op(
    name="auxk",
    fn=auxk,
    reference=reference,
    inputs=_inputs,
    tolerance=TOLERANCE,
    min_bytes=_min_bytes,
)
