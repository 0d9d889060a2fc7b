"""`musae run`: the main job: train, score, rank."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.cli import options
from musae.errors import UserError
from musae.files import atomic_path, runs_root

if TYPE_CHECKING:
    from musae.card import SuiteCard
    from musae.cli.progress import Bars, Lines, Silent
    from musae.engines.local import Watch
    from musae.evaluation import Job
    from musae.results import RowFile
    from musae.workspace import Workspace


@click.command("run")
@options.suite
@options.root
@options.engine
@options.workers
@click.option(
    "--published",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Rows to hold the run's rows against; never read as answers.  [default: results/ of the checkout]",
)
@click.option("--details", is_flag=True, help="Show every row that differs from the published ones, and every verdict.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, with estimated time and disk, and do nothing.")
def command(
    suite: SuiteCard,
    root: Path | None,
    engine: str,
    workers: int | None,
    published: Path | None,
    details: bool,
    dry_run: bool,
) -> None:
    """Train a suite's dictionaries, score them on its tasks, print the leaderboard.

    What lies under the root is not computed again: interrupted, run the same command again.

    \b
    Examples:
      musae run
      musae run --suite full --dry-run
      musae run --root /scratch/musae --workers 8
      musae run --generator musicgen:facebook/musicgen-small --layer 12 --corpus folder:recordings/
      RAY_ADDRESS=head:6379 musae run --suite full --engine ray --root /shared/musae
    """
    from musae.cli.engine import connected
    from musae.cli.progress import progress
    from musae.cli.published import checkout_results
    from musae.engines import local
    from musae.evaluation import is_done, jobs, prepare
    from musae.provenance import cores
    from musae.results import read_all
    from musae.workspace import Workspace

    begun = time.monotonic()
    theirs = read_all(published) if published is not None else read_all(*checkout_results())
    workspace = Workspace(suite, root if root is not None else runs_root())
    if dry_run:
        _plan(workspace, jobs(suite), workers or cores())
        return
    with connected(engine, workers) as cluster, progress() as show:
        workspace.progress, workspace.engines = show, cluster
        prepare(workspace)
        todo = [job for job in jobs(suite) if not is_done(workspace, job)]
        if todo:
            watch = _watch(len(todo), show)
            if cluster is not None:
                cluster.run(suite, workspace.root.resolve(), todo, watch=watch)
            else:
                local.run(suite, workspace.root, todo, workers=min(workers or cores(), len(todo)), watch=watch)
    _report(workspace, theirs, details)
    done = f"{len(todo)} jobs done" if todo else "nothing to do: every row was there already"
    click.echo(f"{done}, in {time.monotonic() - begun:.0f} s; rows are under {workspace.results}", err=True)


def _watch(total: int, show: Lines | Bars | Silent) -> Watch:
    from musae.cli.progress import figures

    done = 0

    def watch(event: str, job: Job, report: Mapping[str, float]) -> None:
        nonlocal done
        if event == "done":
            done += 1
            show("jobs", done, total, f"  {job.name}")
        elif event == "report" and "steps" in report:
            show(job.name, int(report["step"]), int(report["steps"]), figures(report))

    return watch


def _report(workspace: Workspace, published: Sequence[RowFile], details: bool) -> None:
    """Print the board, write it beside the rows, and say how it agrees with published rows."""
    from musae.leaderboard import render_files
    from musae.leaderboard.agreement import agreement, verdicts
    from musae.leaderboard.board import boards
    from musae.results import read_all

    files = read_all(workspace.results)
    for name, format in (("leaderboard.md", "markdown"), ("leaderboard.csv", "csv")):
        with atomic_path(workspace.home / name) as temporary:
            temporary.write_text(render_files(files, format), encoding="utf-8")  # type: ignore[arg-type]
    width = max(80, shutil.get_terminal_size((120, 24)).columns)
    click.echo(render_files(files, "table", width=width, color=sys.stdout.isatty()), nl=False)
    if not published:
        click.echo("\nNo published rows to compare with.")
        return
    found = agreement(files, published)
    click.echo(f"\n{found.summary()}.")
    if details:
        for line in (*found.details(), *(verdict for board in boards(files) for verdict in verdicts(board))):
            click.echo(f"  {line}")


SECONDS = {"render": 4.3e-4, "harvest": 4.5e-5, "fit": 4.7e-8, "score": 12.0}
"""Seconds on one core of an EPYC with AVX-512, for the embedded generator: to render and encode a frame; to run the generator on
it; to fit, for each frame, latent and 256 dimensions; and of all tasks for a feature set on one corpus."""


def _plan(workspace: Workspace, jobs: Sequence[Job], workers: int) -> None:
    """Print the cells, and what they would cost."""
    from musae.activations.harvest import estimate

    suite, frames, width = workspace.suite, workspace.frames_per_clip, workspace.generator_card.width
    training = -(-suite.training_frames // frames)
    disk = sum(estimate(count, frames, width, 1) for count in (training, *suite.clips.values()))
    rendered = sum(suite.clips.values()) + (0 if workspace.ships_training_tokens() else training)
    fits = [job for job in jobs if job.corpus is None]
    seconds = (training + sum(suite.clips.values())) * frames * SECONDS["harvest"] + rendered * frames * SECONDS["render"]
    seconds += len(fits) * suite.training_frames * suite.width * width / 256 * SECONDS["fit"]
    seconds += (len(jobs) - len(fits)) * SECONDS["score"]
    click.echo(f"suite {suite.name}: {suite.summary}")
    for job in jobs:
        click.echo(f"  {job.name}" + (f": {', '.join(suite.tasks)}" if job.corpus else ""))
    cells = (len(jobs) - len(fits)) * len(suite.tasks)
    click.echo(
        f"{len(fits)} fits and {cells} cells; about {max(1, seconds / workers / 60):.0f} minutes with {workers} workers (scaled "
        f"from figures of one EPYC core) and {disk / 2**30:.1f} GiB under {workspace.root}"
    )
    free = shutil.disk_usage(next(p for p in (workspace.root, *workspace.root.absolute().parents) if p.exists())).free
    if free < disk:
        raise UserError(f"{workspace.root}: only {free / 2**30:.1f} GiB are free; give another --root.")
