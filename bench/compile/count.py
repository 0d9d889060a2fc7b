"""Bytes that kernels move, counted from the loads, stores and atomics that Triton's interpreter executes.

Two counts of a launch:

- *issued*: elements times their size, for every access that its mask lets through: what the caches serve;
- *distinct*: 32 bytes for every sector of a tensor that is read at least once, and again for every sector that is written: what
  memory has to move if caches hold whatever one launch uses twice, and nothing from one launch to the next. 32 bytes is the unit
  in which NVIDIA GPUs from Ampere on talk to memory, so that a strided access pays for what it drags along.

Every source line that touches memory is kept too, so that compiled instructions, which carry lines, can be told apart.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import triton
from torch import Tensor

from musae.bench.compile.lines import statement

SECTOR = 32
"""Bytes."""
VECTOR = 16
"""Bytes of the widest load of one thread; a line that reads runs of at least this many can use it."""

_TRITON = str(Path(triton.__file__).parent)

Kind = Literal["load", "store", "atomic"]
Addresses = npt.NDArray[np.uint64]


@dataclass
class Line:
    """What one source line, the first of its statement, did to memory during a launch."""

    file: str
    line: int
    kind: Kind
    dtype: str
    """Of the elements, as Triton writes it: ``bf16``, ``fp32``, ``int32``."""
    itemsize: int
    run: int = 0
    """Longest run of adjacent bytes in one access."""
    rows: bool = False
    """Whether the tensor that it touches is `[*, d]`, d the stream's width."""
    issued: int = 0


