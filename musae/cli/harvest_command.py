"""`musae harvest`: activations to a store on disk."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.cli import options
from musae.cli.list_command import choose
from musae.files import runs_root

if TYPE_CHECKING:
    from musae.activations.store import DType


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
@click.option("--dtype", type=click.Choice(["float16", "bfloat16", "float32"]), default="float16", show_default=True)
@options.root
def command(
    generator: str,
    corpora: tuple[str, ...],
    split: str,
    layers: tuple[int, ...],
    clips: int,
    seconds: float,
    per_track: int,
    dtype: DType,
    root: Path | None,
) -> None:
    """Render clips, run a GENERATOR over them once, keep the residual stream of some layers; print where the stores lie.

    Interrupted, run the same command again: finished shards are checked and kept.

    \b
    Examples:
      musae harvest nano --corpus chorales --layer 2 --layer 4
      musae harvest nano --split heldout --clips 200
    """
    from musae import registry
    from musae.activations.harvest import harvest
    from musae.activations.tokens import Tokens, tokenize
    from musae.card import GeneratorCard
    from musae.cli.progress import progress
    from musae.corpora.track import Split
    from musae.errors import UserError

    if not math.isfinite(seconds):
        raise UserError(f"--seconds {seconds}: give a finite length.")
    generator = choose("generators", generator)
    deepest = registry.find("generators", generator).card
    assert isinstance(deepest, GeneratorCard)
    if max(layers) > deepest.layers:
        raise UserError(f"--layer {max(layers)}: {generator} has layers 0 to {deepest.layers}.")
    names = [choose("corpora", name) for name in corpora]
    model = registry.make("generators", generator)
    with progress() as show:
        parts = []
        for name in names:
            corpus = registry.make("corpora", name)
            if remarks := len(getattr(corpus, "left_out", ())):
                words = f"{remarks} remark{'s' if remarks > 1 else ''} about files of {corpus.card.name}"
                click.echo(f"{words}: see `musae corpus doctor {name}`", err=True)
            chosen = corpus.clips(Split(split), seconds=seconds, per_track=per_track, limit=clips)
            parts.append(tokenize(model, corpus, chosen, progress=partial(show, f"tokens of {name}")))
        folder = (root if root is not None else runs_root()) / "activations"
        tokens = Tokens.concat(parts)
        stores = harvest(model, tokens, layers, folder, dtype=dtype, progress=partial(show, "activations"))
    for layer, store in stores.items():
        click.echo(f"layer {layer}: {store.folder}  ({store.frames:,} frames of width {store.d}, {store.manifest.dtype})")
