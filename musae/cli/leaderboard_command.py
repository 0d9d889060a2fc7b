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
@click.option(
    "--seeds", "metric", default=None, metavar="METRIC", help="Show instead how METRIC (`fvu`, say) varies over training seeds."
)
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write to a file.")
def command(paths: tuple[Path, ...], form: str, metric: str | None, output: Path | None) -> None:
    """Print the leaderboard of rows under PATHS (default: results/). Nothing is computed anew.

    \b
    Examples:
      musae leaderboard
      musae leaderboard runs/ --format markdown -o table.md
      musae leaderboard results/ their_results/ --format csv
      musae leaderboard results/ --seeds fvu
    """
    from musae.errors import UserError
    from musae.leaderboard import render, render_seeds

    width = max(80, shutil.get_terminal_size((120, 24)).columns)
    color = output is None and sys.stdout.isatty()
    paths = paths or (Path("results"),)
    if metric is None:
        text = render(paths, form, width=width, color=color)  # type: ignore[arg-type]
    elif form == "csv":
        raise UserError("--seeds makes a table or Markdown; --format csv without it has every seed's row.")
    else:
        text = render_seeds(paths, metric, form, width=width, color=color)  # type: ignore[arg-type]
    if output is None:
        click.echo(text, nl=False)
        return
    with atomic_path(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    click.echo(f"wrote {output}", err=True)
