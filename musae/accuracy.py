"""Estimators against truth: measured on corpora, kept in a file for each estimator, printed wherever one is used.

The files lie in ``musae/estimators/measured/`` and are installed with the package, so that the figures are at hand offline. They
hold for one revision of an estimator (its package's version, its settings): `Measured.remark` says so where another is installed.
Rows are per corpus, length of audio, level of truth and metric (`musae.scores.estimates`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from musae.card import EstimatorCard
from musae.corpora.track import Annotations, Clip, Corpus, Split, Truth
from musae.errors import UserError
from musae.estimators.estimator import Estimator, NoEstimate
from musae.files import atomic_path
from musae.provenance import processor
from musae.results.made import provenance
from musae.results.schema import Count, Finite, Name, Provenance, Revision, Text
from musae.scores import estimates, spread
from musae.scores.score import Score

FOLDER = Path(__file__).resolve().parent / "estimators" / "measured"
"""Where the published files lie."""

CLIP = 10.24
"""Seconds: the clips of the suites."""

CORPORA = ("procedural", "chorales")
"""What estimators are measured on by default: corpora whose truth is exact, or people's."""

Progress = Callable[[str, int, int], None]
"""Told what is done, how much of it, and of how much."""


class Accuracy(BaseModel):
    """One number of an estimator, with the null beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concept: Literal["chords", "key", "tempo", "beats", "instruments"]
    metric: Name
    corpus: Name
    corpus_revision: Revision
    split: Split
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Length of the clips; None for whole tracks."""
    truth: Truth
    """How the labels are known that it is measured against; never `estimated`."""
    value: Finite | None = None
    unscored: Text = ""
    """Why there is no value; empty where there is one."""
    low: Finite | None = None
    """Lower end of the 95 % interval of the piece bootstrap."""
    high: Finite | None = None
    null: Finite | None = None
    """The same metric where each clip gets another piece's estimates."""
    clips: Count
    """Clips that are labelled for the concept at this level of truth."""
    pieces: Count
    """Pieces that the metric counts: the n of the interval."""
    estimated: Annotated[float, Field(ge=0, le=1)]
    """Share of the clips of which something was estimated; the others count as wrong."""


class Measured(BaseModel):
    """All that was measured of one revision of an estimator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    estimator: Name
    revision: Revision
    provenance: Provenance
    rows: tuple[Accuracy, ...]

    def of(self, concept: str) -> list[Accuracy]:
        """The main metric of a concept, in the file's order."""
        return [row for row in self.rows if (row.concept, row.metric) == (concept, estimates.METRICS[concept][0])]

    def remark(self, revision: str) -> str:
        """A sentence where the estimator in use is of another revision than was measured; empty where it is the same."""
        if revision == self.revision:
            return ""
        return f"measured with {self.revision}; installed is {revision}, for which it need not hold (`musae estimate measure`)"

    def write(self, path: Path) -> Path:
        """Write the file, one row a line, atomically."""
        head = self.model_dump(mode="json", exclude={"rows"})
        lines = [f" {json.dumps(name)}: {json.dumps(value, sort_keys=True)}" for name, value in head.items()]
        rows = ",\n".join("  " + json.dumps(row.model_dump(mode="json", exclude_defaults=True)) for row in self.rows)
        with atomic_path(path) as temporary:
            temporary.write_text("{\n" + ",\n".join([*lines, f' "rows": [\n{rows}\n ]']) + "\n}\n", encoding="utf-8")
        return path


def published(name: str) -> Measured | None:
    """What is known of an estimator's accuracy; None where nothing was published. Raises UserError for a damaged file."""
    path = FOLDER / f"{name.replace('/', '~')}.json"
    return read(path) if path.is_file() else None


def publish(measured: Measured) -> Path:
    """Put what was measured in the place of what was published."""
    return measured.write(FOLDER / f"{measured.estimator.replace('/', '~')}.json")


def read(path: Path) -> Measured:
    """Read a file of accuracies. Raises UserError for one that is missing or damaged."""
    try:
        return Measured.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, ValueError, OSError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{path}: not a file of accuracies ({first}); make it again with `musae estimate measure`.") from error


def measure(
    name: str,
    estimator: Estimator,
    corpora: Iterable[Corpus],
    *,
    split: Split = Split.HELDOUT,
    lengths: Sequence[float | None] = (CLIP, None),
    limit: int = 200,
    report: Progress = lambda what, done, total: None,
) -> Measured:
    """Measure an estimator on at most `limit` clips of each length (None: whole tracks) of each corpus.

    Clips are spread over as many pieces as possible; where no track is as long, a length is left out. Labels that are estimated
    themselves are not read. Raises UserError where a corpus has no label for anything that the estimator covers.
    """
    began = time.monotonic()
    rows: list[Accuracy] = []
    for corpus in corpora:
        made: list[Accuracy] = []
        for seconds in lengths:
            made += _on(estimator, corpus, split, seconds, limit, report)
        if not made:
            known = ", ".join(estimator.card.concepts)
            raise UserError(f"{corpus.card.name}: no {split} track has labels for {known} that are not estimates; name another.")
        rows += made
    made_by = provenance(device=processor(), threads=1, seconds=time.monotonic() - began)
    return Measured(estimator=name, revision=estimator.revision, provenance=made_by, rows=tuple(rows))


