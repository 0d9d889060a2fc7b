"""``adam``: one dense Adam step in place, then the projection of atoms to unit norm.

The update is that of `torch.optim.Adam` without weight decay (Kingma & Ba 2015, arXiv 1412.6980): dense, so the moments of
silent rows decay too (updating active rows only is another function).

With `unit_norm` the rows are atoms of norm 1. Their loss is to be minimised on the sphere, so the part of the gradient along an
atom, which the projection undoes, is removed first: left in, it would fill Adam's second moment and shrink the steps that count
(Bricken et al. 2023, "Towards Monosemanticity", appendix; SAELens and dictionary_learning do the same).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam as torch_adam

from musae.kernels.op import Op, Shape, check_tensors, dyadic

BETAS = (0.9, 0.999)
EPS = 1e-8
TINY = 1e-30
"""Keeps an all-zero row from dividing by zero."""


def adam(
    param: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, step: Tensor, lr: float, unit_norm: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Update parameter, both moments and the step count (a float32 scalar) in place, and return them.

    `grad` is overwritten when `unit_norm`. Raises UserError for bad dtypes or devices.
    """
    check_tensors("adam", None, 0, param=param, grad=grad, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq)
    with torch.no_grad():
        if unit_norm:
            grad.addcmul_(param, (param * grad).sum(1, keepdim=True), value=-1)
        torch_adam(
            [param], [grad], [exp_avg], [exp_avg_sq], [], [step], fused=True, amsgrad=False, beta1=BETAS[0], beta2=BETAS[1],
            lr=lr, weight_decay=0.0, eps=EPS, maximize=False,
        )  # fmt: skip
        if unit_norm:
            param.div_(torch.linalg.vector_norm(param, dim=1, keepdim=True).clamp_min_(TINY))
    return param, exp_avg, exp_avg_sq, step


def reference(
    param: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, step: Tensor, lr: float, unit_norm: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The definition; changes none of its arguments."""
    if unit_norm:
        grad = grad - param * (param * grad).sum(1, keepdim=True)
    step = step + 1
    exp_avg = BETAS[0] * exp_avg + (1 - BETAS[0]) * grad
    exp_avg_sq = BETAS[1] * exp_avg_sq + (1 - BETAS[1]) * grad**2
    mean, square = exp_avg / (1 - BETAS[0] ** step), exp_avg_sq / (1 - BETAS[1] ** step)
    param = param - lr * mean / (square.sqrt() + EPS)
    return (param / param.norm(dim=1, keepdim=True) if unit_norm else param), exp_avg, exp_avg_sq, step


def _inputs(shape: Shape, dtype: torch.dtype, device: torch.device, seed: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(seed)
    param, grad, exp_avg, exp_avg_sq = (dyadic((shape.width, shape.d), dtype, device, generator) for _ in range(4))
    param = torch.nn.functional.normalize(param + 1 / 16, dim=1)
    return param, grad, exp_avg, exp_avg_sq.square(), torch.tensor(float(seed % 50), device=device), 1e-2, True


def _min_bytes(shape: Shape) -> int:
    return 4 * 7 * shape.width * shape.d


OP = Op(
    name="adam",
    fn=adam,
    reference=reference,
    inputs=_inputs,
    tolerance={torch.float32: 1e-5, torch.float64: 1e-13},
    min_bytes=_min_bytes,
    differentiable=False,
)
