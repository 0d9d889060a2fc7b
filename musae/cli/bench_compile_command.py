"""`musae bench compile`: registers, spills, loads and bytes of the Triton kernels, without a GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.cli.progress import progress
from musae.files import runs_root

if TYPE_CHECKING:
    from rich.console import Console

    from musae.bench.compile.report import Kernel, Stage
    from musae.bench.compile.run import Outcome


@click.command("compile")
@click.option(
    "--arch", "architectures", multiple=True, metavar="NAME", help="sm_80, sm_90 or sm_100; again for more.  [default: all]"
)
@click.option("--op", "operations", multiple=True, metavar="NAME", help="Op; again for more.  [default: all]")
@click.option(
    "--width", "widths", multiple=True, type=click.IntRange(min=1024), help="Latents F; again for more.  [default: 32768 65536]"
)
@click.option("--k", "ks", multiple=True, type=click.IntRange(16, 512), help="Active latents; again for more.  [default: 32 100]")
@click.option("--publish", is_flag=True, help="Write the rows to results/bench/compile/ too.")
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Where published rows lie.",
)
def command(
    architectures: tuple[str, ...],
    operations: tuple[str, ...],
    widths: tuple[int, ...],
    ks: tuple[int, ...],
    publish: bool,
    results: Path,
) -> None:
    """Compile every Triton kernel ahead of time, count the bytes it moves, and judge both.

    No GPU is needed or used. Kernels and constants are those that the ops launch at d = 2048 on bfloat16 inputs. Registers,
    spills, load widths, tensor-core instructions and atomics are read from the machine code; bytes are counted while Triton's
    interpreter executes the loads and stores. Exit code 1 if a gate fails, or a number is worse than its published row by more
    than its bound. --publish writes the rows whatever the gates say: what is committed is what later runs are compared with.

    \b
    Examples:
      musae bench compile
      musae bench compile --op topk_encode --arch sm_90 --width 32768 --k 32
      musae bench compile --publish
    """
    from rich.console import Console

    from musae.bench.compile import run as bench
    from musae.bench.compile.build import ARCHITECTURES
    from musae.bench.compile.subjects import KS, WIDTHS, subjects
    from musae.errors import UserError

    whole = not (architectures or operations or widths or ks)
    if publish and not whole:
        raise UserError("--publish writes all rows of the bench; leave out --arch, --op, --width and --k.")
    bench.check(operations, architectures)
    published = bench.published_file(results)
    with progress() as show:
        outcome = bench.run(
            operations or tuple(subjects()), architectures or tuple(ARCHITECTURES), widths or WIDTHS, ks or KS, published, show
        )
    written = outcome.document.write(runs_root() / "bench" / "compile.json")
    console = Console()
    _kernels(console, outcome.kernels)
    _stages(console, outcome.stages)
    _gates(console, outcome, compared=published.exists())
    click.echo(f"{len(outcome.document.rows)} rows in {written}")
    if publish:
        click.echo(f"published in {outcome.document.write(published)}")
    if outcome.failures:
        sys.exit(1)


def _kernels(console: Console, kernels: list[Kernel]) -> None:
    from rich.table import Table

    table = Table(title="Kernels (compiled, not run)", title_justify="left")
    names = ("registers", "stack B", "spills", "shared B", "128-bit row loads", "MMA", "atomics")
    for name in ("kernel", "used by", "arch", *names):
        table.add_column(name, justify="right" if name in names else "left")
    users: dict[tuple[str, str], list[Kernel]] = {}
    for kernel in kernels:
        users.setdefault((kernel.built.key, kernel.built.architecture), []).append(kernel)
    for same in sorted(users.values(), key=lambda k: (k[0].name, k[0].built.key, k[0].built.architecture)):
        built, code = same[0].built, same[0].built.code
        head = (same[0].name, ", ".join(sorted({f"{k.size.op} {k.size.stage}" for k in same})), built.architecture)
        if code is None:
            table.add_row(*head, "does not compile")
            continue
        wide = f"{code.row_loads_128} of {code.row_loads}" if code.row_loads else "none"
        figures = (code.registers, code.stack, code.spills, f"{built.shared:,}", wide, code.tensor_cores, code.atomics)
        table.add_row(*head, *map(str, figures))
    console.print(table)


def _stages(console: Console, stages: list[Stage]) -> None:
    from rich.table import Table

    from musae.bench.compile.subjects import FRAMES

    table = Table(title=f"Bytes per token at n = {FRAMES:,} (counted in the interpreter)", title_justify="left")
    for name in ("op", "F", "k", "kernels", "torch", "minimum", "ratio", "issued"):
        table.add_column(name, justify="left" if name == "op" else "right")
    for stage in stages:
        head = (f"{stage.size.op} {stage.size.stage}", f"{stage.size.width:,}", str(stage.size.k))
        if stage.bytes is None:
            table.add_row(*head, "not counted")
            continue
        found = (stage.bytes.distinct, stage.bytes.eager, stage.bytes.minimum)
        figures = [f"{value / FRAMES:,.0f}" for value in found]
        table.add_row(*head, *figures, f"{stage.bytes.ratio:.2f}", f"{stage.bytes.issued / FRAMES:,.0f}")
    console.print(table)


def _gates(console: Console, outcome: Outcome, compared: bool) -> None:
    from musae.bench.compile.run import summary

    for gate, (passed, total) in summary(outcome).items():
        shown = "[green]pass[/]" if passed == total else "[red]FAIL[/]"
        console.print(f"  {shown} {gate}: {passed} of {total}")
    if not compared:
        console.print("  no published rows of this Triton yet: nothing to compare with")
    for verdict in outcome.failures:
        console.print(f"[red]{verdict.gate}[/]: {verdict.sentence}", highlight=False, markup=True)
