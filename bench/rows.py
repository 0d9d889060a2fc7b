"""Rows of measurements of speed, memory and compiled code, and the files that hold them.

A file is one run of one bench on one machine: ``results/bench/<bench>/<machine>.json``. A row is one number of one subject in one
case; it says how it is known (`known`), so that what was compiled or counted is never read as what was timed. An absent number
is None with a reason in `unscored`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from musae.bench.rounds import Estimate
from musae.errors import UserError
from musae.files import atomic_path
from musae.results.made import provenance
from musae.results.schema import Finite, Name, Provenance, Text

FORMAT = 1
"""Version of the file format."""


class BenchRow(BaseModel):
    """One number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: Name
    """What was measured: an op, a kernel or a library."""
    variant: Text = ""
    """Which of its variants: a path (``portable``, ``extension``), a setting of a peer, an architecture (``sm_90``)."""
    case: dict[str, int | str]
    """The problem: ``d``, ``width``, ``k``, ``n``, ``dtype``, ``size``, ``stage``, ``threads``, ... as far as they apply."""
    metric: Name
    """What the number is: ``tokens_per_s``, ``cpu_ms``, ``peak_mb``, ``registers``, ..."""
    unit: Text = ""
    """Unit of the value; empty for counts and ratios."""
    value: Finite | None = None
    low: Finite | None = None
    """Lower end of the 95 % interval, where there is one."""
    high: Finite | None = None
    """Upper end of the same interval."""
    rounds: Annotated[int, Field(ge=0)] = 0
    """Measurements that the value is the median of; 0 where it is no statistic."""
    known: Literal["measured", "compiled", "counted", "derived"]
    """``measured``: timed or read from the system while it ran; ``compiled``: read from machine code that was not run;
    ``counted``: counted while the interpreter executed; ``derived``: computed from other rows of the file."""
    unscored: str = ""
    """Why there is no value; empty where there is one."""

    @model_validator(mode="after")
    def _one_of_value_and_reason(self) -> BenchRow:
        if (self.value is None) != bool(self.unscored):
            raise ValueError("a row has either a value or a reason in `unscored`")
        return self

    @property
    def key(self) -> tuple[object, ...]:
        """What identifies a row within its file."""
        return (self.subject, self.variant, tuple(sorted(self.case.items())), self.metric)


class BenchDocument(BaseModel):
    """A file of rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    bench: Name
    """Which bench: ``compile``, ``peers``, ``parity``, ``curves``, ``ci``, ``crossover``."""
    provenance: Provenance
    rows: tuple[BenchRow, ...]

    @model_validator(mode="after")
    def _keys_are_unique(self) -> BenchDocument:
        keys = [row.key for row in self.rows]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the row {twice} occurs twice")
        return self

    def find(self, **wanted: object) -> list[BenchRow]:
        """Rows whose fields, or entries of `case`, have the values asked for."""
        return [row for row in self.rows if all({**row.case, **dict(row)}.get(name) == value for name, value in wanted.items())]

    def write(self, path: Path) -> Path:
        """Write the document, one row a line, atomically."""
        head = self.model_dump(mode="json", exclude={"rows"})
        lines = [f" {json.dumps(name)}: {json.dumps(value, sort_keys=True)}" for name, value in head.items()]
        rows = ",\n".join("  " + json.dumps(row.model_dump(mode="json", exclude_defaults=True)) for row in self.rows)
        with atomic_path(path) as temporary:
            temporary.write_text("{\n" + ",\n".join([*lines, f' "rows": [\n{rows}\n ]']) + "\n}\n", encoding="utf-8")
        return path


def document(bench: str, rows: Iterable[BenchRow], *, device: str, threads: int, seconds: float) -> BenchDocument:
    """Rows that this process made just now, with their provenance."""
    made = provenance(device=device, threads=threads, seconds=seconds)
    return BenchDocument(bench=bench, provenance=made, rows=tuple(rows))


def estimated(
    subject: str, case: dict[str, int | str], metric: str, unit: str, found: Estimate, known: str, variant: str = ""
) -> BenchRow:
    """The row of an estimate."""
    fields = {"value": found.value, "low": found.low, "high": found.high, "rounds": found.rounds, "variant": variant}
    return BenchRow.model_validate({"subject": subject, "case": case, "metric": metric, "unit": unit, "known": known, **fields})


def read(path: Path) -> BenchDocument:
    """Read a file of rows. Raises UserError for a file that is missing or does not hold them."""
    try:
        return BenchDocument.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; give a file that `musae bench` wrote.") from error
    except (ValidationError, ValueError, OSError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{path}: not a file of bench rows ({first}); make it again with `musae bench`.") from error


def slug(words: str) -> str:
    """A machine's or a version's name as part of a path: ``AMD EPYC 9B45`` -> ``amd-epyc-9b45``."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "unknown"
