"""The one way in which kernels are launched, so that what runs can be recorded: with which arguments, constants and grid.

The compile gate records launches under Triton's interpreter and compiles exactly those, ahead of time; nothing about a kernel's
constants is written down twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

INTERPRET = bool(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter, on CPU tensors: it is decided by the environment before triton is imported.

Kernels get it as a constant where the interpreter cannot do what hardware does: it stores bfloat16 as integers and computes on
those, so there tiles are widened to float32 right after they are loaded. Nothing else may depend on it.
"""


@dataclass(frozen=True)
class Launch:
    """One kernel launch."""

    kernel: Any
    """The function under ``@triton.jit``."""
    grid: tuple[int, ...]
    """Number of programs along each axis."""
    arguments: tuple[Any, ...]
    """Tensors and scalars, in the order of the kernel's parameters."""
    constants: Mapping[str, Any]
    """Compile-time constants by parameter name."""
    num_warps: int
    num_stages: int

    @property
    def name(self) -> str:
        """The kernel's name."""
        return str(self.kernel.fn.__name__)


_observers: list[Callable[[Launch], Any]] = []


def launch(
    kernel: Any, grid: tuple[int, ...], *arguments: Any, num_warps: int = 4, num_stages: int = 3, **constants: Any
) -> None:
    """Run ``kernel[grid](*arguments, **constants)``; nothing is launched for an empty grid.

    `arguments` are the parameters that are not ``tl.constexpr``; tensors have to be contiguous along their last axis.
    """
    if any(size == 0 for size in grid):
        return
    for observer in _observers:
        observer(Launch(kernel, grid, arguments, constants, num_warps, num_stages))
    on = next((a.device for a in arguments if isinstance(a, Tensor) and a.is_cuda), None)
    with torch.cuda.device(on) if on else nullcontext():  # Triton launches on the current device, not the tensors'
        kernel[grid](*arguments, num_warps=num_warps, num_stages=num_stages, **constants)


@contextmanager
def observed(observer: Callable[[Launch], Any]) -> Iterator[None]:
    """Call `observer` before each launch in the block."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)
