"""How a score varies between trainings that differ in their seed alone: the noise that a new method has to beat.

The standard deviation is over seeds (ddof 1) of scores on the same clips. The half-width of the piece bootstrap stands beside it,
so that one sees which of the two makes an interval wide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from musae.errors import UserError
from musae.leaderboard.board import boards, column_of
from musae.leaderboard.collect import collect
from musae.leaderboard.layout import Grid, Shown, number
from musae.leaderboard.standing import CorpusBoard, Line
from musae.results import RowFile

HEADER = ("", "seeds", "mean", "sd", "least", "greatest", "± pieces")
DECIMALS = 4


def spread(files: Iterable[RowFile], metric: str) -> list[Grid]:
    """One grid for each corpus and line of a main score, a row for each method that has two seeds or more.

    Raises UserError for a metric that is no main score here.
    """
    files = list(files)
    found = [
        grid
        for selection, board in zip(collect(files), boards(files), strict=True)
        for corpus in board.corpora
        for grid in _grids(f"{board.suite} v{board.suite_version}", corpus, selection.files, metric)
    ]
    if not found:
        known = sorted({measure.metric for file in files for measure in file.measures if measure.main})
        raise UserError(f"no main score {metric!r} with two seeds in these rows; main scores: {', '.join(known)}.")
    return found


def _grids(suite: str, corpus: CorpusBoard, files: Sequence[RowFile], metric: str) -> Iterator[Grid]:
    for line in corpus.lines:
        if line.metric == metric:
            rows = tuple(_rows(corpus, line, files))
            if rows:
                truth = f" · {line.truth}" if line.truth else ""
                title = f"{suite} · {corpus.corpus}@{corpus.revision} · {line.task}@{line.version} · {line.name}{truth}"
                yield Grid(title, tuple(map(Shown, HEADER)), (("", rows),))


def _rows(corpus: CorpusBoard, line: Line, files: Sequence[RowFile]) -> Iterator[tuple[Shown, ...]]:
    values = {
        (column_of(file.cell), file.cell.seed): measure.value
        for file in files
        if (file.cell.corpus, file.cell.task) == (corpus.corpus, line.task)
        for measure in file.measures
        if measure.main and (measure.metric, measure.truth, measure.probe_k) == (line.metric, line.truth, line.probe_k)
        if measure.value is not None and file.cell.seed is not None
    }
    for column in corpus.columns:
        own = np.array([value for (of, _), value in values.items() if of == column])
        if len(own) > 1:
            interval = line.standings[column].interval
            ends = interval.pieces if interval else None
            shown = (own.mean(), own.std(ddof=1), own.min(), own.max(), (ends[1] - ends[0]) / 2 if ends else None)
            numbers = (Shown("–" if v is None else number(float(v), DECIMALS)) for v in shown)
            yield (Shown(column.name), Shown(str(len(own))), *numbers)
