"""The board as Markdown (GitHub's dialect), for READMEs."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from musae.leaderboard.layout import Grid, Shown, grids
from musae.leaderboard.notes import LEGEND, about, notes
from musae.leaderboard.standing import Board

EMPHASIS = {"first": "**", "beats": "**"}


def markdown(boards: Sequence[Board], width: int) -> str:
    """The boards as Markdown tables; they change to a line a method where they would be wider than `width` characters."""
    parts = []
    for board in boards:
        parts.append(f"**{escape(about(board))}**")
        parts += [_table(grid) for grid in grids(board, width)]
        parts.append(
            "\n".join([*(f"- {sign}: {meaning}" for sign, meaning in LEGEND), *(f"- {escape(line)}" for line in notes(board))])
        )
    return "\n\n".join(parts) + "\n"


def plain(grids: Sequence[Grid]) -> str:
    """Grids alone, as Markdown."""
    return "\n\n".join(map(_table, grids)) + "\n"


def escape(text: str) -> str:
    """Text that Markdown and HTML take literally, on one line, also inside a table."""
    return re.sub(r"([\\|`*\[\]])", r"\\\1", html.escape(text, quote=False)).replace("\n", "<br>")


def _table(grid: Grid) -> str:
    lines = [f"**{escape(grid.title)}**", "", _row([escape(re.sub(r"([_/])\n", r"\1", heading.text)) for heading in grid.header])]
    lines.append(_row(["---", *["--:"] * (len(grid.header) - 1)]))
    for title, rows in grid.sections:
        if title:
            lines.append(_row([f"**{escape(title)}**", *[""] * (len(grid.header) - 1)]))
        lines += [_row([_cell(shown) for shown in row]) for row in rows]
    return "\n".join(lines)


def _cell(shown: Shown) -> str:
    around = EMPHASIS.get(shown.style, "")
    return around + escape(" ".join(shown.text.split())) + around


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
