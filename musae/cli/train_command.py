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
    from musae.dictionary import Report


@click.command("train")
@click.argument("method")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of initialisation and order of frames.")
@click.option(
    "--store",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Train on a store that `musae harvest` made of the suite's generator and layer.  [default: the suite's own]",
)
@click.option("--tracker", type=click.Choice(["wandb", "trackio"]), default=None, help="Send the figures there as well.")
@options.suite
@options.root
def command(method: str, seed: int, store: Path | None, tracker: str | None, suite: str, root: Path | None) -> None:
    """Train (or fit) one dictionary on a suite's training activations; print where it lies.

    Interrupted, run the same command again: it goes on from the last checkpoint.

    \b
    Examples:
      musae train topk --seed 7
      musae train pca --suite full
    """
    from musae import metrics_log, registry
    from musae.activations.store import open_store
    from musae.card import MethodCard
    from musae.cli.progress import figures, progress
    from musae.errors import UserError
    from musae.workspace import Workspace, suite_card

    card = registry.find("methods", choose("methods", method)).card
    assert isinstance(card, MethodCard)
    if card.role == "baseline":
        raise UserError(
            f"{method!r} is a baseline, which learns nothing; score it with `musae run`, or train one of the methods."
        )
    chosen = seed if card.seeded else None
    with progress() as show:
        workspace = Workspace(suite_card(suite), root if root is not None else runs_root(), show)
        frames = None
        if store is not None:
            frames = open_store(
                store,
                generator_revision=workspace.generator.revision,
                layer=workspace.suite.layer,
                corpus_revisions={name: workspace.corpus(ours).revision for name, ours in workspace.corpus_names.items()},
            )
            workspace.refuse_heldout(frames.tokens)

        def report(values: Mapping[str, float]) -> None:
            if "steps" in values:
                show(f"{method} seed {seed}", int(values["step"]), int(values["steps"]), figures(values))

        reports: list[Report] = [report]
        if tracker is not None:
            reports.append(
                metrics_log.tracker(tracker, "musae", f"{method}-s{seed}", workspace.feature_set(method, chosen).config())
            )
        dictionary = workspace.fit(method, chosen, reports, frames)
        path = workspace.dictionary_path(workspace.feature_set(method, chosen), chosen, frames)
    click.echo(f"{path}  ({dictionary.name}, {dictionary.width} latents, hash {dictionary.content_hash})")
