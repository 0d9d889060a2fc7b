"""`musae bench streaming`: what it costs that dictionaries share a pass of the generator."""

from __future__ import annotations

import time

import click

from musae.cli import bench_rows


@click.command("streaming")
@bench_rows.rounds(12)
@bench_rows.threads
@bench_rows.publish
def command(rounds: int, threads: int, publish: bool) -> None:
    """Train eight dictionaries of two layers over one pass of nano, and compare with its parts: the pass, and eight trainings.

    \b
    Examples:
      musae bench streaming
      musae bench streaming --rounds 20 --publish
    """
    import torch

    from musae.bench import streaming
    from musae.cli.progress import progress

    begun = time.monotonic()
    torch.set_num_threads(threads)
    with progress() as show:
        contest = streaming.Contest(rounds)
        found = contest.run(rounds, lambda done, total: show("rounds", done, total))
    rows = streaming.rows(found, contest.per_round, threads)
    bench_rows.keep("streaming", rows, threads=threads, begun=begun, publish=publish)
