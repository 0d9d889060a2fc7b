"""`musae bench cost`: what runs cost, against what was predicted."""

from __future__ import annotations

import time

import click

from musae.cli import bench_rows
from musae.files import runs_root


@click.command("cost")
@bench_rows.rounds(6)
@bench_rows.threads
@bench_rows.publish
def command(rounds: int, threads: int, publish: bool) -> None:
    """Hold the cost model of --dry-run against small runs: two harvests and a training, and bytes on disk.

    \b
    Examples:
      musae bench cost
      musae bench cost --threads 2 --publish
    """
    import torch

    from musae.bench import cost
    from musae.cli.progress import progress

    begun = time.monotonic()
    torch.set_num_threads(threads)
    with progress() as show:
        runs = cost.Runs(runs_root() / "bench" / "harvest")
        runs.run(rounds, lambda done, total: show("rounds", done, total))
    bench_rows.keep("cost", cost.rows(runs, threads), threads=threads, begun=begun, publish=publish)
