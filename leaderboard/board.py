"""Rows -> boards: seed averages, ranks, ties, and how controls and baselines stand to the best method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from musae import registry
from musae.card import Direction, SuiteCard, TaskCard
from musae.leaderboard.collect import Selection, collect
from musae.leaderboard.compare import Interval, Sample, interval, sign
from musae.leaderboard.standing import ROLES, Board, Column, CorpusBoard, Line, Mark, Standing
from musae.results import Cell, Measure, RowFile

TRUTHS = ("", "exact", "annotated", "derived", "estimated")
BETTER = {"higher": 1, "lower": -1, "none": 0}

Key = tuple[str, str, str, int | None]
"""(task, truth, metric, latents per class that the probe reads): a line."""


@dataclass(frozen=True)
class _Member:
    """A measure in its file."""

    file: RowFile
    measure: Measure

    @property
    def column(self) -> Column:
        if not self.measure.control:
            return column_of(self.file.cell)
        reference = self.measure.control in _references(self.file.cell.task)
        return Column(self.measure.control, "reference" if reference else "null")

    @property
    def key(self) -> Key:
        return self.file.cell.task, self.measure.truth, self.measure.metric, self.measure.probe_k

    @property
    def shape(self) -> tuple[int, int]:
        """Pieces and replicates: what must agree along a line."""
        return self.measure.pieces, len(self.file.replicates[self.measure.tag])


def boards(files: Iterable[RowFile]) -> list[Board]:
    """One board for every suite that occurs in the files."""
    return [_board(selection) for selection in collect(files)]


def _board(selection: Selection) -> Board:
    order = _suite_order(selection.suite)
    cell = selection.files[0].cell
    corpora: dict[str, list[RowFile]] = {}
    for file in selection.files:
        corpora.setdefault(file.cell.corpus, []).append(file)
    made = {(file.provenance.commit[:8] or "unknown", file.provenance.dirty) for file in selection.files}
    return Board(
        suite=selection.suite,
        suite_version=cell.suite_version,
        generator=cell.generator,
        generator_revision=cell.generator_revision,
        layer=cell.layer,
        commits=tuple(commit + "+" * dirty for commit, dirty in sorted(made)),
        corpora=tuple(_corpus(name, corpora[name], order) for name in sorted(corpora, key=_by(order["corpora"]))),
        left_out=selection.left_out,
    )


def _corpus(name: str, files: list[RowFile], order: Mapping[str, Sequence[str]]) -> CorpusBoard:
    members = [_Member(file, measure) for file in files for measure in file.measures if not measure.label]
    main = [member for member in members if member.measure.main]
    controls = [member for member in members if member.measure.control]
    columns = {column_of(file.cell) for file in files}
    together = Counter(column.group for column in columns)
    groups = frozenset(group for group, count in together.items() if group is not None and count > 1)

    def place(column: Column) -> tuple[object, ...]:
        group = (0, column.group) if column.group in groups else (1, None)
        sizes = column.width or 0, column.k or 0.0, column.training_frames, column.configurations
        return *group, ROLES.index(column.role), _by(order["methods"])(column.name), sizes

    ordered = tuple(sorted(columns | {member.column for member in controls}, key=place))
    metrics = list(dict.fromkeys(member.measure.metric for member in main))
    limited = {key[:3] for key in {member.key for member in main} if key[3] is not None}

    def line_order(key: Key) -> tuple[object, ...]:
        task, truth, metric, k = key
        return _by(order["tasks"])(task), TRUTHS.index(truth), metrics.index(metric), k is None, k or 0

    lines = []
    for key in sorted({member.key for member in main}, key=line_order):
        beside = [member for member in controls if member.key[:3] == key[:3] and member.key[3] in (key[3], None)]
        suffix = f" k={key[3]}" if key[3] is not None else " k=all" if key[:3] in limited else ""
        lines.append(_line(key[2] + suffix, ordered, groups, [member for member in main if member.key == key], beside))
    return CorpusBoard(name, files[0].cell.corpus_revision, ordered, groups, tuple(lines))


def _line(
    name: str, columns: Sequence[Column], groups: frozenset[tuple[int, float]], main: list[_Member], controls: list[_Member]
) -> Line:
    first = next((member for member in main if member.measure.value is not None), main[0])
    measure, cell = first.measure, first.file.cell
    shapes = Counter(member.shape for member in main if member.measure.value is not None)
    usual = max(shapes, key=lambda shape: (shapes[shape], shape)) if shapes else (0, 0)
    standings: dict[Column, Standing] = {}
    samples: dict[Column, Sample] = {}
    for column in columns:
        own = [member for member in main if member.column == column]
        seeds = tuple(sorted((member.file.cell.seed for member in own), key=lambda seed: -1 if seed is None else seed))
        reasons = list(dict.fromkeys(filter(None, (_reason(member, usual) for member in own))))
        if column.beside:
            nulls = [member for member in controls if member.column == column]
            exact = [member.measure for member in nulls if member.measure.probe_k == measure.probe_k]
            standings[column] = _null(exact or [member.measure for member in nulls], measure.direction)
        elif reasons:
            standings[column] = Standing(unscored="; ".join(reasons), seeds=seeds)
        elif own:
            sample = _sample(own)
            standings[column] = Standing(interval(sample), seeds=seeds, stream=own[0].file.provenance.stream)
            if measure.truth or not standings[column].stream:
                samples[column] = sample
        else:
            standings[column] = Standing()
    better = BETTER[measure.direction]
    above = _separated(samples, better)
    if better:
        for group in groups:
            _rank(standings, [column for column in samples if column.group == group], above)
        apart = frozenset(column for column in columns if standings[column].interval and not column.beside) - samples.keys()
        for column in columns:
            standings[column] = replace(standings[column], mark=_mark(column, standings, above, better, groups, apart))
    return Line(
        task=cell.task,
        version=cell.task_version,
        metric=measure.metric,
        probe_k=measure.probe_k,
        name=name,
        truth=measure.truth,
        direction=measure.direction,
        pieces=usual[0],
        standings=standings,
        above=above,
    )


def _sample(own: list[_Member]) -> Sample:
    values = {m.file.cell.seed: m.measure.value for m in own if m.measure.value is not None}
    replicates = [m.file.replicates[m.measure.tag].astype(np.float64) for m in own]
    return Sample(values, np.mean(replicates, axis=0))


def _reason(member: _Member, usual: tuple[int, int]) -> str:
    """Why a measure cannot stand on its line; empty when it can."""
    if member.measure.value is None:
        return member.measure.unscored
    if member.shape == usual:
        return ""
    return "scored on {} pieces with {} replicates, the others on {} with {}".format(*member.shape, *usual)


def _null(measures: list[Measure], direction: Direction) -> Standing:
    """The best that any method reaches under a null, or with a reference; where no direction is better, their mean."""
    values = [measure.value for measure in measures if measure.value is not None]
    if not values:
        return Standing(unscored="; ".join(sorted({measure.unscored for measure in measures})))
    value = {"higher": max(values), "lower": min(values), "none": sum(values) / len(values)}[direction]
    return Standing(Interval(value, value, value, None, None))


def _separated(samples: Mapping[Column, Sample], better: int) -> frozenset[tuple[Column, Column]]:
    """Pairs (better, worse) that are separated."""
    columns = list(samples) if better else []
    above = set()
    for i, a in enumerate(columns):
        for b in columns[i + 1 :]:
            towards = sign(samples[a], samples[b]) * better
            if towards:
                above.add((a, b) if towards > 0 else (b, a))
    return frozenset(above)


def _rank(standings: dict[Column, Standing], group: list[Column], above: frozenset[tuple[Column, Column]]) -> None:
    """Set rank and tie of the columns of one rank group."""
    ranks = {b: 1 + sum((a, b) in above for a in group) for b in group}
    shared = Counter(ranks.values())
    for column, rank in ranks.items():
        standings[column] = replace(standings[column], rank=rank, tied=shared[rank] > 1)


def _mark(
    column: Column,
    standings: Mapping[Column, Standing],
    above: frozenset[tuple[Column, Column]],
    better: int,
    groups: frozenset[tuple[int, float]],
    apart: frozenset[Column],
) -> Mark:
    """How a control, baseline or null stands to the best method (of its own rank group, if it is in one).

    What is `apart`, scored on another stream without labels, is not held against it.

    Nulls carry no replicates: they beat the best method beyond its combined interval, and tie with it inside.
    """
    own, intervals = standings[column].interval, {c: s.interval for c, s in standings.items() if s.interval is not None}
    methods = [c for c in intervals if c.role == "method" and (column.group not in groups or c.group == column.group)]
    if column.role == "method" or own is None or not methods or column in apart:
        return ""
    best = max(methods, key=lambda method: intervals[method].value * better)
    if not column.beside:
        return "beats" if (column, best) in above else "" if (best, column) in above else "ties"
    if intervals[best].low <= own.value <= intervals[best].high:
        return "ties"
    return "beats" if (own.value - intervals[best].value) * better > 0 else ""


def column_of(cell: Cell) -> Column:
    """The column that a cell's rows stand in; a title, which two dictionaries may share, is told apart by the hash."""
    name = f"{cell.title}#{cell.dictionary[:6]}" if cell.title else cell.method
    return Column(name, cell.role, cell.width, cell.k, cell.training_frames, cell.configurations)


@cache
def _references(task: str) -> tuple[str, ...]:
    """The controls of a task that are no nulls; none of a task that is not installed here."""
    entry = registry.entries("tasks").get(task)
    return entry.card.references if entry and isinstance(entry.card, TaskCard) else ()


def _suite_order(suite: str) -> dict[str, tuple[str, ...]]:
    """The order in which the suite's card lists things; nothing for a suite that is not installed here."""
    entry = registry.entries("suites").get(suite)
    card = entry.card if entry else None
    if not isinstance(card, SuiteCard):
        return {"methods": (), "tasks": (), "corpora": ()}
    return {"methods": card.members, "tasks": card.tasks, "corpora": card.corpora}


def _by(order: Sequence[str]) -> Callable[[str], tuple[int, str]]:
    """Sort key: names in a given order, then the others by name."""
    return lambda name: (order.index(name) if name in order else len(order), name)
