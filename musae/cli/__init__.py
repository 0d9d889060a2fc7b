"""The command line. Each command lives in a file of its own and is imported only when it is run or listed."""

from __future__ import annotations

import importlib
import signal
import sys
from types import FrameType
from typing import Any

import click

from musae import __version__
from musae.errors import UserError

COMMANDS = (
    "run", "list", "new", "validate", "corpus", "estimate", "pretrain", "harvest", "train", "sweep", "score", "label", "steer",
    "convert", "publish", "leaderboard", "doctor", "bench", "ci", "completion",
)  # fmt: skip
"""In the order in which `--help` shows them; `musae.cli.<name>_command` defines `command`."""


class Lazy(click.Group):
    """A group whose commands are modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"musae.cli.{cmd_name}_command").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(COMMANDS)}."
            raise UserError(f"no command named {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run; bad input ends in one sentence and exit code 2, Ctrl-C in 130 (what was computed is kept)."""
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            super().main(*args, **{**kwargs, "standalone_mode": False})
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted; run the same command again to go on where it stopped", err=True)
            sys.exit(130)
        sys.exit(0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends a command as Ctrl-C does."""
    raise KeyboardInterrupt


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="musae")
def main() -> None:
    """Benchmark dictionaries (sparse autoencoders) learned from music generators.

    \b
    Examples:
      musae run                          train, score and rank the suite `quick`
      musae run --suite full --dry-run   what it would do, how long and how much disk
      musae list methods                 what there is to choose from
      musae score my_sae.safetensors     put your own dictionary on the board, or another library's checkpoint
      musae leaderboard results/         the table of the published rows
      musae doctor                       which kernels run here, and why
      musae ci --base main               is this checkout slower than another?

    Exit codes: 0 done, 1 something failed, 2 bad input, 130 interrupted (run the same command again to go on).
    """
