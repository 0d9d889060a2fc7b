"""How often an estimator is right: its annotations of clips against true ones, with error bars over pieces and a null.

- ``weighted_key`` and ``key_accuracy``: the key that holds over most of a clip, where one holds over more than `KEY_SHARE` of it
  (`musae.scores.mir`: fifths count both ways); other clips are not counted.
- ``wcsr_root`` and ``wcsr_majmin``: weighted chord recall. Time of which nothing is estimated counts as ``N``, as
  `mir_eval.chord.evaluate` has it.
- ``acc1``, ``acc2`` and ``p_score`` of the tempo.
- ``beat_f``: mean over clips of the beats' F-measure at 70 ms; clips with fewer than two beats are not counted.
- ``macro_f1``: of instrument families, mean over those that sound in any of the clips.

A clip or concept without an estimate counts as wrong (an F-measure of 0). The null gives each clip the estimates of another
piece's clip: the mean over up to `SHIFTS` such assignments. It is what the tool's favourite answers are worth by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musae.corpora.instruments import DRUMS, FAMILIES
from musae.corpora.track import Annotations, Span
from musae.scores import mir, spread
from musae.scores.score import PERMUTED, Score

METRICS: Mapping[str, tuple[str, ...]] = {
    "chords": ("wcsr_root", "wcsr_majmin"),
    "key": ("weighted_key", "key_accuracy"),
    "tempo": ("acc1", "acc2", "p_score"),
    "beats": ("beat_f",),
    "instruments": ("macro_f1",),
}
"""Concept -> what is measured of it, the main metric first."""

KEY_SHARE = 0.8
"""As in the task `key`: a clip has a key when one holds over more than this share of it."""

SHIFTS = 20
"""Assignments of other pieces' estimates that the null is the mean of."""

_FAMILIES = (*FAMILIES, DRUMS)


@dataclass(frozen=True, eq=False)
class Heard:
    """Clips of one corpus, all labelled at one level of truth for one concept, and what was estimated of them."""

    truth: Sequence[Annotations]
    estimates: Sequence[Annotations]
    """Annotations without any concept where nothing could be estimated."""
    seconds: Sequence[float]
    """Length of each clip."""
    groups: NDArray[np.int64]
    """Piece of each clip ``[n]``, 0 .. G - 1."""
    plan: NDArray[np.float32]
    """Resampling plan of the pieces ``[R, G]`` (`spread.resampling_plan`)."""


def accuracies(concept: str, heard: Heard) -> list[Score]:
    """Each metric of a concept with its interval, and its null (``control`` is `PERMUTED`); `pieces` are those counted."""
    made = _Comparison()
    real = {metric: _sums(metric, made, heard, range(len(heard.truth))) for metric in METRICS[concept]}
    donors = _donors(heard.groups)
    scores = []
    for metric, sums in real.items():
        finish = _macro_f1 if metric == "macro_f1" else spread.mean
        pieces = int((sums[:, -1] > 0).sum())
        scores.append(spread.estimate(metric, sums, finish, heard.plan, pieces=pieces))
        if donors and scores[-1].value is not None:
            null = np.mean([_sums(metric, made, heard, donor) for donor in donors], axis=0)
            scores.append(spread.estimate(metric, null, finish, heard.plan, pieces=pieces, control=PERMUTED))
    return scores


def _donors(groups: NDArray[np.int64]) -> list[list[int]]:
    """For each assignment, the clip whose estimates each clip gets: of the piece so many places further on, never its own."""
    members = [np.flatnonzero(groups == piece) for piece in np.unique(groups)]
    order = np.random.default_rng(0).permutation(len(members))
    shifts: list[int] = []
    if len(members) > 1:
        shifts = np.unique(np.linspace(1, len(members) - 1, SHIFTS).round().astype(int)).tolist()
    donors = []
    for shift in shifts:
        donor = np.zeros(len(groups), int)
        for place, piece in enumerate(order):
            source = members[order[(place + shift) % len(members)]]
            donor[members[piece]] = np.resize(source, len(members[piece]))
        donors.append(donor.tolist())
    return donors


def _sums(metric: str, made: _Comparison, heard: Heard, donor: Sequence[int]) -> NDArray[np.float64]:
    """Sums per piece ``[G, m]``, the last of them positive where anything is counted."""
    compare: Callable[[Annotations, Annotations, float], Sequence[float]] = getattr(made, metric)
    rows = [compare(t, heard.estimates[d], s) for t, d, s in zip(heard.truth, donor, heard.seconds, strict=True)]
    return spread.piece_sums(np.array(rows), heard.groups, heard.plan.shape[1])


