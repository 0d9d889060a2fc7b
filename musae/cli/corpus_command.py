"""`musae corpus`: look at a corpus, take it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.cli.list_command import choose

if TYPE_CHECKING:
    from types import ModuleType

    from musae.corpora.track import Corpus


@click.group("corpus")
def command() -> None:
    """Describe a corpus, download it, check it, or export it.

    \b
    Examples:
      musae corpus describe chorales
      musae corpus fetch mirdata:guitarset
      musae corpus doctor folder:recordings/
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


@command.command("fetch")
@click.argument("name")
def fetch(name: str) -> None:
    """Download a corpus, or what of it may be downloaded: mirdata's index and annotations of a set, and audio where it is free.

    \b
    Examples:
      musae corpus fetch mirdata:guitarset
      musae corpus fetch mirdata:slakh@baby=/data/slakh
    """
    from musae import registry
    from musae.errors import UserError

    entry = registry.find("corpora", choose("corpora", name))
    module = entry.load()
    if not hasattr(module, "fetch"):
        raise UserError(f"corpus {name!r} has nothing to download: it is rendered here, or made of your own files.")
    click.echo(module.fetch(entry.argument))


@command.command("doctor")
@click.argument("name")
@click.option("--limit", type=click.IntRange(1), default=200, show_default=True, help="Look at so many tracks of each split.")
@click.option("--reasons", type=click.Path(dir_okay=False, path_type=Path), help="Write what was left out to this CSV file.")
def doctor(name: str, limit: int, reasons: Path | None) -> None:
    """Check a corpus: files, their checksums where the corpus knows them, labels, licences, splits, clips and audio. Exit code 1
    where something is wrong.

    \b
    Examples:
      musae corpus doctor chorales
      musae corpus doctor folder:recordings/ --reasons left_out.csv
      musae corpus doctor mirdata:guitarset
    """
    from collections import Counter
    from types import SimpleNamespace
    from typing import cast

    from musae import registry
    from musae.corpora.recordings import write_reasons
    from musae.corpora.track import Split
    from musae.testing_corpora import corpus_checks

    entry = registry.find("corpora", choose("corpora", name))
    corpus = registry.make("corpora", entry.name)
    left_out = getattr(corpus, "left_out", [])
    for split in Split:
        tracks = corpus.tracks(split)
        licences = Counter(track.licence for track in tracks)
        held = ", ".join(f"{licence}: {count}" for licence, count in licences.most_common())
        click.echo(f"{split}: {len(tracks)} tracks, {sum(t.duration for t in tracks) / 3600:.2f} hours  ({held or 'none'})")
    module = cast("ModuleType", SimpleNamespace(CARD=entry.card, load=lambda: registry.make("corpora", entry.name)))
    problems = 0
    for check in corpus_checks(module, limit):
        if problem := check.problem():
            problems += 1
            click.echo(f"wrong: {problem}")
            if check.vital:
                break
    wrong = corpus.checks() if hasattr(corpus, "checks") else []  # files against checksums that their publisher gives
    for kind, entries in (("wrong", wrong), ("left out", left_out)):
        for file, reason in entries[:20]:
            click.echo(f"{kind}: {file}: {reason}")
        if len(entries) > 20:
            click.echo(f"... and {len(entries) - 20} more {kind}" + ("" if reasons else "; --reasons FILE writes them all"))
    if reasons is not None:
        write_reasons([*wrong, *left_out], reasons)
    if not problems and not wrong and not left_out:
        click.echo("nothing is wrong")
    raise SystemExit(1 if problems or wrong or left_out else 0)


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

    corpus: Corpus = registry.make("corpora", choose("corpora", name))
    return corpus
