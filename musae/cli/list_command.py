"""`musae list`: names and cards, without importing what they name."""

from __future__ import annotations

import click

from musae import registry
from musae.errors import UserError


@click.command("list")
@click.argument("kind", required=False, type=click.Choice(list(registry.KINDS)))
def command(kind: str | None) -> None:
    """Show what there is: methods, tasks, corpora, generators, estimators, providers, suites, plug-ins included.

    What is broken is listed as such, and warned of on standard error.

    \b
    Examples:
      musae list
      musae list tasks
    """
    for name in [kind] if kind else registry.KINDS:
        click.secho(name, bold=True)
        entries = registry.entries(name)
        column = max(map(len, entries), default=0)
        for entry in entries.values():
            if entry.card is None:
                click.echo(f"  {entry.name:<{column}}  {click.style('broken', fg='red')}: {entry.problem}")
            else:
                click.echo(f"  {entry.name:<{column}}  {entry.card.summary}")
        click.echo()
        for entry in entries.values():
            if entry.problem:
                click.echo(f"warning: {name} {entry.name!r} is broken and cannot be used: {entry.problem}", err=True)


def choose(kind: str, name: str) -> str:
    """`name` if it is registered. Raises UserError that suggests the nearest name."""
    try:
        return registry.find(kind, name).name
    except UserError as error:
        raise UserError(f"{error} See `musae list {kind}`.") from None
