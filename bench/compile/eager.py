"""Bytes that PyTorch's own operators move between kernels: sorts, casts, fills, which no kernel's count would show.

Each operator counts as if it read its inputs once and wrote its outputs once. That is the least it can do: a sort makes several
passes. Views and allocations move nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ALLOCATE = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "resize_", "set_", "_local_scalar_dense")
_OVERWRITE = ("copy_", "fill_", "zero_", "random_", "normal_")
"""Operators that write their first argument without reading it."""
_PICK = ("index", "index_select", "gather", "embedding", "take")
"""Operators that read of their first argument no more than they return."""


class EagerBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the bytes of every operator that runs in the block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self.by_operator: dict[str, int] = {}

    def count(self, run: Callable[[], Any]) -> Any:
        """What `run` returns; the operators that it calls are counted, in backward passes too."""
        with torch.autograd.set_multithreading_enabled(False), self:
            return run()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in _ALLOCATE or func.is_view:
            return result
        read = list(_tensors([*args, *(kwargs or {}).values()]))
        if name in _OVERWRITE:
            read = read[1:]
        written = sum(map(_extent, _tensors(result)))
        sizes = [_extent(tensor) for tensor in read]
        if name in _PICK and sizes:
            sizes[0] = min(sizes[0], written)
        moved = sum(sizes) + written
        self.total += moved
        self.by_operator[name] = self.by_operator.get(name, 0) + moved
        return result


def _tensors(found: Any) -> Iterable[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, list | tuple):
        for inner in found:
            yield from _tensors(inner)


def _extent(tensor: Tensor) -> int:
    """Bytes of a tensor's distinct elements: an expanded axis has one."""
    size = tensor.element_size()
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        size *= length if stride else min(length, 1)
    return size