@dataclass
class Touched:
    """A tensor's storage during a launch, and which of its sectors were read and written."""

    argument: int
    """Position of the first argument that lies in it."""
    start: int
    end: int
    rows: bool
    read: npt.NDArray[np.bool_] | None = None
    written: npt.NDArray[np.bool_] | None = None

    def mark(self, addresses: Addresses, *, read: bool, written: bool) -> None:
        first = self.start // SECTOR
        sectors = (addresses // np.uint64(SECTOR)).astype(np.int64) - first
        size = (self.end - 1) // SECTOR - first + 1
        if read:
            self.read = np.zeros(size, bool) if self.read is None else self.read
            self.read[sectors] = True
        if written:
            self.written = np.zeros(size, bool) if self.written is None else self.written
            self.written[sectors] = True


@dataclass
class Traffic:
    """The memory traffic of one launch."""

    issued_read: int = 0
    issued_written: int = 0
    dots: int = 0
    """Multiply-adds in ``tl.dot``."""
    stray: int = 0
    """Accesses outside every tensor that the launch was given: a bug of the kernel."""
    tensors: list[Touched] = field(default_factory=list)
    lines: dict[tuple[str, int, Kind], Line] = field(default_factory=dict)

    def distinct(self) -> dict[int, tuple[int, int, int]]:
        """By argument: distinct bytes read, distinct bytes written, bytes that its storage has."""
        return {
            t.argument: (
                SECTOR * int(np.count_nonzero(t.read)) if t.read is not None else 0,
                SECTOR * int(np.count_nonzero(t.written)) if t.written is not None else 0,
                t.end - t.start,
            )
            for t in self.tensors
        }


class Counter:
    """Counts the launches that are made while `counting`; `open` begins a launch, and ends the one before."""

    def __init__(self, d: int) -> None:
        self.d = d
        self.traffic: Traffic | None = None

    def open(self, arguments: tuple[Any, ...]) -> Traffic:
        """Begin to count a launch with these arguments."""
        self.traffic = Traffic()
        for position, argument in enumerate(arguments):
            if not isinstance(argument, Tensor) or argument.untyped_storage().nbytes() == 0:
                continue
            storage = argument.untyped_storage()
            rows = argument.ndim >= 2 and argument.shape[-1] == self.d
            known = next((t for t in self.traffic.tensors if t.start == storage.data_ptr()), None)
            if known is not None:
                known.rows |= rows
                continue
            start = storage.data_ptr()
            self.traffic.tensors.append(Touched(position, start, start + storage.nbytes(), rows))
        return self.traffic

    def access(self, kind: Kind, pointers: Any, mask: npt.NDArray[Any]) -> None:
        """Count one access through a handle of pointers, where `mask` holds."""
        if self.traffic is None:
            return
        element = pointers.get_element_ty()
        size = max(1, element.primitive_bitwidth // 8)
        addresses = pointers.data[np.broadcast_to(mask.astype(bool, copy=False), pointers.data.shape)]
        line = self._line(kind, str(element), size)
        if addresses.size == 0:
            return
        total = addresses.size * size
        line.issued += total
        self.traffic.issued_read += total if kind != "store" else 0
        self.traffic.issued_written += total if kind != "load" else 0
        if line.run < VECTOR:
            line.run = max(line.run, _longest_run(addresses, size))
        low, high = int(addresses.min()), int(addresses.max())
        left = addresses.size
        for tensor in self.traffic.tensors:
            if high < tensor.start or low >= tensor.end:
                continue
            whole = tensor.start <= low and high < tensor.end
            inside = addresses if whole else addresses[(addresses >= tensor.start) & (addresses < tensor.end)]
            left -= inside.size
            if inside.size:
                line.rows |= tensor.rows
                tensor.mark(inside, read=kind != "store", written=kind != "load")
        self.traffic.stray += left

    def dot(self, multiply_adds: int) -> None:
        """Count one ``tl.dot``."""
        if self.traffic is not None:
            self.traffic.dots += multiply_adds

    def _line(self, kind: Kind, dtype: str, size: int) -> Line:
        assert self.traffic is not None
        frame = sys._getframe(2)
        while frame.f_back is not None and (frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith(_TRITON)):
            frame = frame.f_back
        file, line = statement(frame.f_code.co_filename, frame.f_lineno)
        return self.traffic.lines.setdefault((file, line, kind), Line(file, line, kind, dtype, size))


def _longest_run(addresses: Addresses, size: int) -> int:
    """Bytes of the longest stretch of adjacent elements among the addresses."""
    ordered = np.unique(addresses)
    breaks = np.flatnonzero(np.diff(ordered) != size)
    edges = np.concatenate(([-1], breaks, [ordered.size - 1]))
    return int(np.diff(edges).max()) * size


@contextmanager
def counting(d: int) -> Iterator[Counter]:
    """A counter that sees every access that the interpreter executes in the block; d is the width that rows have."""
    from triton.runtime.interpreter import interpreter_builder as builder

    counter = Counter(d)
    originals = {name: getattr(builder, name) for name in _HOOKS}
    for name, hook in _HOOKS.items():
        setattr(builder, name, hook(counter, originals[name]))
    try:
        yield counter
    finally:
        for name in originals:
            delattr(builder, name)  # the hooks are the instance's own; the class's methods lie beneath


def _load(counter: Counter, run: Callable[..., Any]) -> Callable[..., Any]:
    def create_masked_load(pointers: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        counter.access("load", pointers, mask.data)
        return run(pointers, mask, *rest, **named)

    return create_masked_load


def _store(counter: Counter, run: Callable[..., Any]) -> Callable[..., Any]:
    def create_masked_store(pointers: Any, value: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        counter.access("store", pointers, mask.data)
        return run(pointers, value, mask, *rest, **named)

    return create_masked_store


def _modify(counter: Counter, run: Callable[..., Any]) -> Callable[..., Any]:
    def create_atomic_rmw(operation: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        counter.access("atomic", pointers, mask.data)
        return run(operation, pointers, value, mask, *rest)

    return create_atomic_rmw


def _exchange(counter: Counter, run: Callable[..., Any]) -> Callable[..., Any]:
    def create_atomic_cas(pointers: Any, *rest: Any) -> Any:
        counter.access("atomic", pointers, np.ones_like(pointers.data, dtype=bool))
        return run(pointers, *rest)

    return create_atomic_cas


def _dot(counter: Counter, run: Callable[..., Any]) -> Callable[..., Any]:
    def create_dot(a: Any, b: Any, *rest: Any) -> Any:
        counter.dot(a.data.size * b.data.shape[-1])
        return run(a, b, *rest)

    return create_dot


_HOOKS: dict[str, Callable[[Counter, Callable[..., Any]], Callable[..., Any]]] = {
    "create_masked_load": _load,
    "create_masked_store": _store,
    "create_atomic_rmw": _modify,
    "create_atomic_cas": _exchange,
    "create_dot": _dot,
}
"""The interpreter's methods through which every access goes; unmasked accesses and descriptors call the masked ones."""
