"""`musae bench curves`: what training and encoding cost as the problem grows."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.files import runs_root

if TYPE_CHECKING:
    from rich.table import Table

    from musae.bench.rows import BenchRow

AXES = ("width", "k", "d", "n")


@click.command("curves")
@click.option(
    "--axis", "axes", multiple=True, type=click.Choice(AXES), default=AXES, show_default=True, help="What to vary, one at a time."
)
@click.option("--rounds", type=click.IntRange(1), default=6, show_default=True, help="Rounds of each point; intervals need six.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of PyTorch.")
@click.option("--publish", is_flag=True, help="Write the rows to results/bench/curves/ as well, named by the machine.")
def command(axes: tuple[str, ...], rounds: int, threads: int, publish: bool) -> None:
    """Measure tokens a second of a training step and of encoding against F (width), k, d and batch (n), on every path.

    Points are saved as they are measured: interrupted, run the same command again, and it goes on with the next, as long as
    the checkout is clean and at the same commit.

    \b
    Examples:
      musae bench curves
      musae bench curves --axis width --rounds 9
      musae bench curves --publish
    """
    import torch
    from rich.console import Console

    from musae.bench import curves
    from musae.bench.rows import document, slug
    from musae.cli.progress import progress
    from musae.provenance import device

    begun = time.monotonic()
    suffix = "" if threads == 1 else f"-{threads}-threads"
    file = runs_root() / "bench" / f"curves{suffix}.json"
    target = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = curves.paths(target)
    rows, spent = _kept(file, device())
    todo = curves.points(dict.fromkeys(axes))
    with progress() as show:
        for done, (axis, shape) in enumerate(todo, start=1):
            where = [curves.case(axis, shape, stage, threads) for stage in curves.STAGES]
            found = {row.variant for row in rows if row.case in where and row.rounds >= rounds}
            if not found.issuperset(names):
                rows = [row for row in rows if row.case not in where]
                rows += curves.measure(axis, shape, names, rounds, threads, target)
                made = document("curves", rows, device=device(), threads=threads, seconds=spent + time.monotonic() - begun)
                made.write(file)
            show("points", done, len(todo), f"  {axis} = {getattr(shape, axis):,}")
    made = document("curves", rows, device=device(), threads=threads, seconds=spent + time.monotonic() - begun)
    written = [made.write(file)]
    if publish:
        written.append(made.write(Path("results") / "bench" / "curves" / f"{slug(device())}{suffix}.json"))
    console = Console(width=None if sys.stdout.isatty() else 130)
    for axis in dict.fromkeys(axes):
        console.print(_table(axis, names, rows))
    click.echo(f"rows: {', '.join(str(path) for path in written)}", err=True)


def _kept(file: Path, device: str) -> tuple[list[BenchRow], float]:
    """Rows of an earlier start and the seconds they took, if the same code made them on this machine."""
    from musae.bench.rows import read
    from musae.provenance import commit

    if not file.exists():
        return [], 0.0
    found = read(file)
    head, dirty = commit()
    same = not dirty and not found.provenance.dirty and (found.provenance.commit, found.provenance.device) == (head, device)
    return (list(found.rows), found.provenance.seconds) if same else ([], 0.0)


def _table(axis: str, names: list[str], rows: list[BenchRow]) -> Table:
    """A curve: a line a point, a column for each stage and path."""
    from rich.table import Table

    from musae.bench import curves

    rest = ", ".join(f"{name}={getattr(curves.CENTRE, name):,}" for name in AXES if name != axis)
    shown = Table(title=f"tokens/s against {axis} ({rest})", title_justify="left")
    shown.add_column(axis, justify="right")
    wanted = [(stage, name) for stage in curves.STAGES for name in names]
    for stage, name in wanted:
        shown.add_column(f"{stage}\n{name}", justify="right", no_wrap=True)
    mine = {
        (row.case[axis], row.case["stage"], row.variant): row.value
        for row in rows
        if row.case["axis"] == axis and row.metric == "tokens_per_s"
    }
    for value in curves.AXES[axis]:
        cells = [mine.get((value, stage, name)) for stage, name in wanted]
        shown.add_row(f"{value:,}", *("-" if cell is None else f"{cell:,.0f}" for cell in cells))
    return shown
