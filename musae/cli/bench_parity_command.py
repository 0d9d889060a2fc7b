"""`musae bench parity`: other libraries' checkpoints, read and written, against the libraries themselves."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from musae.files import runs_root


@click.command("parity")
@click.option(
    "--environment",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".venv-peers"),
    show_default=True,
    help="The libraries' virtual environment.",
)
@click.option(
    "--golden",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Keep the libraries' checkpoints here, with their versions: tests/formats/golden.",
)
@click.option("--publish", is_flag=True, help="Write the rows to results/bench/parity/ as well, named by the machine.")
def command(environment: Path, golden: Path | None, publish: bool) -> None:
    """Compare codes and reconstructions of checkpoints with those of the libraries that they belong to, both ways.

    Each library makes and saves small random models of every architecture, and loads what musae wrote; `make peers` installs
    them. Exit code 1 where a difference exceeds 1e-5.

    \b
    Examples:
      musae bench parity
      musae bench parity --golden tests/formats/golden --publish
    """
    import tempfile

    from rich.console import Console
    from rich.table import Table

    from musae.bench.parity.certificate import LIMIT, certify
    from musae.bench.peers.workers import peers_python
    from musae.bench.rows import document, slug
    from musae.cli.progress import progress
    from musae.provenance import device

    python, begun = peers_python(environment), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, progress() as show:
        made = certify(python, Path(folder), golden, show)
    table = Table("library", "way", "architecture", "codes", "reconstructions", "equal")
    for row in made.differences:
        table.add_row(
            row.library, row.way, row.variant, f"{row.codes:.1e}", f"{row.reconstructions:.1e}", "yes" if row.equal else "NO"
        )
    Console(width=None if sys.stdout.isatty() else 130).print(table)
    for library, rule, why in made.refused:
        click.echo(f"not written: {rule} as {library}: {why}", err=True)
    rows = document("parity", made.rows(), device=device(), threads=1, seconds=time.monotonic() - begun)
    written = [rows.write(runs_root() / "bench" / "parity-rows.json")]
    if publish:
        written.append(rows.write(Path("results") / "bench" / "parity" / f"{slug(device())}.json"))
    click.echo(f"rows: {', '.join(str(file) for file in written)}", err=True)
    unequal = [row for row in made.differences if not row.equal]
    for row in unequal:
        click.echo(f"{row.library} {row.variant} ({row.way}): a difference above {LIMIT:g}", err=True)
    sys.exit(1 if unequal else 0)
