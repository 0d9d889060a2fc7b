"""Run the ops on Triton's interpreter, and record what is launched, with which constants, and what it moves.

A process of its own (``python -m musae.bench.compile.record OUT OP WIDTH K [busy]``): the interpreter has to be chosen before
Triton is imported. Progress goes to standard output, as JSON.

A forward pass runs at the real sizes d, F and k over few frames. Programs of a backward pass and of Adam go by latents, of which
the interpreter cannot run as many: there frames and latents are scaled down together, so that a latent has as many slots as at
full size. Which kernels and constants the real F takes is recorded all the same, by launches at real F that are not executed: a
count whose constants differ from those is refused. Results are compared with the op's reference wherever kernels execute.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from musae.bench.compile import subjects
from musae.bench.compile.count import Traffic, counting
from musae.bench.compile.eager import EagerBytes
from musae.bench.compile.interpreter import executing, unexecuted
from musae.bench.compile.specialisation import Specialisation, specialise
from musae.kernels import dispatch
from musae.kernels.op import HALF, Op, Shape
from musae.kernels.transposed import shared

SEED = 0
BUSY = 32
"""A tenth of the frames among which latents are busy: each then has about 256 slots, some more and some fewer."""
CUT_OFF = 2.0
"""Tolerance of 16-bit results over the op's own: the interpreter cuts bits off where hardware rounds."""


class Launches:
    """Records launches, and counts what they move where they are executed."""

    def __init__(self, d: int) -> None:
        self._d = d
        self.specialisations: dict[str, Specialisation] = {}
        self.row_lines: set[tuple[str, int]] = set()
        self.float_atomics: set[tuple[str, int]] = set()
        self.integer_atomics: set[tuple[str, int]] = set()
        self.dots: dict[str, int] = {}

    def record(self, run: Callable[[], Any], execute: bool) -> tuple[Any, dict[str, Any]]:
        """What `run` returns, and its launches with their traffic."""
        from musae.kernels.gpu.launch import observed

        seen: list[tuple[str, tuple[int, ...], Traffic]] = []
        shared.clear()
        eager = EagerBytes()
        with counting(self._d) as counter, sampling(eager) as sample:

            def observe(launch: Any) -> None:
                sample.end()
                module, options = launch.kernel.fn.__module__, (launch.num_warps, launch.num_stages)
                made = specialise(module, launch.name, launch.arguments, launch.constants, *options)
                self.specialisations[made.key] = made
                seen.append((made.key, launch.grid, counter.open(launch.arguments)))

            with observed(observe), executing() if execute else unexecuted(), contextlib.nullcontext() if execute else _Zeros():  # type: ignore[no-untyped-call]
                result = eager.count(run)
        for key, _, traffic in seen:
            self._note(key, traffic)
        launches = [
            {
                "key": key,
                "kernel": self.specialisations[key].name,
                "grid": list(grid),
                "issued": [traffic.issued_read, traffic.issued_written],
                "distinct": {str(argument): list(sizes) for argument, sizes in traffic.distinct().items()},
                "stray": traffic.stray,
            }
            for key, grid, traffic in seen
        ]
        return result, {
            "launches": launches,
            "eager": eager.total - sample.bytes,
            "sampled": sample.bytes,
            "sample_frames": sample.frames,
            "eager_by": eager.by_operator,
        }

    def _note(self, key: str, traffic: Traffic) -> None:
        for line in traffic.lines.values():
            if line.kind == "load" and line.rows:
                self.row_lines.add((line.file, line.line))
            elif line.kind == "atomic":
                (self.integer_atomics if "int" in line.dtype else self.float_atomics).add((line.file, line.line))
        self.dots[key] = self.dots.get(key, 0) + traffic.dots

    def found(self) -> dict[str, Any]:
        """Every specialisation that was launched, and which source lines load rows or count by atomics on integers."""
        return {
            "kernels": [
                {"key": key, "specialisation": asdict(made), "dots": self.dots.get(key, 0)}
                for key, made in self.specialisations.items()
            ],
            "row_lines": sorted(self.row_lines),
            "counters": sorted(self.integer_atomics - self.float_atomics),
        }


class _Sample:
    """Bytes of PyTorch's operators from where an encoder draws a sample of frames to its next launch."""

    def __init__(self, eager: EagerBytes, frames: int) -> None:
        self._eager, self._start = eager, -1
        self.bytes = 0
        self.frames = frames
        """Frames that a sample has at most, however many there are."""

    def begin(self) -> None:
        self.end()
        self._start = self._eager.total

    def end(self) -> None:
        if self._start >= 0:
            self.bytes += self._eager.total - self._start
        self._start = -1


