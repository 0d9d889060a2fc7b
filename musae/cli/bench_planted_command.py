"""`musae bench planted`: musae's methods and other libraries' on data whose atoms are known."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from musae.files import runs_root


@click.command("planted")
@click.option("--method", "methods", multiple=True, help="Only these methods and controls [default: all], with their peers.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Data and initialisations: 0, 1, ...")
@click.option("--peers/--no-peers", "with_peers", default=True, show_default=True, help="Train the other libraries, too.")
@click.option(
    "--environment",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".venv-peers"),
    show_default=True,
    help="The peers' virtual environment.",
)
@click.option("--publish", is_flag=True, help="Write the rows to results/bench/planted/ as well, named by the machine.")
def command(methods: tuple[str, ...], seeds: int, with_peers: bool, environment: Path, publish: bool) -> None:
    """Which of the atoms that frames were made of does a dictionary find? musae beside other libraries, and controls.

    Every contestant learns from the same million frames, in a process of its own, on one thread. Every training is saved when
    it is done: interrupted, run the same command again, and it goes on; only what has changed is trained anew. `make peers`
    installs the other libraries. The data take 1 GB a seed in the runs folder.

    \b
    Examples:
      musae bench planted
      musae bench planted --method topk --method random --no-peers
      musae bench planted --publish
    """
    from musae.bench.peers.workers import own_python, peers_python
    from musae.bench.planted import contestants, report
    from musae.bench.planted.comparison import Comparison
    from musae.bench.planted.data import Planted
    from musae.bench.rows import document, slug
    from musae.cli.progress import progress
    from musae.errors import UserError
    from musae.provenance import device

    own = {name: contestants.Contestant(contestants.OWN, name) for name in contestants.NAMES}
    unknown = [name for name in methods if name not in own]
    if unknown:
        raise UserError(f"--method {unknown[0]}: it takes no part in this bench; choose among {', '.join(own)}.")
    wanted = methods or tuple(own)
    entered = [own[name] for name in own if name in wanted]
    pythons = {True: own_python(), False: own_python()}
    if with_peers:
        pythons[False] = peers_python(environment)
        entered += [peer for peer in contestants.PEERS if peer.method in wanted]
    begun, of = time.monotonic(), Planted()
    with progress() as show:
        comparison = Comparison(runs_root() / "bench" / "planted", of, range(seeds), pythons, show)
        entries = comparison.run(entered)
    click.echo(report.markdown(entries, of), nl=False)
    rows = document("planted", report.rows(entries, of), device=device(), threads=1, seconds=time.monotonic() - begun)
    written = [rows.write(runs_root() / "bench" / "planted-rows.json")]
    if publish:
        written.append(rows.write(Path("results") / "bench" / "planted" / f"{slug(device())}.json"))
    click.echo(f"rows: {', '.join(str(file) for file in written)}", err=True)
    for why in comparison.failed:
        click.echo(f"left out: {why}", err=True)
    sys.exit(1 if comparison.failed else 0)
