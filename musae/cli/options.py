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
workers: Callable[[Any], Any] = click.option(
    "--workers", type=click.IntRange(1), default=None, help="Worker processes, one thread each.  [default: one a core]"
)
engine: Callable[[Any], Any] = click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where the work is done: this machine, or a Ray cluster (RAY_ADDRESS; without it one is started here).",
)


class Place(click.ParamType):
    """A local folder, or a URL that fsspec reaches."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from musae.files import place

        return place(value)
