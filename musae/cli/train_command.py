"""`musae train`: one dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.cli import options
from musae.cli.list_command import choose
from musae.files import runs_root

if TYPE_CHECKING:
    from musae.card import SuiteCard
    from musae.dictionary import Report


@click.command("train")
@click.argument("method")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of initialisation and order of frames.")
@click.option(
    "--store",
    type=options.Place(),
    default=None,
    help="Train on a store (a folder or URL) that `musae harvest` made of the suite's generator and layer.  [default: its own]",
)
@click.option("--width", type=click.IntRange(1), default=None, help="Latents.  [default: the suite's]")
@click.option("--k", type=click.IntRange(1), default=None, help="Active latents of a frame.  [default: the suite's]")
@options.settings
@click.option("--tracker", type=click.Choice(["wandb", "trackio"]), default=None, help="Send the figures there as well.")
@options.suite
@options.root
def command(
    method: str,
    seed: int,
    store: Path | None,
    width: int | None,
    k: int | None,
    settings: tuple[str, ...],
    tracker: str | None,
    suite: SuiteCard,
    root: Path | None,
) -> None:
    """Train (or fit) one dictionary on a suite's training activations; print where it lies.

    Interrupted, run the same command again: it goes on from the last checkpoint. Started by torchrun, its processes share each
    batch.

    \b
    Examples:
      musae train topk --seed 7
      musae train pca --suite full
      musae train topk --width 4096 --set learning_rate=2e-3 --set precision=bfloat16
      torchrun --nproc-per-node 2 -m musae.cli train topk
    """
    from musae import metrics_log, parallel, registry
    from musae.activations.store import open_store
    from musae.card import MethodCard
    from musae.cli.progress import figures, progress
    from musae.errors import UserError
    from musae.hyperparameters import assignments, typed
    from musae.workspace import Workspace

    card = registry.find("methods", choose("methods", method)).card
    assert isinstance(card, MethodCard)
    if card.role == "baseline":
        raise UserError(
            f"{method!r} is a baseline, which learns nothing; score it with `musae run`, or train one of the methods."
        )
    if not card.fitted:
        raise UserError(f"{method!r} dictionaries are read from checkpoints, not trained: give the checkpoint to `musae score`.")
    chosen = seed if card.seeded else None
    given = {name: value for name, value in (("width", width), ("k", k)) if value is not None}
    given |= typed(registry.load("methods", method).METHOD, assignments(settings), "--set")
    if "seed" in given:
        raise UserError("--set seed: it has an option of its own, --seed.")
    with parallel.group(), progress(parallel.rank() == 0) as show:
        workspace = Workspace(suite, root if root is not None else runs_root(), show)
        frames = None
        if store is not None:
            frames = open_store(
                store,
                generator_revision=workspace.generator_of(card.stream).revision,
                layer=workspace.suite.layer,
                corpus_revisions={name: workspace.corpus(ours).revision for name, ours in workspace.corpus_names.items()},
            )
            workspace.refuse_heldout(frames.tokens)

        def report(values: Mapping[str, float]) -> None:
            if "steps" in values:
                show(f"{method} seed {seed}", int(values["step"]), int(values["steps"]), figures(values))

        unfitted = workspace.feature_set(method, chosen, given)
        reports: list[Report] = [report]
        if tracker is not None and parallel.rank() == 0:
            reports.append(metrics_log.tracker(tracker, "musae", f"{method}-s{seed}", unfitted.config()))
        dictionary = workspace.fit(method, chosen, reports, frames, given)
        path = workspace.dictionary_path(unfitted, chosen, frames)
        if parallel.rank() == 0:
            click.echo(f"{path}  ({dictionary.name}, {dictionary.width} latents, hash {dictionary.content_hash})")
