"""`musae bench cluster`: what a second Ray worker brings."""

from __future__ import annotations

import time

import click

from musae.cli import bench_rows
from musae.files import runs_root


@click.command("cluster")
@bench_rows.rounds(6)
@bench_rows.publish
def command(rounds: int, publish: bool) -> None:
    """Harvest the embedded generator, from notes to stores, on one Ray worker and on two, one thread each.

    \b
    Examples:
      musae bench cluster
      musae bench cluster --rounds 12 --publish
    """
    from musae.bench import cluster
    from musae.cli.progress import progress

    begun = time.monotonic()
    with progress() as show:
        contest = cluster.Contest(runs_root() / "bench" / "cluster")
        contest.run(rounds, lambda done, total: show("rounds", done, total))
    bench_rows.keep("cluster", cluster.rows(contest), threads=1, begun=begun, publish=publish)
