"""`musae score`: somebody's dictionary on the board."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from musae.cli import options
from musae.files import runs_root


@click.command("score")
@click.argument("dictionary", type=click.Path(path_type=Path))
@options.suite
@options.root
def command(dictionary: Path, suite: str, root: Path | None) -> None:
    """Score a saved dictionary with a suite's tasks and print it beside the rows of the suite's own run.

    \b
    Examples:
      musae score runs/mine.safetensors
      musae score mine.safetensors --suite full
    """
    from musae.cli.progress import progress
    from musae.dictionary import load
    from musae.evaluation import score
    from musae.leaderboard import render_files
    from musae.results import read_all
    from musae.workspace import Workspace, suite_card

    loaded = load(dictionary)
    with progress() as show:
        workspace = Workspace(suite_card(suite), root if root is not None else runs_root(), show)
        for corpus in workspace.suite.corpora:
            show(f"score on {corpus}", 0, 1)
            score(workspace, loaded, loaded.seed, corpus, workspace.scored)
            show(f"score on {corpus}", 1, 1)
    folders = [folder for folder in (workspace.results, workspace.scored) if folder.exists()]
    width = max(80, shutil.get_terminal_size((120, 24)).columns)
    click.echo(render_files(read_all(*folders), "table", width=width, color=sys.stdout.isatty()), nl=False)
