"""`musae harvest`: activations to a store on disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.cli import options
from musae.cli.engine import connected
from musae.cli.list_command import choose
from musae.files import runs_root

if TYPE_CHECKING:
    from musae.activations.shards import DType


@click.command("harvest")
@click.argument("generator", default="nano")
@click.option(
    "--corpus", "corpora", multiple=True, default=("chorales", "procedural"), show_default=True, help="May be repeated."
)
@click.option("--split", type=click.Choice(["train", "heldout"]), default="train", show_default=True)
@click.option(
    "--layer", "layers", multiple=True, type=click.IntRange(0), default=(5,), show_default=True, help="May be repeated."
)
@click.option("--clips", type=click.IntRange(1), default=1024, show_default=True, help="Clips of each corpus, at most.")
@click.option("--seconds", type=click.FloatRange(0.1), default=10.24, show_default=True, help="Length of a clip.")
@click.option("--per-track", type=click.IntRange(1), default=1, show_default=True, help="Clips of each track, at most.")
@click.option(
    "--dtype",
    type=click.Choice(["float16", "bfloat16", "float32", "int8"]),
    default="float16",
    show_default=True,
    help="Of the activations on disk.",
)
@click.option(
    "--with",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the generator's load(), as device=cuda or prompt='slow jazz'. May be repeated.",
)
@click.option(
    "--root",
    type=options.Place(),
    default=None,
    envvar="MUSAE_RUNS",
    help="Where stores are kept, in its folder activations: a folder, or a URL as s3://bucket/runs.  [default: runs]",
)
@options.engine
@options.workers
@click.option("--dry-run", is_flag=True, help="Print what it would cost, and do nothing.")
def command(
    generator: str,
    corpora: tuple[str, ...],
    split: str,
    layers: tuple[int, ...],
    clips: int,
    seconds: float,
    per_track: int,
    dtype: DType,
    settings: tuple[str, ...],
    root: Path | None,
    engine: str,
    workers: int | None,
    dry_run: bool,
) -> None:
    """Render clips, run a GENERATOR over them once, keep the residual stream of some layers; print where the stores lie.

    Interrupted, run the same command again: finished shards are checked and kept.

    \b
    Examples:
      musae harvest nano --corpus chorales --layer 2 --layer 4
      musae harvest nano --split heldout --clips 200
      musae harvest musicgen:facebook/musicgen-large --corpus folder:recordings/ --layer 24 --with dtype=bfloat16
      musae harvest nano --engine ray --workers 2
    """
    from musae import registry
    from musae.activations import harvest, tokens
    from musae.card import GeneratorCard
    from musae.cli.progress import progress
    from musae.corpora.track import Split
    from musae.errors import UserError
    from musae.hyperparameters import assignments, loading

    if not math.isfinite(seconds):
        raise UserError(f"--seconds {seconds}: give a finite length.")
    if workers is not None and engine == "local":
        raise UserError("--workers is for --engine ray: the local engine runs one process, on all cores.")
    generator = choose("generators", generator)
    deepest = registry.find("generators", generator).card
    assert isinstance(deepest, GeneratorCard)
    if max(layers) > deepest.layers:
        raise UserError(f"--layer {max(layers)}: {generator} has layers 0 to {deepest.layers}.")
    names = [choose("corpora", name) for name in corpora]
    load = registry.load("generators", generator).load
    given = loading(load, assignments(settings, "--with", "device=cuda"), generator, "--with")
    make = partial(registry.make, "generators", generator, given)
    folder = (root if root is not None else runs_root()) / "activations"
    if dry_run:
        sizes = {"seconds": seconds, "per_track": per_track, "limit": clips}
        count = sum(len(registry.make("corpora", name).clips(Split(split), **sizes)) for name in names)
        _plan(generator, layers, count, seconds, dtype, folder)
        return
    with connected(engine, workers) as cluster, progress() as show:
        model, parts = make(), []
        for name in names:
            make_corpus = partial(registry.make, "corpora", name)
            corpus = make_corpus()
            if remarks := len(getattr(corpus, "left_out", ())):
                words = f"{remarks} remark{'s' if remarks > 1 else ''} about files of {corpus.card.name}"
                click.echo(f"{words}: see `musae corpus doctor {name}`", err=True)
            chosen = corpus.clips(Split(split), seconds=seconds, per_track=per_track, limit=clips)
            where = cluster.tokenizer(make, make_corpus) if cluster else tokens.here
            parts.append(tokens.tokenize(model, corpus, chosen, progress=partial(show, f"tokens of {name}"), engine=where))
        stores = harvest.harvest(
            model,
            tokens.Tokens.concat(parts),
            layers,
            folder,
            dtype=dtype,
            progress=partial(show, "activations"),
            engine=cluster.harvester(make) if cluster else harvest.here,
        )
    for layer, store in stores.items():
        click.echo(f"layer {layer}: {store.folder}  ({store.frames:,} frames of width {store.d}, {store.manifest.dtype})")


def _plan(generator: str, layers: Sequence[int], clips: int, seconds: float, dtype: DType, folder: Path) -> None:
    """Print what a harvest would cost."""
    from musae import cost, registry
    from musae.activations.harvest import estimate
    from musae.card import GeneratorCard
    from musae.files import is_local

    card = registry.find("generators", generator).card
    assert isinstance(card, GeneratorCard)
    frames = int(round(seconds * card.frame_rate, 6))
    work = cost.forward(card, max(layers), clips, frames) + cost.codec(generator, clips * seconds)
    disk = estimate(clips, frames, card.width, len(layers), dtype)
    click.echo(f"{clips:,} clips, {clips * frames:,} frames of width {card.width} at {len(layers)} layers, {dtype}")
    click.echo(f"disk: {cost.size(disk)} under {folder}; each epoch of training reads that of its layer")
    if not is_local(folder):
        click.echo(f"egress: {cost.size(disk)} up now, and down again in each epoch over all layers")
    click.echo(f"generator: {work.operations:.2e} operations")
    for device in (cost.this_machine(), cost.H100):
        click.echo(f"  {device.duration(work)} on {device.name} ({device.known})")
    click.echo("beside that: rendering or reading the audio")
