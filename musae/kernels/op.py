"""What every op of this package declares, so that tests, benches and compile gates treat all alike.

One file per op. It holds the reference (obvious code, any float dtype), the fast path, the autograd wrapper, sample inputs and
tolerances, and ends with ``OP = Op(...)``. Dispatch reads the device of the tensors it is given, inside `fn`, never at import.

Shapes: n frames, d stream width, F = `width` latents, k active latents a frame. ``W_enc`` and ``W_dec`` are both ``[F, d]``: a
row belongs to a latent.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import musae.kernels
from musae.errors import UserError


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
    tolerance: Mapping[torch.dtype, float]
    """Largest error of `fn` against the float64 reference, relative to the largest reference value of that output or gradient."""
    min_bytes: Callable[[Shape], int]
    """Bytes that must at least be read and written once in a forward pass at float32, int64 indices."""
    differentiable: bool = True
    """Whether gradients flow through it; an in-place update has none."""
    configs: tuple[Mapping[str, int], ...] = field(default=({},))
    """Compile-time constants in use, one mapping per specialisation."""


def ops() -> dict[str, Op]:
    """All ops by name: every module of this package that declares an ``OP``."""
    modules = (importlib.import_module(f"musae.kernels.{found.name}") for found in pkgutil.iter_modules(musae.kernels.__path__))
    return {module.OP.name: module.OP for module in modules if hasattr(module, "OP")}


def dyadic(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Tensor:
    """Random multiples of 1/8 between -2 and 2."""
    return (torch.randint(-16, 17, shape, generator=generator) / 8).to(device, dtype)


def check_tensors(op: str, k: int | None, width: int, **tensors: Tensor) -> None:
    """Raise UserError unless 0 < k <= width and all tensors share one device and one dtype out of float32 and float64."""
    if k is not None and not 0 < k <= width:
        raise UserError(f"{op}: k = {k} must lie between 1 and the width, {width}; choose another k.")
    for quality, seen in (
        ("device", {name: str(t.device) for name, t in tensors.items()}),
        ("dtype", {name: str(t.dtype).removeprefix("torch.") for name, t in tensors.items()}),
    ):
        if len(set(seen.values())) > 1:
            raise UserError(f"{op}: its tensors must share one {quality}, not {seen}; convert them first.")
    dtype = next(iter(tensors.values())).dtype
    if dtype not in (torch.float32, torch.float64):
        raise UserError(f"{op}: {dtype} is not supported; use float32 or float64.")
