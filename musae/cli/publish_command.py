"""`musae publish`: validated rows to results/."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.cli import options
from musae.files import runs_root

if TYPE_CHECKING:
    from musae.card import SuiteCard


@click.command("publish")
@options.suite
@options.root
@click.option(
    "--to",
    "results",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Where to.",
)
def command(suite: SuiteCard, root: Path | None, results: Path) -> None:
    """Copy the validated rows of a suite's run to a folder that is committed.

    Every file is read and checked (schema, replicates, checksum) before the first is copied.

    \b
    Examples:
      musae publish
      musae publish --suite full --to results
    """
    from musae.errors import UserError
    from musae.results import publish
    from musae.workspace import Workspace

    workspace = Workspace(suite, root if root is not None else runs_root())
    if not workspace.results.is_dir():
        raise UserError(f"{workspace.results}: no rows of {suite.name!r} yet; `musae run` with the same options makes them.")
    click.echo(f"{publish(workspace.results, results)} under {results}")
