"""What a run of the gate leaves: JUnit XML, Markdown, pytest-benchmark JSON of both sides, and a table for the terminal.

- ``junit.xml``: the kernels' tests as pytest reported them, and a suite `musae ci` with one case a bench;
- ``summary.md``: fit for a comment on a pull request and for ``$GITHUB_STEP_SUMMARY``;
- ``base.json``, ``head.json``: as ``pytest --benchmark-json`` writes them, for ``pytest-benchmark compare base.json head.json``.
  They exist only where speed was measured.
"""

from __future__ import annotations

import copy
import io
import json
import platform
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from musae import __version__
from musae.bench.ci.checkouts import Checkout
from musae.bench.ci.decide import ALPHA, MARGIN, Decision
from musae.bench.ci.gate import SUITE, Outcome
from musae.bench.ci.pairs import RESTARTS, Bench, Side
from musae.files import atomic_path
from musae.provenance import processor

JUNIT, MARKDOWN = "junit.xml", "summary.md"
BENCHMARKS: dict[Side, str] = {"base": "base.json", "head": "head.json"}
STYLES = {"slower": "bold red", "broken": "bold red", "faster": "bold green", "same": "green", "unclear": "yellow"}
HEADER = ("bench", "base ms", "head ms", f"ratio [range of {RESTARTS} restarts]", "Cliff's delta", "p adjusted", "verdict")
NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(outcome: Outcome, folder: Path, stored: Mapping[str, float]) -> list[Path]:
    """Write the files of an outcome into a folder; files of an earlier run that this one does not replace are removed.

    Raises UserError where the folder cannot be written.
    """
    texts = {JUNIT: junit(outcome), MARKDOWN: markdown(outcome, stored)}
    if outcome.device:
        texts |= {name: json.dumps(benchmarks(outcome, side), indent=1) + "\n" for side, name in BENCHMARKS.items()}
    for name in {*BENCHMARKS.values()} - {*texts}:
        (folder / name).unlink(missing_ok=True)
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def headline(outcome: Outcome) -> str:
    """The outcome in one line."""
    if not outcome.tests.green:
        return f"FAILED: {outcome.tests.words}; no speed was measured"
    failing = [decision for decision in outcome.decisions if decision.fails]
    compared = sum(decision.effect is not None for decision in outcome.decisions)
    if outcome.failed and not failing:
        return f"FAILED: {outcome.tests.words}; no bench ran in both checkouts, so nothing was compared"
    if not failing:
        return f"passed: {outcome.tests.words}; none of {_count(compared)} is shown to be slower"
    parts = []
    for verdict, words in (("slower", f"slower by more than {MARGIN:.0%}"), ("broken", "broken")):
        names = [decision.bench for decision in failing if decision.verdict == verdict]
        if names:
            parts.append(f"{', '.join(names)} {'are' if len(names) > 1 else 'is'} {words}")
    return f"FAILED: {outcome.tests.words}; {'; '.join(parts)}"


def method(outcome: Outcome) -> str:
    """How the figures came about."""
    pairs = max((len(bench.times["head"][0]) for bench in outcome.benches if bench.times["head"]), default=0)
    return (
        f"{outcome.clock} of a call on {outcome.device}; {RESTARTS} restarts x {pairs} interleaved pairs a bench. "
        f"slower: by more than {MARGIN:.0%}, by a Mann-Whitney test stratified by restart, Holm-adjusted to {ALPHA:.0%} over all "
        f"benches, and in at least {RESTARTS - 1} restarts. same: shown to lie within {MARGIN:.0%}. unclear: neither is shown."
    )


def cells(decision: Decision) -> tuple[str, ...]:
    """A decision as the columns of `HEADER`."""
    found = decision.effect
    return (
        decision.bench,
        _ms(decision.base),
        _ms(decision.head),
        f"{found.ratio:.3f} [{found.low:.3f}, {found.high:.3f}]" if found else "",
        f"{found.delta:+.2f}" if found else "",
        "" if decision.p is None else "< 0.0001" if decision.p < 1e-4 else f"{decision.p:.4f}",
        decision.verdict,
    )


