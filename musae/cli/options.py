"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from musae.card import SuiteCard
    from musae.dictionary import Dictionary


def suite(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--suite``, and what may be put in place of its generator, layer and corpora; the command is given the `SuiteCard`."""

    @functools.wraps(function)
    def command(suite: str, generator: str | None, layer: int | None, corpora: tuple[str, ...], **others: Any) -> Any:
        from musae.workspace import suite_card

        return function(suite=suite_card(suite, generator=generator, layer=layer, corpora=corpora), **others)

    for option in (
        click.option("--corpus", "corpora", multiple=True, metavar="NAME", help="In place of the suite's. May be repeated."),
        click.option("--layer", type=click.IntRange(0), default=None, help="In place of the suite's layer."),
        click.option("--generator", default=None, metavar="NAME", help="In place of the suite's, as musicgen:FOLDER."),
        click.option("--suite", default="quick", show_default=True, metavar="NAME", help="What to run: see `musae list suites`."),
    ):
        command = option(command)
    return command


def with_layer_of(suite: SuiteCard, dictionary: Dictionary) -> SuiteCard:
    """The suite at the layer that the dictionary was trained on, unless ``--layer`` names one."""
    from musae.workspace import suite_card

    given, layer = click.get_current_context().params, dictionary.trained.get("layer", suite.layer)
    if given["layer"] is not None or layer == suite.layer or not isinstance(layer, int):
        return suite
    return suite_card(given["suite"], generator=given["generator"], layer=layer, corpora=given["corpora"])


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
