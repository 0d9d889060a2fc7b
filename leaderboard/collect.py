"""Which files make one board: rows are compared only where suite, generator, layer and revisions agree.

The newest file decides what the board is of; whatever disagrees is left out and listed with the reason, never silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from musae.results import Cell, RowFile, path_of


@dataclass(frozen=True)
class LeftOut:
    """A file that is not on the board."""

    path: str
    """Its place under the results folder."""
    reason: str


@dataclass(frozen=True)
class Selection:
    """The files of one suite that may be compared with one another."""

    suite: str
    files: tuple[RowFile, ...]
    left_out: tuple[LeftOut, ...]


def collect(files: Iterable[RowFile]) -> list[Selection]:
    """One selection for every suite that occurs, by name."""
    suites: dict[str, list[RowFile]] = {}
    for file in files:
        suites.setdefault(file.cell.suite, []).append(file)
    return [_select(suite, members) for suite, members in sorted(suites.items())]


def _select(suite: str, files: list[RowFile]) -> Selection:
    files = sorted(files, key=_age, reverse=True)
    left_out: list[LeftOut] = []

    def keep(field: Callable[[Cell], object], of: Callable[[Cell], object], what: str) -> None:
        """Of the files that share `of`, keep those whose `field` is the newest one's."""
        nonlocal files
        wanted: dict[object, object] = {}
        for file in files:
            wanted.setdefault(of(file.cell), field(file.cell))
        for file in files:
            have, want = field(file.cell), wanted[of(file.cell)]
            if have != want:
                left_out.append(LeftOut(str(path_of(file.cell)), what.format(have=have, want=want)))
        files = [file for file in files if field(file.cell) == wanted[of(file.cell)]]

    keep(lambda c: c.suite_version, lambda _: None, f"of {suite} version {{have}}; the newest rows are of version {{want}}")
    keep(lambda c: c.generator, lambda _: None, "of generator {have}; the newest rows are of {want}")
    keep(lambda c: c.generator_revision, lambda _: None, "of generator revision {have}; the newest rows are of {want}")
    keep(lambda c: c.layer, lambda _: None, "of layer {have}; the newest rows are of layer {want}")
    keep(lambda c: c.corpus_revision, lambda c: c.corpus, "of corpus revision {have}; the newest rows are of {want}")
    keep(lambda c: c.task_version, lambda c: c.task, "of task version {have}; the newest rows are of version {want}")
    keep(
        lambda c: c.dictionary,
        lambda c: c.slot,
        "of dictionary {have:.12}, superseded by {want:.12} of the same method, seed and sizes",
    )
    return Selection(
        suite, tuple(sorted(files, key=lambda file: path_of(file.cell))), tuple(sorted(left_out, key=lambda x: x.path))
    )


def _age(file: RowFile) -> tuple[object, ...]:
    return file.provenance.created, str(path_of(file.cell))
