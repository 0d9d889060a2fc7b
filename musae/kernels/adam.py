"""``adam``: one dense Adam step in place, then the projection of atoms to unit norm.

The update is that of `torch.optim.Adam` without weight decay (Kingma & Ba 2015, arXiv 1412.6980): dense, so the moments of
silent rows decay too (updating active rows only is another function).

With `unit_norm` the rows are atoms of norm 1. Their loss is to be minimised on the sphere, so the part of the gradient along an
atom, which the projection undoes, is removed first: left in, it would fill Adam's second moment and shrink the steps that count
(Bricken et al. 2023, "Towards Monosemanticity", appendix; SAELens and dictionary_learning do the same).

A weight gradient may be given by its factors (`musae.kernels.factored`): it is then summed while the row is updated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from musae.errors import UserError
from musae.kernels import dispatch
from musae.kernels.factored import Outer
from musae.kernels.op import Op, Shape, accumulator, check_shapes, check_tensors, dyadic
from musae.kernels.portable import BETAS, EPS


def adam(
    param: Tensor,
    grad: Tensor | Outer | Sequence[Outer],
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: int,
    lr: float,
    unit_norm: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Update parameter and both moments in place, in the `step`-th step (1 for the first), and return them.

    Master weights and moments are float32 (or float64), ``[F, d]`` or ``[F]``; `grad` has the parameter's shape, or is a factored
    one, or several. Raises UserError for bad shapes, dtypes or devices.
    """
    if step < 1:
        raise UserError(f"adam: step = {step} must count from 1: its bias correction divides by zero before.")
    if not isinstance(grad, Tensor):
        factors = [grad] if isinstance(grad, Outer) else list(grad)
        if len(factors) == 1:
            return _adam_outer(param, factors[0], exp_avg, exp_avg_sq, step, lr, unit_norm)
        for f in factors:
            _check_factors(param, f)
        path = dispatch.path_for(param)
        grad = sum_of([path.outer(f.transposed, f.weights, f.rows, param.dtype) for f in factors])
    check_tensors("adam", param=param, grad=grad, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq)
    _check_state(param, exp_avg, exp_avg_sq, unit_norm, grad=grad)
    dispatch.path_for(param).adam(param, grad.contiguous(), exp_avg, exp_avg_sq, step, lr, unit_norm)
    return param, exp_avg, exp_avg_sq


def reference(
    param: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, step: int, lr: float, unit_norm: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The definition; changes none of its arguments."""
    if unit_norm:
        grad = grad - param * (param * grad).sum(1, keepdim=True)
    exp_avg = BETAS[0] * exp_avg + (1 - BETAS[0]) * grad
    exp_avg_sq = BETAS[1] * exp_avg_sq + (1 - BETAS[1]) * grad**2
    mean, square = exp_avg / (1 - BETAS[0] ** step), exp_avg_sq / (1 - BETAS[1] ** step)
    param = param - lr * mean / (square.sqrt() + EPS)
    return (param / param.norm(dim=1, keepdim=True) if unit_norm else param), exp_avg, exp_avg_sq


def sum_of(gradients: Sequence[Tensor]) -> Tensor:
    """The sum of one or more gradients, in the order given."""
    total = gradients[0]
    for gradient in gradients[1:]:
        total = total + gradient
    return total


def _adam_outer(
    param: Tensor, grad: Outer, exp_avg: Tensor, exp_avg_sq: Tensor, step: int, lr: float, unit_norm: bool
) -> tuple[Tensor, Tensor, Tensor]:
    check_tensors("adam", param=param, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq, weights=grad.weights, rows=grad.rows)
    _check_state(param, exp_avg, exp_avg_sq, unit_norm)
    _check_factors(param, grad)
    path = dispatch.path_for(param)
    path.adam_outer(param, grad.transposed, grad.weights, grad.rows, exp_avg, exp_avg_sq, step, lr, unit_norm)
    return param, exp_avg, exp_avg_sq


def _check_factors(param: Tensor, grad: Outer) -> None:
    """Raise UserError unless a factored gradient is one of `param`, and its parts belong to each other."""
    n = len(grad.rows)
    slots = grad.transposed.slots.numel()
    check_shapes(
        "adam",
        weights=(grad.weights, (n, None)),
        rows=(grad.rows, (n, param.shape[1])),
        offsets=(grad.transposed.offsets, (len(param) + 1,)),
    )
    if slots > grad.weights.numel():
        raise UserError(f"adam: the code has {slots} slots and there are {grad.weights.numel()} weights; transpose this code.")


def _check_state(param: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, unit_norm: bool, **more: Tensor) -> None:
    """Raise UserError unless the state is that of the parameter and can be updated in place."""
    state = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq, **more}
    check_shapes("adam", **{name: (tensor, tuple(param.shape)) for name, tensor in state.items()})
    for name, tensor in {"param": param, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}.items():
        if tensor.dtype not in (torch.float32, torch.float64):
            raise UserError(f"adam: {name} is {tensor.dtype}; keep master weights and moments in float32.")
        if not tensor.is_contiguous():
            raise UserError(f"adam: {name} is not contiguous, and is updated in place; pass a contiguous tensor.")
    if param.dim() not in (1, 2) or (unit_norm and param.dim() == 1):
        raise UserError(f"adam: param has the shape {list(param.shape)}; give [F, d], or [F] without unit_norm.")


def _inputs(shape: Shape, dtype: torch.dtype, device: torch.device, seed: int) -> tuple[Any, ...]:
    """Masters and moments in float32 (float64 for float64), a gradient in `dtype`.

    Second moments stay away from 0: there, a gradient that cancels to rounding would be divided by rounding.
    """
    generator = torch.Generator().manual_seed(seed)
    wide = accumulator(dtype)
    param, grad, exp_avg, exp_avg_sq = (dyadic((shape.width, shape.d), wide, device, generator) for _ in range(4))
    param = torch.nn.functional.normalize(param + 1 / 16, dim=1)
    return param, grad.to(dtype), exp_avg, exp_avg_sq.square() + 1 / 64, 1 + seed % 50, 1e-2, True


def _min_bytes(shape: Shape, itemsize: int) -> int:
    return (6 * 4 + itemsize) * shape.width * shape.d


OP = Op(
    name="adam",
    fn=adam,
    reference=reference,
    inputs=_inputs,
    tolerance={
        dtype: 1e-13 if dtype == torch.float64 else 1e-5
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    },
    min_bytes=_min_bytes,
    differentiable=False,
)