def table(outcome: Outcome, stored: Mapping[str, float], width: int, color: bool) -> str:
    """The figures and the headline for a terminal of `width` columns."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=color, color_system="standard" if color else None, highlight=False)
    if outcome.device:
        grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for i, heading in enumerate(_header(stored)):
            numeric = 0 < i < len(HEADER) - 1 or i == len(HEADER)
            grid.add_column(Text(heading), justify="right" if numeric else "left", no_wrap=i in (0, len(HEADER) - 1))
        for decision in outcome.decisions:
            row = _row(decision, stored)
            grid.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
        console.print(grid)
        console.print()
        for decision in outcome.decisions:
            if decision.note:
                console.print(Text(f"{decision.bench}: {decision.note}", style="dim"))
        console.print(Text(method(outcome), style="dim"))
    console.print(Text(headline(outcome), style="bold red" if outcome.failed else "bold green"))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def markdown(outcome: Outcome, stored: Mapping[str, float]) -> str:
    """The summary for people who review a change."""
    lines = [
        f"### musae ci: {_plain(headline(outcome))}",
        "",
        f"{_plain(outcome.head.name)} against {_plain(outcome.base.name)}",
        "",
    ]
    if not outcome.tests.green:
        lines += ["| red test | message |", "| --- | --- |"]
        lines += [f"| {_plain(name)} | {_plain(message)} |" for name, message in _red(outcome)]
        return "\n".join(lines) + "\n"
    header = _header(stored)
    lines += [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    for decision in outcome.decisions:
        row = _row(decision, stored)
        lines.append(f"| {' | '.join(f'**{_plain(cell)}**' if decision.fails and cell else _plain(cell) for cell in row)} |")
    lines += [
        "",
        *(f"- {_plain(d.bench)}: {_plain(d.note)}" for d in outcome.decisions if d.note),
        "",
        f"<sub>{_plain(method(outcome))}",
    ]
    if stored:
        lines[-1] += " stored: the baseline that was given, made at another time; shown, not decided on."
    lines[-1] += "</sub>"
    return "\n".join(lines) + "\n"


def junit(outcome: Outcome) -> str:
    """JUnit XML: the tests' suite, and where speed was measured a suite with one case a bench."""
    root = ET.Element("testsuites", name="musae ci")
    root.append(copy.deepcopy(outcome.tests.report))
    if outcome.device:
        decisions = outcome.decisions
        suite = ET.SubElement(
            root,
            "testsuite",
            name="musae ci",
            tests=str(len(decisions)),
            failures=str(sum(decision.fails for decision in decisions)),
            errors="0",
            skipped=str(sum(decision.effect is None and not decision.fails for decision in decisions)),
            time="0",
        )
        for decision in decisions:
            case = ET.SubElement(
                suite, "testcase", classname="musae.ci", name=_xml(decision.bench), time=f"{decision.head or 0:.9f}"
            )
            words = _xml(", ".join(f"{name} {cell}" for name, cell in zip(HEADER, cells(decision), strict=True) if cell))
            if decision.fails:
                failure = ET.SubElement(case, "failure", type=decision.verdict, message=_xml(decision.note) or words)
                failure.text = words
            elif decision.effect is None:
                ET.SubElement(case, "skipped", message=f"{decision.verdict}: {_xml(decision.note)}")
            else:
                ET.SubElement(case, "system-out").text = words
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def benchmarks(outcome: Outcome, side: Side) -> dict[str, Any]:
    """One side's samples in pytest-benchmark's format."""
    checkout = outcome.base if side == "base" else outcome.head
    measured = [bench for bench in outcome.benches if bench.times[side] and not bench.errors]
    return {
        "machine_info": {
            "node": "", "processor": processor(), "machine": platform.machine(), "python_version": platform.python_version(),
            "python_implementation": platform.python_implementation(), "release": platform.release(), "system": platform.system(),
            "device": outcome.device,
        },
        "commit_info": _commit(checkout),
        "benchmarks": [_benchmark(bench, side, outcome.clock) for bench in measured],
        "datetime": datetime.now(UTC).isoformat(),
        "version": f"musae {__version__}",
    }  # fmt: skip


def _commit(checkout: Checkout) -> dict[str, Any]:
    return {"id": checkout.commit or "unversioned", "dirty": checkout.dirty, "project": "musae", "branch": checkout.name}


def _benchmark(bench: Bench, side: Side, clock: str) -> dict[str, Any]:
    seconds = [value for restart in bench.times[side] for value in restart]
    wall = [value for restart in bench.wall[side] for value in restart]
    return {
        "group": None,
        "name": bench.name,
        "fullname": f"musae ci::{bench.name}",
        "params": None,
        "param": None,
        "extra_info": {"clock": clock, "median_wall_s": float(np.median(wall)), "restarts": len(bench.times[side])},
        "options": {"disable_gc": True, "timer": clock, "min_rounds": len(seconds), "warmup": True},
        "stats": {**_statistics(seconds), "data": seconds, "iterations": bench.repeats},
    }


def _statistics(seconds: Sequence[float]) -> dict[str, Any]:
    x = np.asarray(seconds)
    q1, median, q3 = (float(q) for q in np.quantile(x, (0.25, 0.5, 0.75)))
    mean, deviation, iqr = float(x.mean()), float(x.std(ddof=1)), q3 - q1
    low, high = float(x[x >= q1 - 1.5 * iqr].min()), float(x[x <= q3 + 1.5 * iqr].max())
    far, outside = int((abs(x - mean) > deviation).sum()), int(((x < low) | (x > high)).sum())
    return {
        "min": float(x.min()), "max": float(x.max()), "mean": mean, "stddev": deviation, "rounds": len(x), "median": median,
        "iqr": iqr, "q1": q1, "q3": q3, "iqr_outliers": outside, "stddev_outliers": far, "outliers": f"{far};{outside}",
        "ld15iqr": low, "hd15iqr": high, "ops": 1 / mean, "total": float(x.sum()),
    }  # fmt: skip


def _header(stored: Mapping[str, float]) -> tuple[str, ...]:
    return (*HEADER, "stored ms") if stored else HEADER


def _row(decision: Decision, stored: Mapping[str, float]) -> tuple[str, ...]:
    return (*cells(decision), _ms(stored.get(decision.bench))) if stored else cells(decision)


def _red(outcome: Outcome) -> list[tuple[str, str]]:
    """Names and first lines of the failures."""
    found = []
    for case in outcome.tests.report.iter("testcase"):
        for bad in (*case.findall("failure"), *case.findall("error")):
            name = f"{case.get('classname', '')}::{case.get('name', '')}"
            found.append((name, next(iter((bad.get("message") or bad.text or "").splitlines()), "")))
    return found or [(SUITE.as_posix(), outcome.tests.words)]


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.4g}"


def _count(compared: int) -> str:
    return f"{compared} compared bench{'es' if compared != 1 else ''}"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line, in a cell."""
    return re.sub(r"([\\`*_{}\[\]<>|#~@])", r"\\\1", " ".join(text.split()))


def _xml(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return NOT_XML.sub("?", text)
