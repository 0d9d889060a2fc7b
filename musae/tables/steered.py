"""Steering rates by layer, read from what `musae steer` wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from musae.errors import UserError
from musae.steering.report import Report
from musae.tables.schema import Estimate, Setting, Steered


def read(folders: Sequence[Path], generator: str, settings: Mapping[str, Setting]) -> list[Steered]:
    """One row a folder, by layer. `settings`: of the sweep's dictionaries, by their content hash.

    Raises UserError for a folder without a readable ``scores.json``, or of another generator (name@revision).
    """
    rows = []
    for folder in folders:
        report = _report(folder / "scores.json")
        if report.generator != generator:
            raise UserError(
                f"{folder / 'scores.json'}: generator {report.generator}, and the sweep's is {generator}; leave it out."
            )
        rows.append(_row(folder, report, settings))
    return sorted(rows, key=lambda row: (row.layer, row.folder))


def _report(path: Path) -> Report:
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give a folder that `musae steer --out` has written."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise UserError(f"{path}: {where}: {first['msg']}; run `musae steer` again with this version.") from error


def _row(folder: Path, report: Report, settings: Mapping[str, Setting]) -> Steered:
    effects = [found for found in report.concepts if found.verdict == "effect"]
    scored = sum(found.verdict != "unscored" for found in report.concepts)
    return Steered(
        folder=str(folder),
        layer=report.layer,
        method=report.method,
        dictionary=report.dictionary,
        setting=settings.get(report.dictionary),
        scored=scored,
        unscored=len(report.concepts) - scored,
        effect=len(effects),
        beyond_searched=sum(found.beyond_searched is not None and found.beyond_searched.low > 0 for found in effects),
        share=wilson(len(effects), scored),
    )


def wilson(hits: int, n: int) -> Estimate:
    """A share with Wilson's 95 % interval (Wilson 1927)."""
    if not n:
        return Estimate(unscored="no concept could be scored")
    z, p = 1.959964, hits / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((centre + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return Estimate(value=p, low=max(0.0, low), high=min(1.0, high))
