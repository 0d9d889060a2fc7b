"""What every op of this package declares, so that tests, benches and compile gates treat all alike.

One file per op. It holds the reference (obvious code, any float dtype), the autograd wrapper, sample inputs and tolerances, and
ends with ``OP = Op(...)``. How an op is computed is a *path*: plain PyTorch, the compiled CPU extension or Triton kernels, chosen
by `musae.kernels.dispatch` for the tensors at hand, inside `fn`, never at import.

Shapes: n frames, d stream width, F = `width` latents, k active latents a frame, s slots a frame. ``W_enc`` and ``W_dec`` are both
``[F, d]``: a row belongs to a latent. Codes are ``values [n, s]`` and ``indices [n, s]`` (int64); an empty slot has value 0,
index 0.

Dtypes: all float64, or float32 mixed with at most one of bfloat16 and float16 (frames in half precision, master weights in
float32, say). Weights are then rounded to the frames' dtype; sums and values are float32; a gradient has its tensor's dtype.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import musae.kernels
from musae.errors import UserError

HALF = (torch.bfloat16, torch.float16)
"""Dtypes with 16 bits."""

TOLERANCE: Mapping[torch.dtype, float] = {
    torch.float64: 1e-13,
    torch.float32: 1e-5,
    torch.bfloat16: 2**-8,
    torch.float16: 2**-11,
}
"""Largest error against the float64 reference, relative to the largest value: sums of up to thousands of float32 terms, and one
rounding of a gradient to a 16-bit dtype."""


@dataclass(frozen=True)
class Shape:
    """One problem size."""

    n: int
    d: int
    width: int
    k: int


@dataclass(frozen=True)
class Op:
    """An op and everything that is needed to prove and to measure it."""

    name: str
    fn: Callable[..., Any]
    """The op, on any device; returns a tensor or a tuple of tensors."""
    reference: Callable[..., Any]
    """The same function in obvious code; differentiable by autograd; the truth when given float64."""
    inputs: Callable[[Shape, torch.dtype, torch.device, int], tuple[Any, ...]]
    """Sample arguments for a shape, dtype, device and seed. Floats are dyadic with few bits, so that any dtype represents them
    and no order of summation rounds a pre-activation: implementations must then select the same latents, bit for bit."""
    min_bytes: Callable[[Shape, int], int]
    """Bytes that a forward pass must at least read and write once, given a float's size; values are float32, indices int64."""
    tolerance: Mapping[torch.dtype, float]
    """Largest error of `fn` against the float64 reference, relative to the largest reference value of that output or gradient."""
    rowwise: bool = False
    """Whether a frame's outputs depend on that frame alone, whatever else is in the batch."""
    differentiable: bool = True
    """Whether gradients flow through it; an in-place update has none."""


def ops() -> dict[str, Op]:
    """All ops by name: every module of this package that declares an ``OP``."""
    modules = (importlib.import_module(f"musae.kernels.{found.name}") for found in pkgutil.iter_modules(musae.kernels.__path__))
    return {module.OP.name: module.OP for module in modules if hasattr(module, "OP")}


def dyadic(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Tensor:
    """Random multiples of 1/8 between -2 and 2."""
    return (torch.randint(-16, 17, shape, generator=generator) / 8).to(device, dtype)


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A backward pass that raises UserError where its own derivative is wanted: it would be missing, silently."""

    @functools.wraps(backward)
    def guarded(ctx: Any, *upstream: Tensor) -> Any:
        if torch.is_grad_enabled():  # it is only in a backward pass with create_graph=True
            raise UserError("kernels have no second derivatives; call backward without create_graph, or take the op's reference.")
        return backward(ctx, *upstream)

    return guarded


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums and values over inputs of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_k(op: str, k: int, width: int) -> None:
    """Raise UserError unless 0 < k <= width."""
    if not 0 < k <= width:
        raise UserError(f"{op}: k = {k} must lie between 1 and the width, {width}; choose another k.")


def check_tensors(op: str, **tensors: Tensor) -> None:
    """Raise UserError unless all tensors lie on one device, in dtypes that go together."""
    devices = {name: str(t.device) for name, t in tensors.items()}
    if len(set(devices.values())) > 1:
        raise UserError(f"{op}: its tensors must share one device, not {devices}; move them to one first.")
    dtypes = {name: str(t.dtype).removeprefix("torch.") for name, t in tensors.items()}
    for name, tensor in tensors.items():
        if tensor.dtype not in TOLERANCE:
            raise UserError(f"{op}: {name} is {dtypes[name]}; use float32, bfloat16, float16 or float64.")
    seen = {t.dtype for t in tensors.values()}
    if len(seen) > 1 and (torch.float64 in seen or seen.issuperset(HALF)):
        raise UserError(f"{op}: the dtypes {dtypes} do not go together; use one, or float32 and one 16-bit dtype.")


def check_shapes(op: str, **shapes: tuple[Tensor, tuple[int | None, ...]]) -> None:
    """Raise UserError unless each tensor has the shape given with it (None: any size) and no axis but the first is empty."""
    for name, (tensor, wanted) in shapes.items():
        if len(wanted) != tensor.dim() or any(w is not None and w != s for w, s in zip(wanted, tensor.shape, strict=True)):
            shown = "[" + ", ".join("any" if w is None else str(w) for w in wanted) + "]"
            raise UserError(f"{op}: {name} has the shape {list(tensor.shape)} and should have {shown}; check its axes.")
        if 0 in tensor.shape[1:]:
            raise UserError(
                f"{op}: {name} has the shape {list(tensor.shape)}; frames and atoms need at least one dimension (d > 0)."
            )
