"""How benches show their rows and where they keep them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from musae.files import runs_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from musae.bench.rows import BenchRow

threads: Callable[[Any], Any] = click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of PyTorch."
)
publish: Callable[[Any], Any] = click.option(
    "--publish", is_flag=True, help="Write the rows to the checkout's results/bench/ as well, named by the machine."
)


def rounds(default: int) -> Callable[[Any], Any]:
    """The option that says how often parts take turns."""
    option = click.option(
        "--rounds", type=click.IntRange(1), default=default, show_default=True, help="Interleaved rounds; intervals need six."
    )
    return cast("Callable[[Any], Any]", option)


def _name(row: BenchRow) -> str:
    """Of a row's line: its subject and variant, and what else tells it from its neighbours."""
    scored = [str(row.case[key]) for key in ("corpus", "probe_k", "truth") if key in row.case]
    return " ".join(filter(None, [row.subject, row.variant, *scored]))


def keep(bench: str, rows: Sequence[BenchRow], *, threads: int, begun: float, publish: bool) -> None:
    """Print rows and write their file; `begun`: by `time.monotonic`."""
    from musae.bench.rows import document, slug
    from musae.provenance import device

    names = [_name(row) for row in rows]
    wide = max(map(len, names))
    for name, row in zip(names, rows, strict=True):
        interval = "" if row.low is None else f"  [{row.low:.4g}, {row.high:.4g}]"
        value = row.unscored if row.value is None else f"{row.value:10.4g} {row.unit}{interval}"
        click.echo(f"{name:>{wide}} {row.metric:<14} {value}")
    suffix = "" if threads == 1 else f"-{threads}-threads"
    made = document(bench, rows, device=device(), threads=threads, seconds=time.monotonic() - begun)
    written = [made.write(runs_root() / "bench" / f"{bench}{suffix}.json")]
    if publish:
        written.append(made.write(Path("results") / "bench" / bench / f"{slug(device())}{suffix}.json"))
    click.echo(f"rows: {', '.join(str(path) for path in written)}", err=True)
