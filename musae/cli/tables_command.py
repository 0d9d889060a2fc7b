"""`musae tables`: the tables of a published study, re-run on a sweep."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.cli import options
from musae.files import runs_root

if TYPE_CHECKING:
    from musae.sweep import Sweep
    from musae.tables.session import Session


@click.command("tables")
@options.sweep(default="paper")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=None, help="[default: tables/ in the sweep's folder]"
)
@click.option(
    "--clips-from",
    "source",
    default=None,
    metavar="CORPUS",
    help="Whose held-out clips are read.  [default: the sweep's last corpus]",
)
@click.option("--clips", type=click.IntRange(1), default=None, help="Held-out clips, at most.  [default: the suite's]")
@click.option(
    "--steering",
    multiple=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="What `musae steer --out` has written. May be repeated.",
)
@options.root
@click.option("--dry-run", is_flag=True, help="Say which dictionaries are there, and what measuring would cost; do nothing.")
def command(
    sweep: Sweep,
    out: Path | None,
    source: str | None,
    clips: int | None,
    steering: tuple[Path, ...],
    root: Path | None,
    dry_run: bool,
) -> None:
    """Filter counts, label scores, layer of origin, steering rates and threshold sensitivity of a sweep's dictionaries.

    FILE (paper, if none is given) and the options of the grid are those that the sweep was trained with. Each dictionary is
    measured on held-out clips beside a random twin of its size. Writes tables.md, tables.json and, where Altair is installed,
    curves.svg and curves.png. What is measured is kept; interrupted, run the same command again.

    \b
    Examples:
      musae sweep paper && musae tables paper
      musae tables paper --layer 2 --layer 5 --clips 200 --out quick-look
      musae tables paper-small --generator musicgen:/models/musicgen-small --clips-from musicset:/data/musicset
      musae tables paper --steering steered/layer3 --steering steered/layer5

    Exit codes: 0 done, 1 some dictionaries are missing, 2 bad input, 130 interrupted.
    """
    from musae import registry
    from musae.cli.progress import figures, progress
    from musae.sweep_training import SweepTraining
    from musae.tables import document
    from musae.tables.session import Session
    from musae.tables.streams import Streams

    begun = time.monotonic()
    commands = _commands()
    with progress() as show:

        def watch(what: str, done: int, total: int, values: dict[str, float] | None = None) -> None:
            show(what, done, total, figures(values) if values else "")

        training = SweepTraining(sweep, root if root is not None else runs_root(), watch)
        corpus = source or training.workspace.suite.corpora[-1]
        registry.find("corpora", corpus)
        session = Session(training, Streams(training, corpus, clips))
        session.check(commands[0])
        if dry_run:
            _plan(session)
            return
        tables = document.make(session, commands, steering, begun)
    folder = out if out is not None else training.home / "tables"
    files, undrawn = document.write(tables, folder)
    if undrawn:
        click.echo(f"no figure: {undrawn}", err=True)
    for note in tables.notes:
        click.echo(f"missing: {note}", err=True)
    click.echo(document.summary(tables))
    click.echo(f"\n{', '.join(str(file) for file in files)}; in {time.monotonic() - begun:.0f} s", err=True)
    sys.exit(1 if tables.notes else 0)


def _commands() -> tuple[str, str]:
    """The command that trains the sweep, and this one, as they were given."""
    from musae.cli.sweep_command import command as sweep_command

    context = click.get_current_context()
    shared = {parameter.name for parameter in sweep_command.params}
    said: dict[bool, list[str]] = {True: [], False: []}
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if isinstance(parameter, click.Argument):
            said[True].append(str(value))
        elif value not in (None, (), False) and parameter.name not in ("root", "dry_run"):
            name = parameter.opts[0]
            said[parameter.name in shared] += [
                w for one in (value if isinstance(value, tuple) else (value,)) for w in (name, str(one))
            ]
    return (shlex.join(["musae", "sweep", *said[True]]), shlex.join(["musae", "tables", *said[True], *said[False]]))


def _plan(session: Session) -> None:
    """Print what is there, and what it would cost to measure."""
    from musae import cost
    from musae.activations.harvest import estimate
    from musae.tables.session import KINDS
    from musae.tables.streams import CENTRE

    training, streams = session.training, session.streams
    card, frames = training.workspace.generator_card, training.workspace.frames_per_clip
    there = session.present
    for member in training.members:
        click.echo(f"  {member.name}{'' if member in there else ': missing'}")
    clips = len(streams.clips)
    work = cost.forward(card, max(streams.layers), clips + CENTRE, frames)
    work += cost.codec(training.workspace.suite.generator, clips * training.workspace.suite.clip_seconds)
    for member in there:
        work += cost.Work(len(KINDS) * 2.0 * card.width * member.width * clips * frames, 0.0)
    click.echo(
        f"{len(there)} of {len(training.members)} dictionaries, each beside a random twin, on {clips:,} held-out clips of "
        f"{streams.corpus} ({clips * frames:,} frames) at {len(streams.layers)} layers\n"
        f"disk: {cost.size(estimate(clips + CENTRE, frames, card.width, len(streams.layers)))} of activations under "
        f"{training.workspace.root}\n"
        f"operations: {work.operations:.2e} to run the generator and to encode; labels and classifiers take about half a "
        "minute of one core a dictionary beside that"
    )
    device = cost.this_machine()
    click.echo(f"  {device.duration(work)} on {device.name} ({device.known})")
