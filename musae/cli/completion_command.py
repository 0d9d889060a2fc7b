"""`musae completion`: the script that teaches a shell the commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print shell completion.

    \b
    Examples:
      eval "$(musae completion bash)"
      musae completion fish > ~/.config/fish/completions/musae.fish
    """
    cls = get_completion_class(shell)
    if cls is None:  # pragma: no branch - click.Choice has checked it
        raise click.BadParameter(shell)
    click.echo(cls(ctx.find_root().command, {}, "musae", "_MUSAE_COMPLETE").source())
