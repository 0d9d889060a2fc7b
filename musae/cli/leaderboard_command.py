"""`musae leaderboard`: the table of any rows."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from musae.files import atomic_path


@click.command("leaderboard")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["table", "markdown", "csv"]), default="table", show_default=True)
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write to a file.")
def command(paths: tuple[Path, ...], form: str, output: Path | None) -> None:
    """Print the leaderboard of rows under PATHS (default: results/). Nothing is computed anew.

    \b
    Examples:
      musae leaderboard
      musae leaderboard runs/ --format markdown -o table.md
      musae leaderboard results/ their_results/ --format csv
    """
    from musae.leaderboard import render

    width = max(80, shutil.get_terminal_size((120, 24)).columns)
    color = output is None and sys.stdout.isatty()
    text = render(paths or (Path("results"),), form, width=width, color=color)  # type: ignore[arg-type]
    if output is None:
        click.echo(text, nl=False)
        return
    with atomic_path(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    click.echo(f"wrote {output}", err=True)
