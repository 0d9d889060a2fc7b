"""`musae train`: one dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from musae.cli import options
from musae.cli.list_command import choose
from musae.files import runs_root


@click.command("train")
@click.argument("method")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of initialisation and order of frames.")
@options.suite
@options.root
def command(method: str, seed: int, suite: str, root: Path | None) -> None:
    """Train (or fit) one dictionary on a suite's training activations; print where it lies.

    Interrupted, run the same command again: it goes on from the last checkpoint.

    \b
    Examples:
      musae train topk --seed 7
      musae train pca --suite full
    """
    from musae import registry
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
    with progress() as show:
        workspace = Workspace(suite_card(suite), root if root is not None else runs_root(), show)

        def report(values: Mapping[str, float]) -> None:
            if "steps" in values:
                show(f"{method} seed {seed}", int(values["step"]), int(values["steps"]), figures(values))

        dictionary = workspace.fit(method, seed if card.seeded else None, [report])
        path = workspace.dictionary_path(workspace.feature_set(method, seed), seed if card.seeded else None)
    click.echo(f"{path}  ({dictionary.name}, {dictionary.width} latents, hash {dictionary.content_hash})")
