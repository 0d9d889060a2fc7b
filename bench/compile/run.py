"""The whole bench: record on the interpreter, compile ahead of time, judge. Each step runs in processes of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import musae.kernels
from musae import provenance
from musae.bench.compile import gates, report, sass
from musae.bench.compile.build import ARCHITECTURES, Built
from musae.bench.rows import BenchDocument, document, read
from musae.errors import UserError

MEMORY = 5 * 2**30
"""Bytes that a process needs to record the widest encoder."""
Progress = Callable[[str, int, int], None]
"""Is told what is done, how much of it, of how much."""


@dataclass(frozen=True)
class Outcome:
    """Everything that a run found."""

    kernels: list[report.Kernel]
    stages: list[report.Stage]
    verdicts: list[gates.Verdict]
    document: BenchDocument

    @property
    def failures(self) -> list[gates.Verdict]:
        """The gates that failed."""
        return [verdict for verdict in self.verdicts if not verdict.passed]


def run(
    operations: Sequence[str],
    architectures: Sequence[str],
    widths: Sequence[int],
    ks: Sequence[int],
    published: Path,
    progress: Progress,
) -> Outcome:
    """Record, compile and judge; compare with the rows in the file `published`, where it exists.

    Raises UserError for an unknown op or architecture, where Triton is missing, and where the kernels are edited meanwhile.
    """
    check(operations, architectures)
    before = read(published) if published.exists() else None
    start, sources = time.perf_counter(), _sources()
    with tempfile.TemporaryDirectory(prefix="musae-compile-") as folder:
        records = _record(Path(folder), operations, widths, ks, progress)
        built = _build(Path(folder), records, architectures, progress)
    if _sources() != sources:
        raise UserError("the kernels' source files changed while they were recorded and compiled; run the bench again.")
    stages = list(report.stages(records))
    kernels = list(report.kernels(records, built))
    made = document(
        "compile",
        report.rows(kernels, stages),
        device=f"compiled, not run: {', '.join(architectures)}; counted in Triton's interpreter",
        threads=1,
        seconds=time.perf_counter() - start,
    )
    verdicts = gates.judge(kernels, stages)
    verdicts += gates.regressions(made.rows, before.rows) if before else []
    return Outcome(kernels, stages, verdicts, made)


def published_file(results: Path) -> Path:
    """Where the rows of this version of Triton are published: the compiler decides about registers as much as the source."""
    return results / "bench" / "compile" / f"triton-{_triton_version()}.json"


def check(operations: Sequence[str], architectures: Sequence[str]) -> None:
    """Raise UserError for an op or architecture that is not known, and where Triton is missing."""
    from musae.bench.compile.subjects import subjects

    _triton_version()
    for kind, given, known in (("op", operations, subjects()), ("architecture", architectures, ARCHITECTURES)):
        for name in given:
            if name not in known:
                raise UserError(f"no {kind} is named {name!r}; take one of {', '.join(known)}.")


def _triton_version() -> str:
    if find_spec("triton") is None:
        raise UserError("triton is not installed, and compiles the kernels; install it (Linux, x86-64) to run this bench.")
    return version("triton")


def _sources() -> str:
    """A digest of the kernels' source: records name lines of it."""
    files = sorted(Path(musae.kernels.__path__[0]).rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _record(
    folder: Path, operations: Sequence[str], widths: Sequence[int], ks: Sequence[int], progress: Progress
) -> list[dict[str, Any]]:
    """Records of the ops at all sizes, one process for each, the longest first; one size of each op has busy latents too."""
    commands: dict[str, Sequence[str | Path]] = {}
    for width, k in sorted(product(widths, ks), reverse=True):
        for op in operations:
            busy = ["busy"] if (width, k) == (min(widths), min(ks)) else []
            out = folder / f"{op}-{width}-{k}.json"
            commands[f"{op}, F = {width}, k = {k}"] = ("musae.bench.compile.record", out, op, str(width), str(k), *busy)
    _processes(commands, {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}, progress)
    return [json.loads((folder / f"{op}-{width}-{k}.json").read_text()) for op in operations for width, k in product(widths, ks)]


def _build(folder: Path, records: Sequence[Mapping[str, Any]], architectures: Sequence[str], progress: Progress) -> list[Built]:
    """Every kernel of the records, once, for every architecture; a line that read rows anywhere does so in every kernel."""
    notes = {note["key"]: note for record in records for note in record["kernels"]}
    row_lines = sorted({(file, line) for record in records for file, line in record["row_lines"]})
    stages = [stage for record in records for case in record["cases"] for stage in case.get("stages", {}).values()]
    real = {key for stage in stages for key in stage["real"]}
    wanted = [{"specialisation": note["specialisation"], "row_lines": row_lines} for key, note in notes.items() if key in real]
    parts = [part for part in (wanted[start :: jobs()] for start in range(jobs())) if part]
    commands: dict[str, Sequence[str | Path]] = {}
    for number, part in enumerate(parts):
        (folder / f"wanted-{number}.json").write_text(json.dumps(part))
        files = folder / f"wanted-{number}.json", folder / f"built-{number}.json"
        commands[f"kernels compiled, part {number + 1} of {len(parts)}"] = ("musae.bench.compile.build", *files, *architectures)
    # a cache of its own: what is kept from another checkout names the lines of that checkout's files, and would be read wrongly
    _processes(commands, {"TRITON_CACHE_DIR": str(folder / "triton"), "TRITON_INTERPRET": "0"}, progress)
    made = [one for number in range(len(parts)) for one in json.loads((folder / f"built-{number}.json").read_text())]
    return [_built(one) for one in made]


def _built(made: Mapping[str, Any]) -> Built:
    code = made["code"]
    if code is not None:
        code = sass.Code(**{**code, "atomic_lines": tuple((file, line) for file, line in code["atomic_lines"])})
    return Built(**{**made, "code": code})


def jobs() -> int:
    """Processes at a time: as many as there are cores and memory for."""
    return max(1, min(provenance.cores(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEMORY))


def _processes(commands: Mapping[str, Sequence[str | Path]], environment: Mapping[str, str], progress: Progress) -> None:
    """Run Python modules, `jobs` at a time; their lines of JSON are progress. Ends them all where one fails."""
    started: list[subprocess.Popen[str]] = []

    def one(what: str, command: Sequence[str | Path]) -> None:
        with tempfile.TemporaryFile("w+") as errors:
            child = subprocess.Popen(
                [sys.executable, "-m", *map(str, command)],
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            started.append(child)
            assert child.stdout is not None
            for text in child.stdout:
                with suppress(ValueError):  # a line that a library printed
                    told = json.loads(text)
                    progress(what, told["done"], told["of"])
            if child.wait():
                errors.seek(0)
                last = (errors.read().strip().splitlines() or [f"exit code {child.returncode}"])[-1]
                raise UserError(f"{what}: the process ended early ({last}); if memory is short, give --width and --op.")

    with ThreadPoolExecutor(jobs()) as pool:
        waiting = [pool.submit(one, what, command) for what, command in commands.items()]
        try:
            for job in waiting:
                job.result()
        except BaseException:
            for job in waiting:
                job.cancel()
            for child in started:
                child.terminate()
            raise


def summary(outcome: Outcome) -> dict[str, tuple[int, int]]:
    """By gate: how many passed, of how many."""
    found: dict[str, tuple[int, int]] = {}
    for verdict in outcome.verdicts:
        passed, total = found.get(verdict.gate, (0, 0))
        found[verdict.gate] = passed + verdict.passed, total + 1
    return found
