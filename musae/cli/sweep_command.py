"""`musae sweep`: a grid of dictionaries over one pass of the generator."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.cli import options
from musae.files import runs_root

if TYPE_CHECKING:
    from rich.table import Table

    from musae.sweep import Sweep
    from musae.sweep_training import Figures, SweepTraining


@click.command("sweep")
@options.sweep()
@options.root
@click.option("--dry-run", is_flag=True, help="Print the grid, with estimated time and memory, and do nothing.")
def command(sweep: Sweep, root: Path | None, dry_run: bool) -> None:
    """Train a grid of dictionaries, methods x widths x k x layers x seeds, over one pass of the generator.

    FILE is a TOML file, or the name of one that comes with musae: paper. It says what there is in musae/sweep.py; options replace
    what it says, an axis as a whole. Nothing is stored but dictionaries. Dictionaries that are there are not trained again;
    interrupted, run the same command again, and trainings go on from their last checkpoints.

    \b
    Examples:
      musae sweep paper --dry-run
      musae sweep paper --layer 2 --layer 5 --frames 200000
      musae sweep paper-large --corpus musicset:/data/musicset --dry-run
      musae sweep mine.toml --method topk --method batch_topk --set learning_rate=2e-3
      torchrun --nproc-per-node 2 -m musae.cli sweep paper

    Exit codes: 0 done, 1 some trainings failed, 2 bad input, 130 interrupted.
    """
    from musae import parallel
    from musae.cli.progress import figures, progress
    from musae.sweep_training import SweepTraining

    begun = time.monotonic()
    with parallel.group(), progress(parallel.rank() == 0) as show:

        def watch(what: str, done: int, total: int, values: Mapping[str, float] | None = None) -> None:
            show(what, done, total, figures(values) if values else "")

        training = SweepTraining(sweep, root if root is not None else runs_root(), watch)
        if dry_run:
            _plan(training)
            return
        trained = training.run()
        lines = training.summary()
        first = parallel.rank() == 0
    if first:
        _show(training, lines)
        done = len(trained) - len(training.problems)
        words = f"{done} of {len(lines)} dictionaries trained" if trained else "nothing to do: every dictionary was there already"
        click.echo(f"{words}, in {time.monotonic() - begun:.0f} s; they lie in {training.home}", err=True)
        for member, problem in training.problems.items():
            click.echo(f"failed: {member.name}: {problem}", err=True)
    sys.exit(1 if training.problems else 0)


def _show(training: SweepTraining, lines: Sequence[Figures]) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 130).print(_table(training, lines))


def _table(training: SweepTraining, lines: Sequence[Figures]) -> Table:
    """A line a dictionary."""
    from rich.table import Table

    frames = training.sweep.aside * training.workspace.frames_per_clip
    shown = Table(
        title=f"{training.sweep.name}: fvu and l0 on {frames:,} frames set aside, dead at the end of training",
        title_justify="left",
    )
    shown.add_column("method")
    for column in ("width", "k", "layer", "seed", "fvu", "l0", "dead", "seconds"):
        shown.add_column(column, justify="right")
    shown.add_column("file", overflow="fold")
    for line in lines:
        numbers = ((line.fvu, ".4f"), (line.l0, ".1f"), (line.dead, ".1%"), (line.seconds, ",.0f"))
        cells = ["-" if value is None else format(value, spec) for value, spec in numbers]
        sizes = (f"{line.width:,}", str(line.k), str(line.layer), str(line.seed))
        shown.add_row(line.method, *sizes, *cells, "failed" if line.problem else line.file)
    return shown


def _plan(training: SweepTraining) -> None:
    """Print the grid, and what it would cost."""
    from musae import cost
    from musae.activations.harvest import estimate
    from musae.cli.run_command import SECONDS
    from musae.sweep_training import memory

    sweep, workspace = training.sweep, training.workspace
    card, layers = workspace.generator_card, sorted(set(sweep.layers))
    per_clip = workspace.frames_per_clip
    clips = workspace.suite.training_frames // per_clip - sweep.aside
    frames = clips * per_clip
    for member in training.members:
        click.echo(f"  {member.name}")
    generator = cost.forward(card, max(layers), clips, per_clip)
    generator += cost.codec(workspace.suite.generator, clips * workspace.suite.clip_seconds)
    fits = cost.Work()
    for member in training.members:
        fits += cost.training(card.width, member.width, member.k, frames, sweep.batch_size)
    kept = cost.dictionaries(card.width, (member.width for member in training.members))
    stored = estimate(clips, per_clip, card.width, len(layers))
    click.echo(
        f"{len(training.members)} dictionaries of {len(layers)} layers over one pass of {frames:,} frames of width {card.width}\n"
        f"memory: {cost.size(memory(training))} beside the generator\n"
        f"disk: {cost.size(kept)} of dictionaries under {workspace.root}, and no activations, so no egress; a store of these "
        f"layers (`musae harvest`) would take {cost.size(stored)} as float16, an epoch read {cost.size(stored / len(layers))}\n"
        f"operations: {generator.operations:.2e} of the generator, {fits.operations:.2e} of the dictionaries"
    )
    for device in (cost.this_machine(), cost.H100):
        of_all, of_fits = device.duration(generator + fits), device.duration(fits)
        click.echo(f"  {of_all}, {of_fits} of it for the dictionaries, on {device.name} ({device.known})")
    if not workspace.ships_training_tokens():
        rendered = cost.duration(workspace.suite.training_frames * SECONDS["render"] / 3600)
        click.echo(f"beside that, rendered or read audio: {rendered} on one core, were it the shipped corpora's")
