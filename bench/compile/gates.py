"""What compiled kernels and counted bytes must satisfy, by themselves and against the rows published last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from musae.bench.compile.build import SHARED_LIMIT
from musae.bench.compile.report import SEPARATOR, Kernel, Stage
from musae.bench.rows import BenchRow

WIDE_SHARE = 0.9
"""Least share of row loads that read 128 bits at once."""
BYTES_RATIO = 1.3
"""Largest ratio of the bytes that memory has to move to the least that the op can move."""


@dataclass(frozen=True)
class Verdict:
    """One gate on one kernel or stage."""

    gate: str
    passed: bool
    sentence: str
    """What was found, with the bound."""


def judge(kernels: Iterable[Kernel], stages: Sequence[Stage]) -> list[Verdict]:
    """Every gate on every kernel and stage; what concerns the same machine code is judged once."""
    found: list[Verdict] = []
    seen: set[tuple[str, str]] = set()
    kernels = list(kernels)
    for kernel in kernels:
        if (kernel.built.key, kernel.built.architecture) not in seen:
            seen.add((kernel.built.key, kernel.built.architecture))
            found += _kernel(kernel)
    for stage in stages:
        found += _stage(stage, kernels)
    return found


def _kernel(kernel: Kernel) -> Iterator[Verdict]:
    code, limit = kernel.built.code, SHARED_LIMIT[kernel.built.architecture]
    yield Verdict("compiles", code is not None, f"{kernel.where}: {kernel.built.error or 'compiles'}")
    if code is None:
        return
    yield Verdict("no spills", code.spills == 0, f"{kernel.where}: {code.spills} accesses to local memory, where none is allowed")
    yield Verdict(
        "shared memory fits",
        kernel.built.shared <= limit,
        f"{kernel.where}: {kernel.built.shared:,} bytes of shared memory of {limit:,} that a block can have",
    )
    if kernel.dots and not code.row_loads:
        yield Verdict(
            "row loads of 128 bits", False, f"{kernel.where}: multiplies rows, and no load of rows was found in its code"
        )
    if code.row_loads:
        share = code.row_loads_128 / code.row_loads
        yield Verdict(
            "row loads of 128 bits",
            share >= WIDE_SHARE,
            f"{kernel.where}: {code.row_loads_128} of {code.row_loads} row loads ({share:.0%}) are of 128 bits; "
            f"at least {WIDE_SHARE:.0%} must be",
        )
    if kernel.dots:
        yield Verdict(
            "matrix products on tensor cores",
            code.tensor_cores > 0,
            f"{kernel.where}: {code.tensor_cores} tensor-core instructions, where it executes tl.dot",
        )
    others = [f"{file}:{line}" for file, line in code.atomic_lines if (file, line) not in kernel.counters]
    yield Verdict(
        "no atomics on gradients",
        not others,
        f"{kernel.where}: atomics on other things than integer counters at {', '.join(others) or 'no line'}; none are allowed",
    )


def _stage(stage: Stage, kernels: Sequence[Kernel]) -> Iterator[Verdict]:
    yield Verdict("counted", not stage.error, f"{stage.size}: {stage.error or 'counted'}")
    yield Verdict(
        "results equal the reference's",
        not stage.wrong,
        f"{stage.size}: outside the op's tolerance: {', '.join(stage.wrong) or 'nothing'}",
    )
    yield Verdict(
        "accesses within tensors", not stage.stray, f"{stage.size}: outside their tensors: {', '.join(stage.stray) or 'nothing'}"
    )
    if stage.bytes is not None:
        yield Verdict(
            f"bytes at most {BYTES_RATIO} x the minimum",
            stage.bytes.ratio <= BYTES_RATIO,
            f"{stage.size}: {stage.bytes.ratio:.2f} times the least bytes, where {BYTES_RATIO} are allowed",
        )
    if stage.encodes and not stage.error:
        own = [kernel for kernel in kernels if kernel.size == stage.size]
        for architecture in sorted({kernel.built.architecture for kernel in own}) or ["any architecture"]:
            codes = [kernel.built.code for kernel in own if kernel.built.architecture == architecture and kernel.dots]
            there = any(code and code.tensor_cores for code in codes)
            sentence = f"{stage.size}: {'a' if there else 'no'} kernel for {architecture} uses them"
            yield Verdict("tensor cores in the encoder", there, sentence)


@dataclass(frozen=True)
class Bound:
    """How much worse than the published row a metric may get: ``old * (1 + relative) + absolute``, or that much less."""

    absolute: float = 0.0
    relative: float = 0.0
    rises: bool = True
    """Whether rising is worse."""


BOUNDS: Mapping[str, Bound] = {
    "registers": Bound(absolute=8),
    "stack_bytes": Bound(),
    "spills": Bound(),
    "shared_bytes": Bound(),
    "row_loads_128_share": Bound(absolute=0.005, rises=False),
    "atomics": Bound(),
    "bytes_per_token": Bound(relative=0.02),
    "torch_bytes_per_token": Bound(relative=0.02),
    "issued_bytes_per_token": Bound(relative=0.05),
    "bytes_over_minimum": Bound(relative=0.02),
}
"""Metric -> bound. A change of registers within one allocation unit (8) changes nothing at run time; counted bytes vary by less
than a percent with the random sample, issued bytes by a little more with how slots fall into tiles."""


def regressions(rows: Iterable[BenchRow], published: Iterable[BenchRow]) -> list[Verdict]:
    """A verdict for every number that was published before and has a bound; what is new, or gone, is not compared."""
    before = {key: row for row in published for key in _keys(row)}
    found: dict[str, Verdict] = {}
    for row in rows:
        for key in _keys(row):
            old, bound = before.get(key), BOUNDS.get(row.metric)
            if old is None or bound is None or old.value is None:
                continue
            verdict = _compare(row, old.value, bound)
            found[verdict.sentence] = verdict
    return list(found.values())


def _compare(row: BenchRow, old: float, bound: Bound) -> Verdict:
    where = f"{row.subject} ({row.variant}; {', '.join(f'{name} {value}' for name, value in row.case.items())})"
    if row.value is None:
        return Verdict("no regression", False, f"{where}: {row.metric} was {old:g} and is missing: {row.unscored}")
    margin = bound.absolute + bound.relative * abs(old)
    limit = old + margin if bound.rises else old - margin
    worse = row.value > limit + 1e-9 if bound.rises else row.value < limit - 1e-9
    return Verdict(
        "no regression", not worse, f"{where}: {row.metric} went from {old:g} to {row.value:g}; the bound is {limit:g}"
    )


def _keys(row: BenchRow) -> Iterator[tuple[object, ...]]:
    """One key for each width and k that a row speaks for."""
    rest = tuple(sorted((name, value) for name, value in row.case.items() if name not in ("width", "k")))
    parts = [str(row.case.get(name, "")).split(SEPARATOR) for name in ("width", "k")]
    for width, k in product(*parts):
        yield (row.subject, row.variant, row.metric, rest, width, k)
