"""`musae ci`: the regression gate."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from musae.errors import UserError
from musae.files import runs_root, writing


@click.command("ci")
@click.option(
    "--base", "ref", default=None, metavar="REF", help="Compare with this branch, tag or commit, checked out for the run."
)
@click.option("--base-dir", type=click.Path(path_type=Path), default=None, help="Compare with the checkout in this folder.")
@click.option(
    "--head-dir", type=click.Path(path_type=Path), default=None, help="The checkout to judge.  [default: the present one]"
)
@click.option(
    "--pairs", type=click.IntRange(12), default=36, show_default=True, help="Interleaved pairs of samples of each bench."
)
@click.option("--bench", "wanted", multiple=True, metavar="NAME", help="Only this bench, or this op's benches; repeatable.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default=None, help="[default: cuda where there is one]")
@click.option("--baseline", type=click.Path(path_type=Path), default=None, help="pytest-benchmark JSON: shown, never decided on.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=None, help="Where the reports go.  [default: runs/ci]"
)
def command(
    ref: str | None, base_dir: Path | None, head_dir: Path | None, pairs: int, wanted: tuple[str, ...], device: str | None,
    baseline: Path | None, out: Path | None,
) -> None:  # fmt: skip
    """Refuse a change that breaks a kernel or makes one slower.

    The kernels' tests of the head run first; on a red one no speed is measured. Then the benches of both checkouts run side by
    side on one device. Exit code 1 on a red test, a slower bench or one that fails; 0 otherwise. Writes junit.xml, summary.md and
    pytest-benchmark JSON of both sides, and appends the summary to $GITHUB_STEP_SUMMARY where that is set.

    \b
    Examples:
      musae ci --base main
      musae ci --base v0.1.0 --bench topk_encode --pairs 60
      musae ci --base-dir ../musae-before --device cpu --out reports
    """
    from musae.bench.ci import checkouts, gate, reports
    from musae.cli.progress import progress

    if (ref is None) == (base_dir is None):
        raise UserError("musae ci needs one thing to compare with: give either --base REF or --base-dir PATH.")
    stored = gate.stored(baseline) if baseline is not None else {}
    device = _device(device)
    folder = out if out is not None else runs_root() / "ci"
    with ExitStack() as stack:
        head = checkouts.folder(head_dir if head_dir is not None else checkouts.present(), "head")
        if base_dir is not None:
            base = checkouts.folder(base_dir, "base")
        else:
            base = stack.enter_context(checkouts.reference(head.path, str(ref)))
        with progress() as show:
            outcome = gate.run(
                base, head, device=device, pairs=pairs, wanted=wanted, show=show, say=lambda words: click.echo(words, err=True)
            )
    files = reports.write(outcome, folder, stored)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with writing(Path(summary)), open(summary, "a", encoding="utf-8") as file:
            file.write(reports.markdown(outcome, stored))
    color = sys.stdout.isatty()
    click.echo(reports.table(outcome, stored, max(100, shutil.get_terminal_size((120, 24)).columns), color), nl=False)
    click.echo(f"wrote {', '.join(str(file) for file in files)}", err=True)
    if outcome.failed:
        sys.exit(1)


def _device(asked: str | None) -> str:
    """The device to measure on. Raises UserError for CUDA that is not there."""
    import torch

    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise UserError("--device cuda: PyTorch sees no CUDA device here; use --device cpu, or run on a machine with one.")
    return asked or ("cuda" if there else "cpu")
