"""`musae bench harvest`: what it costs to keep activations on disk."""

from __future__ import annotations

import time

import click

from musae.cli import bench_rows
from musae.files import runs_root


@click.command("harvest")
@bench_rows.rounds(8)
@bench_rows.threads
@bench_rows.publish
def command(rounds: int, threads: int, publish: bool) -> None:
    """Harvest a MusicGen of musicgen-small's size with random weights, and compare with transformers' plain forward pass.

    The checkpoint is written once, 1.7 GB under the runs folder; a round takes half a minute or so on one core.

    \b
    Examples:
      musae bench harvest
      musae bench harvest --rounds 12 --publish
    """
    import torch

    from musae.bench import harvest
    from musae.cli.progress import progress

    begun = time.monotonic()
    torch.set_num_threads(threads)
    with progress() as show:
        contest = harvest.Contest(runs_root() / "bench" / "harvest")
        contest.run(rounds, lambda done, total: show("rounds", done, total))
    rows = harvest.rows(contest, threads)
    bench_rows.keep("harvest", rows, threads=threads, begun=begun, publish=publish)
