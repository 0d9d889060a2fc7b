"""``musae bench``: speed, memory and compiled code; each bench is a command in a file of its own."""

from __future__ import annotations

import importlib

import click

BENCHES = ("peers", "planted", "parity", "curves", "streaming", "harvest", "storage", "cluster", "cost", "compile")
"""`musae.cli.bench_<name>_command` defines `command`."""


class Benches(click.Group):
    """A group whose commands are modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(BENCHES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in BENCHES:
            return None
        command: click.Command = importlib.import_module(f"musae.cli.bench_{cmd_name}_command").command
        return command


@click.group(name="bench", cls=Benches)
def command() -> None:
    """Measure speed and memory, or look into compiled kernels.

    \b
    Examples:
      musae bench peers                  training and encoding beside other libraries (make peers first)
      musae bench planted                what dictionaries find of atoms that are known, beside other libraries'
      musae bench parity                 checkpoints of other libraries against the libraries themselves
      musae bench curves                 cost against width, k, d and batch
      musae bench streaming              what it costs to train without a store on disk
      musae bench harvest                what it costs to keep activations on disk
      musae bench storage                whether stores feed training, and what their types do to scores
      musae bench cluster                what a second Ray worker brings
      musae bench cost                   what runs cost, against what --dry-run predicted
      musae bench compile                kernels compiled ahead of time, and their gates; needs no GPU
      pytest bench --benchmark-only      every op against its reference (make bench)
    """
