"""`musae bench streaming`: what it costs that dictionaries share a pass of the generator."""

from __future__ import annotations

import time
from pathlib import Path

import click

from musae.files import runs_root


@click.command("streaming")
@click.option("--rounds", type=click.IntRange(1), default=12, show_default=True, help="Interleaved rounds; intervals need six.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of PyTorch.")
@click.option("--publish", is_flag=True, help="Write the rows to results/bench/streaming/ as well, named by the machine.")
def command(rounds: int, threads: int, publish: bool) -> None:
    """Train eight dictionaries of two layers over one pass of nano, and compare with its parts: the pass, and eight trainings.

    \b
    Examples:
      musae bench streaming
      musae bench streaming --rounds 20 --publish
    """
    import torch

    from musae.bench import streaming
    from musae.bench.rows import document, slug
    from musae.cli.progress import progress
    from musae.provenance import device

    begun = time.monotonic()
    torch.set_num_threads(threads)
    with progress() as show:
        contest = streaming.Contest(rounds)
        found = contest.run(rounds, lambda done, total: show("rounds", done, total))
    rows = streaming.rows(found, contest.per_round, threads)
    for row in rows:
        interval = "" if row.low is None else f"  [{row.low:.3f}, {row.high:.3f}]"
        click.echo(f"{row.subject:>10} {row.metric:<10} {row.value:8.3f} {row.unit}{interval}")
    suffix = "" if threads == 1 else f"-{threads}-threads"
    made = document("streaming", rows, device=device(), threads=threads, seconds=time.monotonic() - begun)
    written = [made.write(runs_root() / "bench" / f"streaming{suffix}.json")]
    if publish:
        written.append(made.write(Path("results") / "bench" / "streaming" / f"{slug(device())}{suffix}.json"))
    click.echo(f"rows: {', '.join(str(path) for path in written)}", err=True)
