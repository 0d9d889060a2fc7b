"""`musae corpus`: look at a corpus, take it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.cli.list_command import choose

if TYPE_CHECKING:
    from musae.corpora.track import Corpus


@click.group("corpus")
def command() -> None:
    """Describe a corpus, or export it.

    \b
    Examples:
      musae corpus describe chorales
      musae corpus export procedural out/ --split heldout --limit 20
    """


@command.command("describe")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def describe(name: str, as_json: bool) -> None:
    """Print counts, hours, label distributions, truth levels, licences, splits and what the corpus itself remarks."""
    from rich.console import Console

    from musae.corpora.describe import describe as describe_corpus
    from musae.corpora.describe import tables

    description = describe_corpus(_load(name))
    if as_json:
        click.echo(description.model_dump_json(indent=2))
        return
    Console(highlight=False).print(tables(description))


@command.command("export")
@click.argument("name")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--split", type=click.Choice(["train", "heldout"]), default="heldout", show_default=True)
@click.option("--limit", type=click.IntRange(1), default=None, help="At most so many tracks.")
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), default=None, help="Take a clip this long, not the whole track."
)
@click.option("--rate", type=click.IntRange(8_000, 192_000), default=32_000, show_default=True, help="Sampling rate in Hz.")
def export(name: str, folder: Path, split: str, limit: int | None, seconds: float | None, rate: int) -> None:
    """Write WAV and JAMS files; those that are there already are kept, so an interrupted export goes on."""
    from musae.corpora.export import export as export_corpus
    from musae.corpora.track import Split

    written = export_corpus(_load(name), folder, Split(split), limit=limit, seconds=seconds, rate=rate)
    click.echo(f"{len(written)} tracks of {name} ({split}) under {folder}")


def _load(name: str) -> Corpus:
    from musae import registry

    corpus: Corpus = registry.load("corpora", choose("corpora", name)).load()
    return corpus
