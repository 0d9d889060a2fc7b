"""`musae pretrain`: make an embedded generator anew, or train it further."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from musae.errors import UserError
from musae.files import runs_root


@click.command("pretrain")
@click.argument("generator", default="nano")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=None, help="Stop, resumably, after so long.")
@click.option("--steps", type=click.IntRange(1), default=None, help="Length of the schedule; may be raised later.")
@click.option("--batch", type=click.IntRange(1), default=None, help="Crops of 10.24 s a step.")
@click.option("--peak", type=click.FloatRange(min=0, min_open=True), default=None, help="Highest learning rate.")
@click.option("--seed", type=click.IntRange(0), default=None, help="Of codec, initialisation and order of crops.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=None, help="[default: runs/pretrain/GENERATOR]")
@click.option(
    "--destination",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Where finished weights go.  [default: into the package]",
)
def command(
    generator: str,
    minutes: float | None,
    steps: int | None,
    batch: int | None,
    peak: float | None,
    seed: int | None,
    out: Path | None,
    destination: Path | None,
) -> None:
    """Render the training pieces, fit the codec, train an embedded GENERATOR from a seed, export weights, codec and card.

    Every stage is kept: interrupted (or out of --minutes), run the same command again to go on. Nothing is exported before the
    schedule of --steps is complete; a shorter or longer schedule goes on from the same checkpoints.

    \b
    Examples:
      musae pretrain nano --minutes 30
      musae pretrain nano --steps 60000
    """
    if generator != "nano":
        raise UserError(f"{generator!r} cannot be pre-trained here; nano is the generator that is embedded.")
    from musae.generators.nano import pretrain as nano
    from musae.generators.nano.train import Settings

    given = {"steps": steps, "batch": batch, "peak": peak, "seed": seed}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    folder = out if out is not None else runs_root() / "pretrain" / generator
    folder.mkdir(parents=True, exist_ok=True)
    with nano.Budget(minutes) as budget:
        finished = nano.pretrain(folder, settings, stop=budget, destination=destination or nano.PACKAGE, say=click.echo)
    if not finished:
        click.echo(f"stopped; run the same command again to go on from {folder}", err=True)
        sys.exit(130 if budget.stopped else 0)
