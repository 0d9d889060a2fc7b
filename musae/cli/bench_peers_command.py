"""`musae bench peers`: training and encoding side by side with other libraries."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from musae.files import runs_root


@click.command("peers")
@click.option(
    "--size",
    "names",
    multiple=True,
    type=click.Choice(["small", "large", "gpu"]),
    default=("small", "large"),
    show_default=True,
    help="Problem sizes; `gpu` needs CUDA.",
)
@click.option(
    "--rounds", type=click.IntRange(1), default=9, show_default=True, help="Interleaved rounds; six or more give intervals."
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of every contestant.")
@click.option(
    "--environment",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".venv-peers"),
    show_default=True,
    help="The peers' virtual environment.",
)
@click.option("--publish", is_flag=True, help="Write the rows to results/bench/peers/ as well, named by the machine.")
def command(names: tuple[str, ...], rounds: int, threads: int, environment: Path, publish: bool) -> None:
    """Train and encode with musae and with sparsify, SAELens, dictionary_learning and overcomplete, in interleaved rounds.

    Every contestant is a process of its own; data, initial weights and hyper-parameters are the same. `make peers` installs the
    other libraries. Every round is saved: interrupted, run the same command again, and it goes on with the next.

    \b
    Examples:
      musae bench peers
      musae bench peers --size small --rounds 15
      musae bench peers --threads 2 --publish
    """
    from rich.console import Console

    from musae.bench.peers import report
    from musae.bench.peers.comparison import Comparison
    from musae.bench.peers.contestants import PEERS, musae
    from musae.bench.peers.record import STAGES, Record, identity
    from musae.bench.peers.workers import own_python, peers_python
    from musae.bench.rows import document, slug
    from musae.bench.workloads import SIZES
    from musae.cli.progress import progress
    from musae.errors import UserError
    from musae.provenance import device

    sizes = [SIZES[name] for name in dict.fromkeys(names)]
    if any(size.device == "cuda" for size in sizes):
        import torch

        if not torch.cuda.is_available():
            raise UserError("--size gpu needs CUDA, and PyTorch sees no GPU here; leave it out.")
    python = peers_python(environment)
    folder = runs_root() / "bench"
    suffix = "" if threads == 1 else f"-{threads}-threads"
    path = folder / f"peers{suffix}.json"
    record = Record.load(path, identity(python, threads))
    before, begun = record.seconds, time.monotonic()
    pythons = {True: own_python(), False: python}
    with progress() as show:
        for size in sizes:
            libraries = (*PEERS, musae(size.device))
            Comparison(record, path, libraries, pythons, threads, folder / "data", show).run(size, rounds)
            record.seconds = before + time.monotonic() - begun
            record.save(path)
    console = Console(width=None if sys.stdout.isatty() else 130)
    for size in sizes:
        for stage in STAGES:
            console.print(report.table(record, size, threads, stage))
    rows = [row for size in SIZES.values() if record.of(size=size.name) for row in report.rows(record, size, threads)]
    made = document("peers", rows, device=device(), threads=threads, seconds=record.seconds)
    written = [made.write(folder / f"peers{suffix}-rows.json")]
    if publish:
        written.append(made.write(Path("results") / "bench" / "peers" / f"{slug(device())}{suffix}.json"))
    click.echo(f"rows: {', '.join(str(file) for file in written)}", err=True)
    names_run = {size.name for size in sizes}
    left_out = [entry["why"] for entry in record.failed if entry["size"] in names_run]
    left_out += [entry["why"] for size in sizes for entry in record.idle(size.name)]
    for why in left_out:
        click.echo(f"left out: {why}", err=True)
    sys.exit(1 if left_out else 0)
