"""`musae estimate`: labels that tools guess, and how often those tools are right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.cli.list_command import choose
from musae.errors import UserError

if TYPE_CHECKING:
    from musae.corpora.track import Corpus
    from musae.estimators.estimator import Estimator
    from musae.registry import Entry


@click.group("estimate")
def command() -> None:
    """Guess labels of recordings, and measure how often such guesses are right.

    Estimated labels describe audio of which nothing is known. No score ever reads them as truth.

    \b
    Examples:
      musae list estimators
      musae estimate accuracy                               what was measured of each
      musae estimate labels folder:recordings/ --by essentia_key --by essentia_rhythm
      musae estimate measure essentia_key --corpus chorales
    """


@command.command("labels")
@click.argument("corpus")
@click.option("--by", "names", required=True, multiple=True, help="An estimator; give the option again for more of them.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write to; that of a folder: corpus by default."
)
@click.option("--split", type=click.Choice(["train", "heldout"]), default=None, help="Only this split; both by default.")
@click.option("--limit", type=click.IntRange(1), default=None, help="At most so many tracks of each split.")
@click.option("--reasons", type=click.Path(dir_okay=False, path_type=Path), help="Write what was left out to this CSV file.")
def labels(
    corpus: str, names: tuple[str, ...], out: Path | None, split: str | None, limit: int | None, reasons: Path | None
) -> None:
    """Write a JAMS file of estimated labels for each track of CORPUS.

    Of a folder of recordings the files lie beside the audio: `folder:` reads them back, their truth `estimated`, and people's
    labels in annotations.csv stand above them. Files that other programs wrote are left alone. Run again, what is there already
    is kept, and other estimators' labels are added. Exit code 1 where tracks were left out.

    \b
    Examples:
      musae estimate labels folder:recordings/ --by essentia_key --by essentia_chords
      musae corpus describe folder:recordings/
    """
    from musae.accuracy import lines
    from musae.cli.progress import progress
    from musae.corpora.folder import FolderCorpus
    from musae.corpora.recordings import write_reasons
    from musae.corpora.track import Split
    from musae.estimated import label

    entries = [_find(name) for name in dict.fromkeys(names)]
    known = _corpus(corpus)
    folder = out or (known.root if isinstance(known, FolderCorpus) else None)
    if folder is None:
        raise UserError(f"{corpus}: only a folder: corpus has a place for its labels; say where to with --out FOLDER.")
    tools = {_plain(entry): _load(entry) for entry in entries}
    for name, tool in tools.items():
        for line in lines(name, tool.card, tool.revision):
            click.echo(line)
    with progress() as shown:
        done = label(known, folder, tools, [Split(split)] if split else list(Split), limit=limit, report=shown)
    counts = ", ".join(f"{concept} of {count}" for concept, count in done.concepts.items())
    click.echo(f"{done.written} files written under {folder}, {done.kept} kept" + (f"; estimated: {counts}" if counts else ""))
    for file, reason in done.left_out[:20]:
        click.echo(f"left out: {file}: {reason}")
    if len(done.left_out) > 20:
        click.echo(f"... and {len(done.left_out) - 20} more" + ("" if reasons else "; --reasons FILE writes them all"))
    if reasons is not None:
        write_reasons(done.left_out, reasons)
    raise SystemExit(1 if done.left_out else 0)


@command.command("accuracy")
@click.argument("names", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All metrics, not only each concept's main one.")
def accuracy(names: tuple[str, ...], every: bool) -> None:
    """Print how often estimators are right, as it was measured and published; nothing needs to be installed for it.

    The null is what the same guesses score on other pieces.

    \b
    Examples:
      musae estimate accuracy
      musae estimate accuracy essentia_chords --all
    """
    from musae import registry
    from musae.accuracy import describe, published

    for name in names or list(registry.entries("estimators")):
        entry = _find(name)
        measured = published(_plain(entry))
        if measured is None:
            click.echo(f"{_plain(entry)}: its accuracy was never measured")
            continue
        click.echo(f"{_plain(entry)}, measured with {measured.revision}:")
        for concept in entry.card.concepts:  # type: ignore[union-attr]  # found, hence with its card
            for row in [row for row in measured.rows if row.concept == concept] if every else measured.of(concept):
                click.echo(f"  {concept}: {describe(row)}")


@command.command("measure")
@click.argument("name")
@click.option("--corpus", "corpora", multiple=True, help="Against its labels; `procedural` and `chorales` by default.")
@click.option("--split", type=click.Choice(["train", "heldout"]), default="heldout", show_default=True)
@click.option("--clips", type=click.IntRange(2), default=200, show_default=True, help="At most so many clips (and whole tracks).")
@click.option("--clips-only", is_flag=True, help="Leave out whole tracks: for tools that are slow.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures to this JSON file.")
@click.option("--publish", is_flag=True, help="Write them to musae/estimators/measured/, from where every use prints them.")
def measure(
    name: str, corpora: tuple[str, ...], split: str, clips: int, clips_only: bool, out: Path | None, publish: bool
) -> None:
    """Measure an estimator against labels that are known, on clips of 10.24 s and on whole tracks.

    \b
    Examples:
      musae estimate measure essentia_key
      musae estimate measure madmom_beats --corpus folder:annotated/ --out beats.json
    """
    from musae import accuracy as accuracies
    from musae.cli.progress import progress
    from musae.corpora.track import Split

    entry = _find(name)
    tool = _load(entry)
    with progress() as shown:
        known = [_corpus(corpus) for corpus in corpora or accuracies.CORPORA]
        lengths = (accuracies.CLIP,) if clips_only else (accuracies.CLIP, None)
        measured = accuracies.measure(_plain(entry), tool, known, split=Split(split), lengths=lengths, limit=clips, report=shown)
    for row in measured.rows:
        click.echo(f"{row.concept}: {accuracies.describe(row)}; estimated of {row.estimated:.0%}")
    if out is not None:
        click.echo(f"written to {measured.write(out)}")
    if publish:
        click.echo(f"published in {accuracies.publish(measured)}")


def _find(name: str) -> Entry:
    from musae import registry

    return registry.find("estimators", choose("estimators", name))


def _plain(entry: Entry) -> str:
    """An estimator's name without its argument: what its figures are published under."""
    return entry.name.partition(":")[0]


def _load(entry: Entry) -> Estimator:
    from musae import registry

    estimator: Estimator = registry.make("estimators", entry.name)
    return estimator


def _corpus(name: str) -> Corpus:
    from musae import registry

    corpus: Corpus = registry.make("corpora", choose("corpora", name))
    return corpus
