"""What was recorded and what was compiled, brought together: by kernel and architecture, and by op and stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from musae.bench.compile import sass, subjects, traffic
from musae.bench.compile.build import Built
from musae.bench.rows import BenchRow

SEPARATOR = ", "
"""Between the sizes that one row speaks for."""


@dataclass(frozen=True)
class Size:
    """Where a kernel, or an op, was met."""

    op: str
    stage: str
    d: int
    width: int
    k: int
    dtype: str

    def __str__(self) -> str:
        return f"{self.op} {self.stage}, F = {self.width:,}, k = {self.k}"


@dataclass(frozen=True)
class Kernel:
    """One kernel as one op at one size launches it, compiled for one architecture."""

    name: str
    instance: int
    """Which of the specialisations of this kernel that the stage launches."""
    size: Size
    built: Built
    dots: int
    """Multiply-adds of ``tl.dot`` that it executed."""
    counters: frozenset[tuple[str, int]]
    """Lines whose atomics were seen to hit integers."""

    @property
    def where(self) -> str:
        """The kernel, its architecture and where it is used, in words."""
        return f"{self.name} for {self.built.architecture} ({self.size})"


@dataclass(frozen=True)
class Stage:
    """One op's forward or backward pass at one size."""

    size: Size
    bytes: traffic.Bytes | None
    error: str = ""
    """Why nothing was counted; empty where it was."""
    wrong: tuple[str, ...] = ()
    """Results that differ from the reference by more than the op tolerates."""
    stray: tuple[str, ...] = ()
    """Kernels that accessed memory outside their tensors."""
    encodes: bool = False
    """Whether it selects latents: then its matrix product has to run on tensor cores."""


def stages(records: Iterable[Mapping[str, Any]]) -> Iterator[Stage]:
    """The stages of all ops that were recorded."""
    for case in (case for record in records for case in record["cases"]):
        head = (case["d"], case["width"], case["k"], case.get("dtype", "bfloat16"))
        if "error" in case:
            yield Stage(Size(case["op"], "forward", *head), None, error=case["error"])
            continue
        for name, stage in case["stages"].items():
            errors = {key: error for key, error in case["errors"].items() if key.startswith(name) and not error <= 1}
            wrong = tuple(f"{key} ({error:.3g} times)" for key, error in errors.items())
            bytes_, error = None, ""
            try:
                bytes_ = traffic.project(stage, subjects.FRAMES, case["minimum"] if name == "forward" else None)
            except ValueError as problem:
                error = str(problem)
            encodes = case["encodes"] and name == "forward"
            yield Stage(Size(case["op"], name, *head), bytes_, error, wrong, tuple(traffic.stray(stage)), encodes)


def kernels(records: Iterable[Mapping[str, Any]], built: Iterable[Built]) -> Iterator[Kernel]:
    """Every kernel of every stage at every size, for every architecture that was compiled for."""
    by_key: dict[str, list[Built]] = {}
    for one in built:
        by_key.setdefault(one.key, []).append(one)
    for record in records:
        notes = {note["key"]: note for note in record["kernels"]}
        counters = frozenset((file, line) for file, line in record["counters"])
        for case in record["cases"]:
            for stage, found in case.get("stages", {}).items():
                size = Size(case["op"], stage, case["d"], case["width"], case["k"], case["dtype"])
                instances: dict[str, int] = {}
                for key in dict.fromkeys(found["real"]):
                    note = notes[key]
                    name = str(note["specialisation"]["kernel"]).partition(":")[2].strip("_")
                    instance = instances[name] = instances.get(name, -1) + 1
                    for one in by_key.get(key, []):
                        yield Kernel(name, instance, size, one, note["dots"], counters)


def figures(code: sass.Code, shared: int) -> dict[str, tuple[float | None, str]]:
    """What is published of a compiled kernel: metric -> value and unit."""
    return {
        "registers": (code.registers, ""),
        "stack_bytes": (code.stack, "B"),
        "spills": (code.spills, ""),
        "shared_bytes": (shared, "B"),
        "row_loads": (code.row_loads, ""),
        "row_loads_128_share": (code.row_loads_128 / code.row_loads if code.row_loads else None, ""),
        "tensor_core_instructions": (code.tensor_cores, ""),
        "atomics": (code.atomics, ""),
    }


def rows(found: Sequence[Kernel], counted: Sequence[Stage]) -> list[BenchRow]:
    """Rows for publication; a kernel that is the same at all sizes of an op has one set of rows for all of them."""
    groups: dict[tuple[str, str, str, int, str], list[Kernel]] = {}
    for kernel in found:
        key = (kernel.name, kernel.size.op, kernel.size.stage, kernel.instance, kernel.built.architecture)
        groups.setdefault(key, []).append(kernel)
    made: list[BenchRow] = []
    for group in groups.values():
        same = len({kernel.built.key for kernel in group}) == 1 and _is_product(group)
        for kernel in group[:1] if same else group:
            case: dict[str, int | str] = {
                "op": kernel.size.op,
                "stage": kernel.size.stage,
                "d": kernel.size.d,
                "width": _joined(k.size.width for k in group) if same else kernel.size.width,
                "k": _joined(k.size.k for k in group) if same else kernel.size.k,
                "dtype": kernel.size.dtype,
                "instance": kernel.instance,
            }
            made += _kernel_rows(kernel, case)
    for stage in counted:
        made += _stage_rows(stage)
    return made


def _is_product(group: Sequence[Kernel]) -> bool:
    sizes = {(kernel.size.width, kernel.size.k) for kernel in group}
    return len(sizes) == len({width for width, _ in sizes}) * len({k for _, k in sizes}) == len(group)


def _joined(values: Iterable[int]) -> int | str:
    different = sorted(set(values))
    return different[0] if len(different) == 1 else SEPARATOR.join(map(str, different))


def _kernel_rows(kernel: Kernel, case: dict[str, int | str]) -> Iterator[BenchRow]:
    row = partial(BenchRow, subject=kernel.name, variant=kernel.built.architecture, case=case, known="compiled")
    if kernel.built.code is None:
        yield row(metric="registers", unscored=_one_line(f"does not compile: {kernel.built.error}"))
        return
    for metric, (value, unit) in figures(kernel.built.code, kernel.built.shared).items():
        yield row(metric=metric, unit=unit, value=value, unscored="" if value is not None else "it loads no rows")


def _stage_rows(stage: Stage) -> Iterator[BenchRow]:
    size, found = stage.size, stage.bytes
    case: dict[str, int | str] = {"stage": size.stage, "d": size.d, "width": size.width, "k": size.k, "dtype": size.dtype}
    row = partial(BenchRow, subject=size.op, variant="triton", case=case | {"n": subjects.FRAMES})
    if found is None:
        yield row(known="counted", metric="bytes_per_token", unit="B", unscored=_one_line(stage.error))
        return
    counts = {"bytes": found.distinct, "torch_bytes": found.eager, "issued_bytes": found.issued}
    for name, value in counts.items():
        yield row(known="counted", metric=f"{name}_per_token", unit="B", value=round(value / subjects.FRAMES, 2))
    yield row(known="derived", metric="minimum_bytes_per_token", unit="B", value=round(found.minimum / subjects.FRAMES, 2))
    yield row(known="derived", metric="bytes_over_minimum", value=round(found.ratio, 4))


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:200]
