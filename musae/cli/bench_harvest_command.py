"""`musae bench harvest`: what it costs to keep activations on disk."""

from __future__ import annotations

import time
from pathlib import Path

import click

from musae.files import runs_root


@click.command("harvest")
@click.option("--rounds", type=click.IntRange(1), default=8, show_default=True, help="Interleaved rounds; intervals need six.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of PyTorch.")
@click.option("--publish", is_flag=True, help="Write the rows to results/bench/harvest/ as well, named by the machine.")
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
    from musae.bench.rows import document, slug
    from musae.cli.progress import progress
    from musae.provenance import device

    begun = time.monotonic()
    torch.set_num_threads(threads)
    with progress() as show:
        contest = harvest.Contest(runs_root() / "bench" / "harvest")
        contest.run(rounds, lambda done, total: show("rounds", done, total))
    rows = harvest.rows(contest, threads)
    for row in rows:
        interval = "" if row.low is None else f"  [{row.low:.3f}, {row.high:.3f}]"
        click.echo(f"{row.subject:>10} {row.metric:<10} {row.value:8.3f} {row.unit}{interval}")
    suffix = "" if threads == 1 else f"-{threads}-threads"
    made = document("harvest", rows, device=device(), threads=threads, seconds=time.monotonic() - begun)
    written = [made.write(runs_root() / "bench" / f"harvest{suffix}.json")]
    if publish:
        written.append(made.write(Path("results") / "bench" / "harvest" / f"{slug(device())}{suffix}.json"))
    click.echo(f"rows: {', '.join(str(path) for path in written)}", err=True)
