"""Rows -> rank groups -> tables. Imports nothing above the rows, so that a table is rebuilt from ``results/`` alone.

`collect` chooses the rows that may be compared, `compare` has the intervals and the test, `board` ranks, `standing` is what it
makes, `layout` and `notes` put it into words, `terminal` and `markdown` print; `agreement` holds a run against published rows,
`seeds` shows how much a score varies between trainings.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from musae.errors import UserError
from musae.results import RowFile, path_of, read_all

Format = Literal["table", "markdown", "csv"]

__all__ = ["Format", "csv", "render", "render_files", "render_seeds"]


def render(paths: Iterable[Path | str], format: Format = "table", *, width: int = 120, color: bool = False) -> str:
    """The leaderboard of all rows under `paths` (folders or files): see `render_files`. Raises UserError when there are none."""
    paths = list(paths)
    files = read_all(*paths)
    if not files:
        raise UserError(f"{', '.join(map(str, paths))}: no rows here; `musae run` writes some.")
    return render_files(files, format, width=width, color=color)


def render_files(files: Iterable[RowFile], format: Format = "table", *, width: int = 120, color: bool = False) -> str:
    """One board a suite as text: for the terminal (`width` characters across), as Markdown, or every row as CSV."""
    if format == "csv":
        return csv(files)
    from musae.leaderboard.board import boards

    if format == "markdown":
        from musae.leaderboard.markdown import markdown

        return markdown(boards(files), width)
    from musae.leaderboard.terminal import terminal

    return terminal(boards(files), width, color)


def render_seeds(
    paths: Iterable[Path | str], metric: str, format: Format = "table", *, width: int = 120, color: bool = False
) -> str:
    """How a main score varies over training seeds (`musae.leaderboard.seeds`). Raises UserError for one that is not there."""
    from musae.leaderboard.seeds import spread

    grids = spread(read_all(*paths), metric)
    if format == "markdown":
        from musae.leaderboard import markdown

        return markdown.plain(grids)
    from musae.leaderboard import terminal

    return terminal.plain(grids, width, color)


def csv(files: Iterable[RowFile]) -> str:
    """Every row in long form, one a line, with its interval and what made it."""
    import pandas

    made = ("commit", "dirty", "device", "threads", "seconds", "created")
    rows = [
        {**row.model_dump(), **file.provenance.model_dump(mode="json", include=set(made))}
        for file in sorted(files, key=lambda file: path_of(file.cell))
        for row in file.rows
    ]
    table = pandas.DataFrame(rows)
    for column in ("seed", "width", "probe_k"):
        table[column] = table[column].astype("Int64")
    return str(table.to_csv(index=False, lineterminator="\n"))
