"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

suite: Callable[[Any], Any] = click.option(
    "--suite", default="quick", show_default=True, metavar="NAME", help="What to run: see `musae list suites`."
)
root: Callable[[Any], Any] = click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    envvar="MUSAE_RUNS",
    help="Where artefacts and rows are kept; what lies there is not computed again.  [default: runs]",
)
settings: Callable[[Any], Any] = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the method's constructor or of its recipe (musae/recipe.py), as learning_rate=1e-3. May be repeated.",
)
