"""Scores of music information retrieval. The only caller of mir_eval in musae.

- Chords: weighted chord recall (MIREX, `mir_eval.chord.weighted_accuracy`): the share of time at which a comparison
  function calls estimate and reference equal. References keep their full Harte labels (``A:maj/2`` is not ``A:maj``);
  time at which mir_eval calls the reference out of the comparison's gamut (-1) is not counted. Comparison functions
  work label by label, so they are evaluated once for each pair of distinct labels and weighted by the time that the
  pair sounds together: the same number as calling mir_eval for every clip, thousands of calls fewer.
- Key: `mir_eval.key.weighted_score` **with descending fifths allowed**, as MIREX counts since 2017: 1 for the key, .5
  for a perfect fifth up *or down* in the same mode, .3 for the relative, .2 for the parallel key. mir_eval's own
  default counts only the fifth up, and 0.8.2 has no ``allow_descending_fifths``; swapping the arguments turns a fifth
  down into a fifth up and changes nothing else, so the larger of the two orders is that definition in every version.
- Beats: `mir_eval.beat.f_measure` with its window of 70 ms, over all beats: `mir_eval.beat.evaluate` would drop those of the
  first five seconds, half of a clip.
- Tempo: `mir_eval.tempo.detection` with reference (bpm, 2 bpm), weight 1 and tolerance 8 %: with weight 1 only the
  annotated tempo counts. Acc1 and Acc2 (Gouyon et al. 2006): within 4 % of the reference; or of 2, 3, 1/2 or 1/3 times
  it.
"""

from __future__ import annotations

from collections.abc import Sequence

import mir_eval
import numpy as np
from numpy.typing import NDArray

from musae.corpora.track import Span

TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
"""Name of each pitch class, as chord roots and as tonics."""

CHORD_METRICS = ("root", "thirds", "triads", "majmin", "sevenths", "mirex")
"""mir_eval's comparison functions that are reported, coarse to fine."""

VOCABULARIES = {
    "root": (*TONICS, "N"),
    "majmin": (*(f"{t}:{q}" for q in ("maj", "min") for t in TONICS), "N"),
    "sevenths": (*(f"{t}:{q}" for q in ("maj", "min", "maj7", "7", "min7") for t in TONICS), "N"),
}
"""Chords that a probe may answer, under the name of the comparison by which labels are sorted into them."""

KEYS = tuple(f"{t} {mode}" for mode in ("major", "minor") for t in TONICS)
"""The 24 keys that a probe may answer."""

P_TOLERANCE = 0.08
"""Relative tolerance of the P-score (MIREX)."""

BEAT_WINDOW = 0.07
"""Seconds by which an estimated beat may be off."""


def chord_table(metric: str, references: Sequence[str], estimates: Sequence[str]) -> NDArray[np.float64]:
    """mir_eval's comparison of each reference with each estimate ``[references, estimates]``: 1, 0, or -1 out of gamut."""
    pairs = [(r, e) for r in references for e in estimates]
    scores = getattr(mir_eval.chord, metric)([r for r, _ in pairs], [e for _, e in pairs]) if pairs else []
    return np.asarray(scores, np.float64).reshape(len(references), len(estimates))


def chord_classes(labels: Sequence[str], vocabulary: str) -> NDArray[np.int64]:
    """The member of a vocabulary that mir_eval's comparison of that name calls equal to each label; -1 where none is."""
    hits = chord_table(vocabulary, labels, VOCABULARIES[vocabulary]) == 1
    return np.where(hits.any(1), hits.argmax(1), -1)


def overlaps(
    spans: Sequence[Span], starts: NDArray[np.float64], width: float | NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Merge reference spans with estimated segments ``[starts, starts + width)``: row, span and seconds of each common piece.

    Both are sorted and do not overlap among themselves. Stretches that only one of them covers are left out.
    """
    begins, ends, stops = np.array([s.start for s in spans]), np.array([s.end for s in spans]), starts + width
    points = np.unique(np.concatenate([starts, stops, begins, ends]))
    middles, seconds = (points[1:] + points[:-1]) / 2, np.diff(points)
    row, span = np.searchsorted(starts, middles, "right") - 1, np.searchsorted(begins, middles, "right") - 1
    inside = (row >= 0) & (span >= 0)
    inside[inside] = (middles[inside] < stops[row[inside]]) & (middles[inside] < ends[span[inside]])
    return row[inside], span[inside], seconds[inside]


def key_index(key: str) -> int:
    """The index in `KEYS` of a key of any spelling; -1 for modes other than major and minor."""
    mir_eval.key.validate_key(key)
    tonic, mode = mir_eval.key.split_key_string(key)
    return -1 if mode not in ("major", "minor") or tonic is None else int(tonic) + 12 * (mode == "minor")


def key_table() -> NDArray[np.float64]:
    """Weighted key score of each reference and estimate ``[24, 24]``, descending fifths allowed."""
    table = np.array([[mir_eval.key.weighted_score(r, e) for e in KEYS] for r in KEYS])
    return np.asarray(np.maximum(table, table.T), np.float64)


def p_score(reference: NDArray[np.float64], estimate: NDArray[np.float64]) -> NDArray[np.float64]:
    """mir_eval's tempo P-score of each pair of tempi in bpm ``[n]``; an estimate below 1 bpm counts as 1."""
    pairs = zip(reference, np.maximum(estimate, 1.0), strict=True)
    return np.array(
        [mir_eval.tempo.detection(np.array([r, 2 * r]), 1.0, np.array([e, e]), P_TOLERANCE)[0] for r, e in pairs], np.float64
    )


def near(
    reference: NDArray[np.float64], estimate: NDArray[np.float64], tolerance: float, factors: Sequence[float] = (1.0,)
) -> NDArray[np.float64]:
    """1 where the estimate is within a relative tolerance of any of the factors times the reference, else 0 ``[n]``."""
    target = reference[:, None] * np.asarray(factors)
    hits: NDArray[np.bool_] = (np.abs(estimate[:, None] - target) <= tolerance * target).any(1)
    return hits.astype(np.float64)


def acc1(reference: NDArray[np.float64], estimate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tempo accuracy of each pair of tempi in bpm ``[n]``: within 4 %."""
    return near(reference, estimate, 0.04)


def acc2(reference: NDArray[np.float64], estimate: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same, where twice, three times, half and a third of the reference count too."""
    return near(reference, estimate, 0.04, (1, 2, 3, 1 / 2, 1 / 3))


def beat_f_measure(reference: Sequence[float], estimate: Sequence[float]) -> float:
    """F-measure of estimated beat times in seconds; 0 where nothing is estimated. Both ascend."""
    if not len(estimate):
        return 0.0  # mir_eval says the same, and warns
    return float(mir_eval.beat.f_measure(np.array(reference, float), np.array(estimate, float), BEAT_WINDOW))