@contextlib.contextmanager
def sampling(eager: EagerBytes) -> Iterator[_Sample]:
    """Tells the bytes that go with the number of sampled frames from those that go with the number of all."""
    from musae.kernels.gpu import encode

    draw, found = encode._sample, _Sample(eager, encode.SAMPLE_FRAMES)

    def drawn(*arguments: Any) -> Any:
        found.begin()
        return draw(*arguments)

    with mock.patch.object(encode, "_sample", drawn):
        yield found
        found.end()


class _Zeros(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fresh memory holds zeros: host code may look at what a kernel that was not executed should have written."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return result.zero_() if "empty" in func.overloadpacket.__name__ else result


@contextlib.contextmanager
def full_batch() -> Iterator[None]:
    """In the block, encoders split the latents among programs as they do for a full batch, however few frames there are."""
    from musae.kernels.gpu import encode, screen

    split_count = screen.split_count

    def split_as_for_all(n: int, tiles: int, device: torch.device) -> int:
        return split_count(subjects.FRAMES, tiles, device)

    with contextlib.ExitStack() as stack:
        for module in (encode, screen):
            stack.enter_context(mock.patch.object(module, "split_count", split_as_for_all))
        yield


def measure(
    op: Op,
    width: int,
    k: int,
    launches: Launches,
    d: int = subjects.D,
    frames: Sequence[int] = subjects.COUNTED,
    busy: bool = False,
) -> dict[str, Any]:
    """One op at one size: counts by stage at every number of frames, and the largest errors of what was computed.

    `busy`: run it beside with latents that fire often, which take other lines of the kernels.
    """
    dtype = subjects.DTYPE if subjects.DTYPE in op.tolerance else torch.float32
    stages: dict[str, list[dict[str, Any]]] = {}
    errors: dict[str, float] = {}
    real: dict[str, list[str]] = {}
    encodes = False
    for position, n in enumerate(frames):
        scaled = Shape(n, d, max(k + 1, width * n // subjects.FRAMES), k)
        if op.differentiable:
            case = _Case(op, Shape(n, d, width, k), dtype)
            forward = case.forward(launches, execute=True)
            if position == 0:
                errors |= case.compare("forward")
                encodes = any(not o.is_floating_point() for o in case.outputs)
                real["forward"] = _keys(forward)
                real["backward"] = _keys(case.backward(launches, execute=False))
            stages.setdefault("forward", []).append(forward)
            small = _Case(op, scaled, dtype)
            small.forward(launches, execute=True, keep=False)
            stages.setdefault("backward", []).append(small.backward(launches, execute=True))
            errors |= small.compare("backward") if position == 0 else {}
        else:
            if position == 0:
                real["forward"] = _keys(_Case(op, Shape(n, d, width, k), dtype).forward(launches, execute=False))
            small = _Case(op, scaled, dtype)
            stages.setdefault("forward", []).append(small.forward(launches, execute=True))
            errors |= small.compare("forward") if position == 0 else {}
    return {
        "op": op.name, "d": d, "width": width, "k": k, "dtype": str(dtype).removeprefix("torch."), "encodes": encodes,
        "minimum": op.min_bytes(Shape(subjects.FRAMES, d, width, k), dtype.itemsize),
        "stages": {name: {"counts": counts, "real": real[name]} for name, counts in stages.items()},
        "errors": errors | (_exercise(op, k, dtype, launches, d) if busy else {}),
    }  # fmt: skip


def _exercise(op: Op, k: int, dtype: torch.dtype, launches: Launches, d: int) -> dict[str, float]:
    """Run an op where latents have so many slots that no one program sums them, for the lines that only such latents reach."""
    case = _Case(op, Shape(10 * BUSY, d, k + k // 4 + 1, k), dtype)
    beside = Launches(d)
    case.forward(beside, execute=True)
    errors = case.compare("forward")
    if op.differentiable:
        case.backward(beside, execute=True)
        errors |= case.compare("backward")
    launches.row_lines |= beside.row_lines
    launches.integer_atomics |= beside.integer_atomics
    launches.float_atomics |= beside.float_atomics
    return {f"{name}, busy latents": error for name, error in errors.items()}


def _keys(count: dict[str, Any]) -> list[str]:
    return [launch["key"] for launch in count["launches"]]


class _Case:
    """An op with its arguments at one size."""

    def __init__(self, op: Op, shape: Shape, dtype: torch.dtype) -> None:
        self.op, self.shape, self.dtype = op, shape, dtype
        self.inputs = op.inputs(shape, dtype, torch.device("cpu"), SEED)
        self.outputs: tuple[Tensor, ...] = ()
        self.given: tuple[Any, ...] = ()
        self.gradients: tuple[Tensor, ...] = ()

    def forward(self, launches: Launches, execute: bool, keep: bool = True) -> dict[str, Any]:
        """Run the op on copies of its arguments (some ops change them)."""
        self.given = tuple(a.clone() if isinstance(a, Tensor) else a for a in self.inputs)
        for tensor in self._differentiable(self.given):
            tensor.requires_grad_()
        with dispatch.forced("triton"), full_batch():
            outputs, count = (launches if keep else Launches(self.shape.d)).record(lambda: self.op.fn(*self.given), execute)
        self.outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return count | {"n": self.shape.n}

    def backward(self, launches: Launches, execute: bool) -> dict[str, Any]:
        """Run the backward pass under a random upstream gradient of every output."""
        outputs = [o for o in self.outputs if o.requires_grad]
        upstream = self._upstream(outputs)
        inputs = self._differentiable(self.given)
        with dispatch.forced("triton"):
            self.gradients, count = launches.record(
                lambda: torch.autograd.grad(outputs, inputs, upstream, retain_graph=True), execute
            )
        minimum = subjects.backward_bytes(self.inputs, [o.detach() for o in self.outputs])
        return count | {"n": self.shape.n, "minimum": minimum}

    def compare(self, stage: str) -> dict[str, float]:
        """Largest errors against the reference, over what the op tolerates: at most 1 is right; a wrong index is 1e9.

        The reference computes in float32, which holds the sample inputs exactly.
        """
        wide = tuple(a.detach().to(torch.float32) if isinstance(a, Tensor) and a.is_floating_point() else a for a in self.inputs)
        leaves = self._differentiable(wide)
        for tensor in leaves if stage == "backward" else []:
            tensor.requires_grad_()
        found = self.op.reference(*wide)
        expected: Sequence[Tensor] = found if isinstance(found, tuple) else (found,)
        computed: Sequence[Tensor] = self.outputs
        if stage == "backward":
            outputs = [o for o in expected if o.requires_grad]
            expected, computed = torch.autograd.grad(outputs, leaves, self._upstream(outputs)), self.gradients
        return {
            f"{stage}[{position}]": self._error(one, other)
            for position, (one, other) in enumerate(zip(computed, expected, strict=True))
        }

    def _error(self, computed: Tensor, expected: Tensor) -> float:
        if computed.shape != expected.shape or not torch.isfinite(computed).all():
            return 1e9
        if not expected.is_floating_point():
            return 0.0 if torch.equal(computed, expected) else 1e9
        tolerance = self.op.tolerance[self.dtype] * (CUT_OFF if computed.dtype in HALF else 1)
        scale = float(expected.detach().abs().max().clamp_min(1e-30))
        return float((computed.detach().float() - expected.detach()).abs().max()) / scale / tolerance

    def _differentiable(self, arguments: tuple[Any, ...]) -> list[Tensor]:
        if not self.op.differentiable:
            return []
        return [a for a in arguments if isinstance(a, Tensor) and a.is_floating_point()]

    def _upstream(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        generator = torch.Generator().manual_seed(SEED + 1)
        return [(torch.randint(-16, 17, o.shape, generator=generator) / 8).to(o.dtype) for o in outputs]


def main(out: str, name: str, width: str, k: str, *busy: str) -> None:
    """Record one op at one size; what its kernels raise is written instead."""
    op, launches, start = subjects.subjects()[name], Launches(subjects.D), time.perf_counter()
    try:
        case = measure(op, int(width), int(k), launches, busy=bool(busy))
    except Exception as error:  # a result like any other
        message = f"{type(error).__name__}: {error}"[:1000]
        case = {"op": op.name, "d": subjects.D, "width": int(width), "k": int(k), "error": message}
    case["seconds"] = round(time.perf_counter() - start, 2)
    print(json.dumps({"done": 1, "of": 1}), flush=True)
    Path(out).write_text(json.dumps({"cases": [case], **launches.found()}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
