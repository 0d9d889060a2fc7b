"""`musae bench storage`: whether stores feed training fast enough, and what their types do to scores."""

from __future__ import annotations

import time

import click

from musae.cli import bench_rows
from musae.files import runs_root


@click.command("storage")
@bench_rows.rounds(8)
@bench_rows.threads
@bench_rows.publish
def command(rounds: int, threads: int, publish: bool) -> None:
    """Read stores of each type beside a training that would consume them; train a dictionary on each type, and score it.

    The second half takes about three minutes a type on one core. What it has computed is kept in the runs folder.

    \b
    Examples:
      musae bench storage
      musae bench storage --threads 2 --publish
    """
    import torch

    from musae.bench import storage
    from musae.cli.progress import progress

    begun = time.monotonic()
    torch.set_num_threads(threads)
    root = runs_root()
    with progress() as show:
        contest = storage.Contest(root)
        contest.run(rounds, lambda done, total: show("rounds", done, total))
        rows = [*storage.rows(contest, threads), *storage.scores(root, show)]
    bench_rows.keep("storage", rows, threads=threads, begun=begun, publish=publish)
