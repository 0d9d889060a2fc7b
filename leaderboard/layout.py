"""From a board to grids of text, whatever they are printed on.

Few methods: one grid a corpus, a line for every score and a column for every method. Where that is wider than the page: one
grid a task, a line for every method and a column for every score, split where even that is too wide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from musae.leaderboard.compare import Interval
from musae.leaderboard.standing import Board, Column, CorpusBoard, Line, Standing

Style = Literal["", "name", "first", "tied", "beats", "ties", "dim"]
ARROW = {"higher": " ↑", "lower": " ↓", "none": ""}
MARK = {"": "", "beats": "▲", "ties": "≈"}
GAPS = (2, 1)
"""Spaces between columns, where there is room and where there is not."""


@dataclass(frozen=True)
class Shown:
    """A cell's text and how it is set off."""

    text: str
    style: Style = ""


@dataclass(frozen=True)
class Grid:
    """A table of text: the first column is left-aligned, the others are numbers."""

    title: str
    header: tuple[Shown, ...]
    """Texts may have several lines."""
    sections: tuple[tuple[str, tuple[tuple[Shown, ...], ...]], ...]
    """(title, rows)."""

    def width(self, gap: int) -> int:
        """Characters across, with `gap` spaces between columns."""
        rows = [self.header, *((Shown(title), *row[1:]) for title, rows in self.sections for row in rows)]
        rows += [row for _, rows in self.sections for row in rows]
        return sum(max(_extent(row[i].text) for row in rows) + gap for i in range(len(self.header))) - gap

    def gap(self, width: int) -> int | None:
        """The widest gap with which it fits into `width` characters; None when none does."""
        return next((gap for gap in GAPS if self.width(gap) <= width), None)


def grids(board: Board, width: int) -> list[Grid]:
    """All grids of a board, each at most `width` characters across where its longest cells allow."""
    found: list[Grid] = []
    for corpus in board.corpora:
        whole = by_score(corpus)
        found += [whole] if whole.gap(width) else list(by_method(corpus, width))
    return found


def by_score(corpus: CorpusBoard) -> Grid:
    """A line for every score, a column for every method; a section for every task and level of truth."""
    sections = []
    for (task, version, truth), lines in groupby(corpus.lines, key=lambda line: (line.task, line.version, line.truth)):
        rows = tuple(
            (Shown(f"  {line.name}{ARROW[line.direction]}"), *(_cell(line, c, corpus.ranked(c)) for c in corpus.columns))
            for line in lines
        )
        sections.append((f"{task}@{version}" + (f" · {truth}" if truth else ""), rows))
    header = (Shown(""), *(_heading(column, corpus) for column in corpus.columns))
    return Grid(_title(corpus, corpus.lines), header, tuple(sections))


def by_method(corpus: CorpusBoard, width: int) -> Iterator[Grid]:
    """A line for every method, a column for every score; a grid for every task, or several of even size where one is too wide."""
    for (task, version), members in groupby(corpus.lines, key=lambda line: (line.task, line.version)):
        lines = list(members)
        for parts in range(1, len(lines) + 1):
            size = -(-len(lines) // parts)
            split = [_methods(corpus, f"{task}@{version}", lines[i : i + size]) for i in range(0, len(lines), size)]
            if size == 1 or all(grid.gap(width) for grid in split):
                yield from split
                break


def number(value: float, decimals: int) -> str:
    """A value to so many decimals, without a zero before the point: ``.267``, ``-.05``, ``32.0``, ``1,204``."""
    text = f"{value:z,.{decimals}f}"
    return text.replace("0.", ".", 1) if decimals and text.removeprefix("-").startswith("0.") else text


def half_width(interval: Interval) -> float | None:
    """The longer arm of the combined interval; None where nothing was resampled."""
    if interval.pieces is None and interval.seeds is None:
        return None
    return max(interval.high - interval.value, interval.value - interval.low)


def _methods(corpus: CorpusBoard, task: str, lines: Sequence[Line]) -> Grid:
    sections = []
    for key, members in groupby(corpus.columns, key=lambda c: (corpus.ranked(c), c.group if corpus.ranked(c) else None)):
        group = key[1]
        rows = tuple(
            (Shown(_method(column, corpus)), *(_cell(line, column, corpus.ranked(column)) for line in lines))
            for column in members
            if any(line.standings[column] != Standing() for line in lines)
        )
        if rows:
            sections.append((f"width {group[0]:,} · L0 {group[1]:g}" if group else "beside, unranked", rows))
    names = ("\n".join(filter(None, (*line.name.split(" "), line.truth))) + ARROW[line.direction] for line in lines)
    header = (Shown(""), *(Shown(name) for name in names))
    return Grid(f"{_title(corpus, lines)} · {task}", header, tuple(sections))


def _cell(line: Line, column: Column, ranked: bool) -> Shown:
    standing = line.standings[column]
    if standing.interval is None:
        return Shown("unscored" if standing.unscored else "–", "dim")
    decimals = _decimals(line)
    text, half = number(standing.interval.value, decimals), half_width(standing.interval)
    if half is not None:
        text += "±" + number(half, decimals)
    if standing.mark == "beats" or not ranked:
        text = MARK[standing.mark] + text
    if standing.rank is not None:
        text = f"{standing.rank}{'=' if standing.tied else ' '} {text}"
    return Shown(text, _style(column, standing))


def _style(column: Column, standing: Standing) -> Style:
    if standing.mark:
        return standing.mark
    if standing.rank == 1:
        return "tied" if standing.tied else "first"
    return "dim" if column.beside else ""


def _decimals(line: Line) -> int:
    """Digits behind the point, the same all along a line: about four significant ones of its largest value."""
    largest = max((abs(s.interval.value) for s in line.standings.values() if s.interval), default=0.0)
    return 3 if largest < 9.9995 else 2 if largest < 99.995 else 1 if largest < 999.95 else 0


def _heading(column: Column, corpus: CorpusBoard) -> Shown:
    """Name (a long one broken behind slashes and underscores), role, and what tells it from others of its name."""
    name = column.name if len(column.name) <= 9 else column.name.replace("/", "/\n").replace("_", "_\n")
    sizes = f"{column.width}/{column.k:g}" if len(corpus.groups) > 1 and column.k is not None else ""
    return Shown("\n".join(filter(None, (name, column.role, sizes, *_difference(column, corpus)))), "name")


def _method(column: Column, corpus: CorpusBoard) -> str:
    inside = (*([column.role] if column.role != "method" else []), *_difference(column, corpus))
    return f"  {column.name} ({', '.join(inside)})" if inside else f"  {column.name}"


def _difference(column: Column, corpus: CorpusBoard) -> list[str]:
    """Training frames and tuning budget, where columns of the same name and sizes differ in them."""
    others = [c for c in corpus.columns if (c.name, c.group) == (column.name, column.group)]
    found = [f"{column.training_frames:,} fr."] if len({c.training_frames for c in others}) > 1 else []
    return found + ([f"{column.configurations} tried"] if len({c.configurations for c in others}) > 1 else [])


def _title(corpus: CorpusBoard, lines: Iterable[Line]) -> str:
    pieces = sorted({line.pieces for line in lines if line.pieces})
    count = "" if not pieces else f" · {pieces[0]} pieces" if len(pieces) == 1 else f" · {pieces[0]} to {pieces[-1]} pieces"
    return f"{corpus.corpus}@{corpus.revision}{count}"


def _extent(text: str) -> int:
    return max(map(len, text.split("\n")))
