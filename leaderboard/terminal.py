"""The board on a terminal, by rich."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from musae.leaderboard.layout import GAPS, Grid, grids
from musae.leaderboard.notes import LEGEND, about, notes
from musae.leaderboard.standing import Board

STYLES = {
    "": "",
    "name": "bold",
    "first": "bold green",
    "tied": "green",
    "beats": "bold yellow",
    "ties": "yellow",
    "dim": "dim",
}


def terminal(boards: Sequence[Board], width: int, color: bool) -> str:
    """The boards as text, at most `width` characters across, with terminal colours if `color`."""
    console = _console(width, color)
    for board in boards:
        console.print(Text(about(board), style="bold"))
        for grid in grids(board, width):
            console.print()
            console.print(_table(grid, grid.gap(width) or GAPS[-1]))
        console.print()
        console.print(_words([*LEGEND, *(("note", line) for line in notes(board))]))
    return _text(console)


def plain(grids: Sequence[Grid], width: int, color: bool) -> str:
    """Grids alone, as text."""
    console = _console(width, color)
    for grid in grids:
        console.print(_table(grid, grid.gap(width) or GAPS[-1]))
        console.print()
    return _text(console)


def _console(width: int, color: bool) -> Console:
    system: Literal["standard"] | None = "standard" if color else None
    return Console(file=io.StringIO(), width=width, force_terminal=color, color_system=system, highlight=False)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def _table(grid: Grid, gap: int) -> Table:
    table = Table(
        title=Text(grid.title, style="bold cyan"), title_justify="left", box=None, padding=(0, gap, 0, 0), pad_edge=False
    )
    for i, heading in enumerate(grid.header):
        table.add_column(Text(heading.text, style=STYLES[heading.style]), justify="right" if i else "left", no_wrap=True)
    for title, rows in grid.sections:
        if title:
            table.add_row(Text(title, style="bold"))
        for row in rows:
            table.add_row(*(Text(shown.text, style=STYLES[shown.style]) for shown in row))
    return table


def _words(lines: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for sign, meaning in lines:
        table.add_row(Text(sign, style="dim"), Text(meaning, style="dim"))
    return table
