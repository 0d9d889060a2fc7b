"""`musae score`: somebody's dictionary on the board."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.cli import options
from musae.files import runs_root

if TYPE_CHECKING:
    from musae.card import SuiteCard


@click.command("score")
@click.argument("dictionary")
@options.suite
@options.root
def command(dictionary: str, suite: SuiteCard, root: Path | None) -> None:
    """Score a dictionary with a suite's tasks and print it beside the rows of the suite's own run, controls among them.

    Where the suite was not run here, the published rows of the checkout stand beside it.

    DICTIONARY is a file that musae saved, a checkpoint of SAELens, sparsify, dictionary_learning, Gemma Scope or overcomplete
    (its folder, or its file of weights), or a Hugging Face hub id such as org/repo/folder. The format is recognised; what was
    understood is printed first. A checkpoint of another library is scored as it is.

    \b
    Examples:
      musae score runs/mine.safetensors
      musae score checkpoints/layers.5 --suite full
      musae score org/repo/layers.5
    """
    from musae.cli.progress import progress
    from musae.cli.published import of_suite
    from musae.evaluation import check_stream, score
    from musae.formats.recognise import describe, load
    from musae.leaderboard import render_files
    from musae.results import read_all
    from musae.workspace import Workspace

    loaded = load(dictionary)
    click.echo(describe(loaded) + "\n")
    with progress() as show:
        workspace = Workspace(suite, root if root is not None else runs_root(), show)
        check_stream(workspace, loaded, dictionary)
        for corpus in workspace.suite.corpora:
            show(f"score on {corpus}", 0, 1)
            score(workspace, loaded, loaded.seed, corpus, workspace.scored)
            show(f"score on {corpus}", 1, 1)
    beside = [workspace.results] if workspace.results.exists() else of_suite(suite)
    if beside != [workspace.results]:
        where = f"beside it stand the published rows, {beside[0]}" if beside else "no rows stand beside it"
        click.echo(f"suite {suite.name!r} was not run here: {where}; `musae run`, so told, makes its own.\n", err=True)
    width = max(80, shutil.get_terminal_size((120, 24)).columns)
    click.echo(render_files(read_all(*beside, workspace.scored), "table", width=width, color=sys.stdout.isatty()), nl=False)