def _on(
    estimator: Estimator, corpus: Corpus, split: Split, seconds: float | None, limit: int, report: Progress
) -> list[Accuracy]:
    """The rows of one corpus and one length."""
    clips = _clips(corpus, split, seconds, limit)
    if not clips:
        return []
    what = f"{estimator.card.name} on {corpus.card.name}, " + ("whole tracks" if seconds is None else f"clips of {seconds:g} s")
    guesses: list[Annotations] = []
    for audio in corpus.audio(clips, estimator.card.rate):
        guesses.append(_guess(estimator, audio))
        report(what, len(guesses), len(clips))
    pieces = {group: i for i, group in enumerate(sorted({clip.group for clip in clips}))}
    groups = np.array([pieces[clip.group] for clip in clips])
    plan = spread.resampling_plan(corpus.revision, len(pieces))
    truths = [clip.annotations for clip in clips]
    rows: list[Accuracy] = []
    for concept in estimator.card.concepts:
        for level in (level for level in Truth if level is not Truth.ESTIMATED):
            at = [i for i, a in enumerate(truths) if a.truth.get(concept) == level]
            if not at:
                continue
            heard = estimates.Heard(
                [truths[i] for i in at], [guesses[i] for i in at], [clips[i].duration for i in at], groups[at], plan
            )
            estimated = float(np.mean([concept in guesses[i].truth for i in at]))
            scores = estimates.accuracies(concept, heard)
            nulls = {score.metric: score.value for score in scores if score.control}
            rows += [
                _row(concept, score, nulls, corpus, split, seconds, level, len(at), estimated)
                for score in scores
                if not score.control
            ]
    return rows


def _row(
    concept: str,
    score: Score,
    nulls: dict[str, float | None],
    corpus: Corpus,
    split: Split,
    seconds: float | None,
    level: Truth,
    clips: int,
    estimated: float,
) -> Accuracy:
    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    return Accuracy(
        concept=concept,  # type: ignore[arg-type]  # pydantic checks it
        metric=score.metric,
        corpus=corpus.card.name,
        corpus_revision=corpus.revision,
        split=split,
        seconds=seconds,
        truth=level,
        value=rounded(score.value),
        unscored=score.reason,
        low=rounded(score.low),
        high=rounded(score.high),
        null=rounded(nulls.get(score.metric)),
        clips=clips,
        pieces=score.pieces,
        estimated=round(estimated, 4),
    )


def _clips(corpus: Corpus, split: Split, seconds: float | None, limit: int) -> Sequence[Clip]:
    """At most `limit` clips; of whole tracks the first ones, which corpora order so that they cover many pieces."""
    if seconds is None:
        return [Clip(track, 0.0, track.duration) for track in corpus.tracks(split)[:limit]]
    try:
        return corpus.clips(split, seconds=seconds, limit=limit)
    except UserError:  # no track is that long
        return []


def _guess(estimator: Estimator, audio: np.ndarray) -> Annotations:
    try:
        return estimator.estimate(audio, estimator.card.rate)
    except NoEstimate:
        return Annotations()


def lines(name: str, card: EstimatorCard, revision: str, concepts: Iterable[str] = ()) -> list[str]:
    """What to print beside a use of an estimator: for each concept how often it is right, on what, and what a null reaches."""
    measured = published(name)
    if measured is None:
        return [f"{name}: its accuracy was never measured; `musae estimate measure {name}` does it"]
    found = []
    for concept in concepts or card.concepts:
        figures = [describe(row) for row in measured.of(concept)]
        found.append(f"{name}, {concept}: " + ("; ".join(figures) or "its accuracy was never measured"))
    if remark := measured.remark(revision):
        found.append(f"{name}: {remark}")
    return found


def describe(row: Accuracy) -> str:
    """A row in words: ``weighted_key .71 [.66, .75] on procedural (exact, clips of 10.24 s, 197 pieces), null .20``."""
    length = "whole tracks" if row.seconds is None else f"clips of {row.seconds:g} s"
    where = f"on {row.corpus} ({row.truth}, {length}, {row.pieces} pieces)"
    if row.value is None:
        return f"{row.metric} unscored {where}: {row.unscored}"
    interval = f" [{short(row.low)}, {short(row.high)}]" if row.low is not None else ""
    return f"{row.metric} {short(row.value)}{interval} {where}, null {short(row.null)}"


def short(value: float | None) -> str:
    """Two decimals, without the zero before the point."""
    return "-" if value is None else f"{value:.2f}".replace("0.", ".", 1) if value < 1 else f"{value:.2f}"
