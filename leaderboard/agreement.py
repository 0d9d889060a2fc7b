"""Verdicts in words, and how a run's rows agree with published ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from musae.leaderboard.standing import Board, Column, CorpusBoard, Line
from musae.results import Cell, Measure, RowFile

RELATION = {1: "is above", 0: "ties with", -1: "is below"}
REVISIONS = ("suite_version", "generator_revision", "corpus_revision", "task_version")
"""What must agree before two rows are compared."""


@dataclass(frozen=True)
class Agreement:
    """A run's main scores against the published ones of its suites: same method, seed, sizes, corpus, task and metric.

    The dictionary's hash is not asked for: another machine's arithmetic trains another dictionary, whose scores ought to agree.
    """

    identical: int = 0
    within: int = 0
    """Different, but inside the published 95 % interval."""
    outside: list[str] = field(default_factory=list)
    """One line each: what, the run's value, the published one."""
    revised: list[str] = field(default_factory=list)
    """Published under another revision or version, and hence not compared."""
    missing: list[str] = field(default_factory=list)
    """Published and not in the run."""
    new: list[str] = field(default_factory=list)
    """In the run and not published."""

    def summary(self) -> str:
        """One line."""
        compared = self.identical + self.within + len(self.outside)
        parts = [f"{self.identical} identical", f"{self.within} within the interval", f"{len(self.outside)} outside"]
        rest = {"of another revision": self.revised, "not in this run": self.missing, "not published": self.new}
        parts += [f"{len(lines)} {what}" for what, lines in rest.items() if lines]
        return f"{compared} main scores compared with published rows: {', '.join(parts)}"

    def details(self) -> list[str]:
        """Everything that is not in agreement, one line each."""
        kinds = {
            "outside": self.outside,
            "another revision": self.revised,
            "not in this run": self.missing,
            "not published": self.new,
        }
        return [f"{kind}: {line}" for kind, lines in kinds.items() for line in lines]


def agreement(run: Iterable[RowFile], published: Iterable[RowFile]) -> Agreement:
    """Hold a run's main scores against published ones."""
    ours, theirs = _main(run), _main(published)
    suites = {cell.suite for cell, _ in ours.values()}
    result, identical, within = Agreement(), 0, 0
    for key, (cell, measure) in ours.items():
        if key not in theirs:
            result.new.append(_name(cell, measure))
            continue
        other, reference = theirs[key]
        revised = [
            f"{name} {getattr(cell, name)}, published {getattr(other, name)}" for name in REVISIONS if _differ(cell, other, name)
        ]
        if revised:
            result.revised.append(f"{_name(cell, measure)}: {'; '.join(revised)}")
        elif (measure.value, measure.unscored) == (reference.value, reference.unscored):
            identical += 1
        elif _inside(measure.value, reference):
            within += 1
        else:
            result.outside.append(f"{_name(cell, measure)}: {_value(measure)}, published {_value(reference)}")
    result.missing.extend(_name(*theirs[key]) for key in theirs if key not in ours and theirs[key][0].suite in suites)
    return Agreement(identical, within, result.outside, result.revised, result.missing, result.new)


def verdicts(board: Board) -> list[str]:
    """What the board says of each method against the others, one line a corpus, pair and outcome."""
    found = []
    for corpus in board.corpora:
        for method, other in _pairs(corpus):
            on: dict[int, list[Line]] = {1: [], 0: [], -1: []}
            for line in corpus.lines:
                order = line.order(method, other)
                if order is not None:
                    on[order].append(line)
            found += [
                f"{corpus.corpus}: {method.name} {RELATION[order]} {other.name} ({other.role}) on {_scores(corpus, lines)}"
                for order, lines in on.items()
                if lines
            ]
    return found


def _pairs(corpus: CorpusBoard) -> Iterator[tuple[Column, Column]]:
    """Every method with every control and baseline, and with the methods behind it; never across two rank groups."""
    for i, method in enumerate(corpus.columns):
        for j, other in enumerate(corpus.columns):
            matched = method.group == other.group or not corpus.ranked(method) or not corpus.ranked(other)
            if method.role == "method" and not other.beside and (other.role != "method" or j > i) and matched:
                yield method, other


def _scores(corpus: CorpusBoard, lines: list[Line]) -> str:
    """Scores in short: ``chords wcsr k=5/20/all, f1_root; key weighted``, with the truth where a corpus has several for one."""
    tasks: dict[str, dict[str, list[str]]] = {}
    for line in lines:
        several = len({x.truth for x in corpus.lines if (x.task, x.metric) == (line.task, line.metric)}) > 1
        metric, _, k = line.name.partition(" k=")
        tasks.setdefault(line.task, {}).setdefault(metric + f" ({line.truth})" * several, []).extend([k] if k else [])
    return "; ".join(
        f"{task} " + ", ".join(metric + (f" k={'/'.join(ks)}" if ks else "") for metric, ks in metrics.items())
        for task, metrics in tasks.items()
    )


def _main(files: Iterable[RowFile]) -> dict[tuple[Cell, str], tuple[Cell, Measure]]:
    """Main scores by what identifies them whatever the revisions; of several, the newest file's."""
    placeholder = {"suite_version": 1, "generator_revision": "any", "corpus_revision": "any", "task_version": 1}
    found = {}
    for file in sorted(files, key=lambda file: file.provenance.created):
        key = file.cell.slot.model_copy(update=placeholder)
        found.update({(key, m.tag): (file.cell, m) for m in file.measures if m.main})
    return found


def _differ(a: Cell, b: Cell, name: str) -> bool:
    return bool(getattr(a, name) != getattr(b, name))


def _inside(value: float | None, reference: Measure) -> bool:
    return (
        value is not None
        and reference.low is not None
        and reference.high is not None
        and reference.low <= value <= reference.high
    )


def _name(cell: Cell, measure: Measure) -> str:
    seed = "" if cell.seed is None else f" seed {cell.seed}"
    k = f" k={measure.probe_k}" if measure.probe_k else ""
    truth = f" ({measure.truth})" if measure.truth else ""
    return f"{cell.title or cell.method}{seed}, {cell.corpus}, {cell.task} {measure.metric}{k}{truth}"


def _value(measure: Measure) -> str:
    if measure.value is None:
        return f"unscored ({measure.unscored})"
    interval = "" if measure.low is None or measure.high is None else f" [{measure.low:.4g}, {measure.high:.4g}]"
    return f"{measure.value:.4g}{interval}"
