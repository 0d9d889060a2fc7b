"""What a person watching sees: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import click

EVERY = 15.0
"""Seconds between lines where there is no terminal."""


class Lines:
    """Progress as lines on standard error, at most one in `EVERY` seconds for each thing that is done, and one at its end."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        begun = what not in self._last
        if done < total and now - self._last.get(what, now - EVERY * (not begun)) < EVERY and not begun:
            return
        self._last[what] = now
        click.echo(f"  {what}: {done:,} of {total:,}{note}", err=True)


class Bars:
    """Progress as live bars on a terminal."""

    def __init__(self, progress: object) -> None:
        from rich.progress import Progress, TaskID

        assert isinstance(progress, Progress)
        self._progress, self._tasks = progress, dict[str, TaskID]()

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total, note="")
        self._progress.update(self._tasks[what], completed=done, total=total, note=note)
        if done >= total:
            self._progress.remove_task(self._tasks.pop(what))


class Silent:
    """Progress that another process shows."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        pass


@contextmanager
def progress(shown: bool = True) -> Iterator[Lines | Bars | Silent]:
    """A callable ``(what, done, total, note)`` that shows how far things are, on standard error, where it is to be `shown`."""
    if not shown:
        yield Silent()
        return
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as live:
        yield Bars(live)


def figures(report: Mapping[str, float]) -> str:
    """A training's figures on one line: loss, FVU, L0, dead fraction, tokens/s, as far as the method reports them."""
    shown = {"loss": ".4f", "fvu": ".4f", "l0": ".1f", "dead": ".1%", "tokens_per_s": ",.0f"}
    parts = [
        f"{name.replace('tokens_per_s', 'tokens/s')} {report[name]:{spec}}" for name, spec in shown.items() if name in report
    ]
    return "  " + " · ".join(parts) if parts else ""