class _Comparison:
    """One clip's truth against an estimate: sufficient statistics (score, weight). Pairs of labels are compared once."""

    def __init__(self) -> None:
        self._chords: dict[tuple[str, str, str], float] = {}
        self._keys = mir.key_table()

    def weighted_key(self, truth: Annotations, estimate: Annotations, seconds: float) -> tuple[float, float]:
        real, guess = _key(truth, KEY_SHARE * seconds), _key(estimate, 0.0)
        return (float(self._keys[real, guess]) if min(real, guess) >= 0 else 0.0, float(real >= 0))

    def key_accuracy(self, truth: Annotations, estimate: Annotations, seconds: float) -> tuple[float, float]:
        real = _key(truth, KEY_SHARE * seconds)
        return float(real >= 0 and real == _key(estimate, 0.0)), float(real >= 0)

    def wcsr_root(self, truth: Annotations, estimate: Annotations, seconds: float) -> tuple[float, float]:
        return self._recall("root", truth.chords, estimate.chords, seconds)

    def wcsr_majmin(self, truth: Annotations, estimate: Annotations, seconds: float) -> tuple[float, float]:
        return self._recall("majmin", truth.chords, estimate.chords, seconds)

    def _recall(self, metric: str, truth: Sequence[Span], estimate: Sequence[Span], seconds: float) -> tuple[float, float]:
        guesses = _filled(estimate, seconds)
        starts = np.array([s.start for s in guesses])
        rows, spans, lengths = mir.overlaps(truth, starts, np.array([s.end for s in guesses]) - starts)
        hit = counted = 0.0
        for row, span, length in zip(rows, spans, lengths, strict=True):
            equal = self._equal(metric, truth[span].label, guesses[row].label)
            hit, counted = hit + length * (equal == 1), counted + length * (equal >= 0)
        return hit, counted

    def _equal(self, metric: str, real: str, guess: str) -> float:
        key = (metric, real, guess)
        if key not in self._chords:
            self._chords[key] = float(mir.chord_table(metric, [real], [guess])[0, 0])
        return self._chords[key]

    def acc1(self, truth: Annotations, estimate: Annotations, seconds: float) -> tuple[float, float]:
        return _tempo(mir.acc1, truth, estimate)

    def acc2(self, truth: Annotations, estimate: Annotations, seconds: float) -> tuple[float, float]:
        return _tempo(mir.acc2, truth, estimate)

    def p_score(self, truth: Annotations, estimate: Annotations, seconds: float) -> tuple[float, float]:
        return _tempo(mir.p_score, truth, estimate)

    def beat_f(self, truth: Annotations, estimate: Annotations, seconds: float) -> tuple[float, float]:
        counted = len(truth.beats) > 1
        return mir.beat_f_measure(truth.beats, estimate.beats) if counted else 0.0, float(counted)

    def macro_f1(self, truth: Annotations, estimate: Annotations, seconds: float) -> list[float]:
        """True positives, positives and detections of each family, 0 where it was not observed, and 1."""
        real, guess = ([float(f in a.instruments - truth.unobserved) for f in _FAMILIES] for a in (truth, estimate))
        return [*(r * g for r, g in zip(real, guess, strict=True)), *real, *guess, 1.0]


def _macro_f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    hits, real, guess = np.split(sums[..., :-1], 3, axis=-1)
    return spread.nanmean(np.where(real > 0, spread.ratio(2 * hits, real + guess), np.nan))


def _key(a: Annotations, least: float) -> int:
    """The key (`mir.KEYS`) that holds longest, and over more than `least` seconds; -1 where there is none."""
    seconds = np.zeros(len(mir.KEYS))
    for span in a.keys:
        index = mir.key_index(span.label)
        seconds[max(index, 0)] += (span.end - span.start) * (index >= 0)
    return int(seconds.argmax()) if seconds.max() > least else -1


def _tempo(
    score: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]], truth: Annotations, estimate: Annotations
) -> tuple[float, float]:
    if truth.tempo is None:
        return 0.0, 0.0
    return (0.0 if estimate.tempo is None else float(score(np.array([truth.tempo]), np.array([estimate.tempo]))[0])), 1.0


def _filled(spans: Sequence[Span], seconds: float) -> list[Span]:
    """Spans with ``N`` in the gaps between them, before and after, up to the clip's end."""
    filled: list[Span] = []
    end = 0.0
    for span in (*spans, Span(seconds, seconds, "")):
        if span.start > end:
            filled.append(Span(end, span.start, "N"))
        if min(span.end, seconds) > span.start:
            filled.append(Span(span.start, min(span.end, seconds), span.label))
        end = max(end, span.end)
    return filled
