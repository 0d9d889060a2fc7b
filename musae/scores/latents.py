"""The single latent that detects a concept value best: chosen on training folds, scored on the held-out one.

A detector is a latent, a sign and a threshold: it fires where the value is above the threshold, or below. The best F1
over the training folds chooses it, for each class and held-out fold anew. Thresholds are taken from `THRESHOLDS`
quantiles of the latent's values, seen on one training fold. Silence of a sparse code is no detection: its thresholds
lie at or above zero (0: it fires at all), its positive and negative values apart; a dense feature is tried above and
below each threshold.

Beside F1 the average precision of the chosen latent is reported: F1 needs a threshold, AUROC hides the ties at zero of
sparse codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from musae.scores.probe import Code
from musae.scores.ranking import rank_scores
from musae.scores.score import CHANCE, PERMUTED, Score
from musae.scores.spread import nanmean, piece_sums, ratio, summarise, with_total

THRESHOLDS = 12
"""Thresholds tried per latent and sign."""

SAMPLE = 2_000
"""Rows of the training fold from which a dense feature's quantiles are taken."""

BLOCK = 2_048
"""Rows of a dense code that are compared at a time, so that they stay in the processor's cache."""

PIECES = 3
"""A class is scored when it holds in at least so many pieces."""


@dataclass(frozen=True, eq=False)
class Detectors:
    """The chosen detectors on the rows of their held-out folds."""

    values: NDArray[np.float32]
    """Signed value of the chosen latent of each class ``[n, C]``."""
    fired: NDArray[np.bool_]
    """Whether it is above its threshold ``[n, C]``."""
    latent: NDArray[np.int64]
    """Which latent was chosen for each held-out fold and class ``[folds, C]``."""

    def of(self, columns: slice) -> Detectors:
        """The detectors of some classes."""
        return Detectors(self.values[:, columns], self.fired[:, columns], self.latent[:, columns])


def best_latents(x: Code, folds: NDArray[np.int64], classes: NDArray, seen: NDArray | None = None) -> Detectors:
    """Choose on the other folds, for each fold and column of ``classes [n, C]`` (0 or 1), the detector with the best F1.

    `x`: features ``[n, F]``; `seen`: which cells of `classes` are known ``[n, C]``, all where None. Ties go to the positive sign,
    then to the first latent, then to the lowest threshold.
    """
    names = np.unique(folds)
    classes = np.asarray(classes, np.float32)
    seen = np.ones((len(classes), 1), np.float32) if seen is None else np.asarray(seen, np.float32)
    classes = classes * seen
    positives = np.stack([classes[folds == f].sum(0, dtype=np.float64) for f in names])
    grids: dict[int, tuple[NDArray, NDArray]] = {}
    values, fired = np.empty(classes.shape, np.float32), np.empty(classes.shape, bool)
    latent = np.empty((len(names), classes.shape[1]), np.int64)
    for i, fold in enumerate(names):
        reference = int(i == 0)  # a training fold, whose values place the thresholds
        if reference not in grids:
            grids[reference] = _count(x, folds, names, names[reference], np.hstack([classes, seen]))
        edges, counts = grids[reference]
        others = np.arange(len(names)) != i
        above, positive = counts[others].sum(0), positives[others].sum(0)
        hits, size = np.split(above, [classes.shape[1]], axis=-1)
        f1 = 2 * hits / np.maximum(size + positive, 1)
        best = f1.reshape(-1, f1.shape[-1]).argmax(0)
        side, latent[i], threshold = np.unravel_index(best, f1.shape[:-1])
        rows, cut = np.flatnonzero(folds == fold), edges[side, latent[i], threshold]
        if isinstance(x, scipy.sparse.csr_array):
            column = x[rows][:, latent[i]].toarray()
            below = -column > cut
        else:
            column = x[np.ix_(rows, latent[i])]
            below = column <= cut
        values[rows], fired[rows] = np.where(side == 0, column, -column), np.where(side == 0, column > cut, below)
    return Detectors(values, fired, latent)


def _count(
    x: Code, folds: NDArray[np.int64], names: NDArray[np.int64], reference: int, y: NDArray[np.float32]
) -> tuple[NDArray, NDArray]:
    """Thresholds ``[2, F, B]`` by sign, and how often each detector fires on the rows of each column of ``y [n, Y]`` (0 or 1):
    ``[folds, 2, F, B, Y]``."""
    if not isinstance(x, scipy.sparse.csr_array):
        return _count_dense(x, folds, names, reference, y)
    edges = np.zeros((2, x.shape[1], THRESHOLDS), np.float32)
    counts = np.zeros((len(names), 2, x.shape[1], THRESHOLDS, y.shape[1]))
    for side, part in enumerate((x, -x)):
        part = _positive(part)
        if part.nnz:
            edges[side] = _quantiles(part[folds == reference])
            level = np.zeros(part.nnz, np.int64)
            for b in range(1, THRESHOLDS):
                level += part.data > edges[side, part.indices, b]
            bins = part.indices.astype(np.int64) * THRESHOLDS + level
            fires = scipy.sparse.csr_array((np.ones(part.nnz, np.float32), bins, part.indptr), (len(y), x.shape[1] * THRESHOLDS))
            for i, fold in enumerate(names):
                histogram = (fires[folds == fold].T @ y[folds == fold]).reshape(x.shape[1], THRESHOLDS, -1)
                counts[i, side] = histogram[:, ::-1].cumsum(1)[:, ::-1]
    return edges, counts


def _count_dense(
    x: NDArray, folds: NDArray[np.int64], names: NDArray[np.int64], reference: int, y: NDArray[np.float32]
) -> tuple[NDArray, NDArray]:
    seen = np.flatnonzero(folds == reference)
    seen = seen[:: max(1, len(seen) // SAMPLE)]
    cuts = np.quantile(x[seen], np.arange(1, THRESHOLDS + 1) / (THRESHOLDS + 1), axis=0).T.astype(x.dtype)
    counts = np.zeros((len(names), 2, x.shape[1], THRESHOLDS, y.shape[1]))
    for i, fold in enumerate(names):
        rows = np.flatnonzero(folds == fold)
        for start in range(0, len(rows), BLOCK):
            block, labels = x[rows[start : start + BLOCK]], y[rows[start : start + BLOCK]]
            for b in range(THRESHOLDS):
                counts[i, 0, :, b] += (block > cuts[:, b]).T.astype(np.float32) @ labels
        counts[i, 1] = y[rows].sum(0, dtype=np.float64) - counts[i, 0]
    return np.stack([cuts, cuts]), counts


def _positive(x: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """The entries above zero."""
    if (x.data > 0).all():
        return x
    part = x.copy()  # eliminate_zeros writes into the indices
    part.data = np.maximum(part.data, 0)
    part.eliminate_zeros()
    return part


def _quantiles(x: scipy.sparse.csr_array) -> NDArray[np.float32]:
    """Thresholds ``[F, B]`` of a positive code: 0, then quantiles of each latent's stored values; infinite where it is silent."""
    order = np.lexsort((x.data, x.indices))
    counts = np.bincount(x.indices, minlength=x.shape[1])
    starts = counts.cumsum() - counts
    edges = np.full((x.shape[1], THRESHOLDS), np.inf, np.float32)
    alive = counts > 0
    at = starts[alive, None] + counts[alive, None] * np.arange(THRESHOLDS) // THRESHOLDS
    edges[alive] = x.data[order][at]
    edges[:, 0] = 0
    return edges


def latent_scores(
    concept: str,
    names: Sequence[str],
    x: Code,
    real: NDArray,
    mixed: NDArray,
    levels: NDArray[np.str_],
    folds: NDArray[np.int64],
    groups: NDArray[np.int64],
    plan: NDArray[np.float32],
    seen: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None,
) -> list[Score]:
    """Macro ``f1_<concept>`` and ``ap_<concept>`` of the best latents and a row of each per class, with their controls, at each
    level of truth.

    `real`, `mixed`: which classes hold in each row ``[n, C]``, truly and with labels permuted between pieces; `levels [n]`: level
    of truth of each row, empty for a row that only trains; `seen`: which cells of `real` and of `mixed` are known (the others
    neither train nor count), all where None. Chance is a detector that always fires.
    """
    known = (np.ones(real.shape, bool), np.ones(mixed.shape, bool)) if seen is None else seen
    both = best_latents(x, folds, np.hstack([real, mixed]), None if seen is None else np.hstack(seen))
    count = real.shape[1]
    always = Detectors(np.zeros(real.shape, np.float32), np.ones(real.shape, bool), both.latent[:, :count])
    cases = (
        ("", both.of(slice(count)), real, known[0]),
        (CHANCE, always, real, known[0]),
        (PERMUTED, both.of(slice(count, None)), mixed, known[1]),
    )
    out = []
    for level in np.unique(levels[levels != ""]):
        rows = levels == level
        for control, found, classes, cells in cases:
            at: dict[str, Any] = {"truth": str(level), "control": control, "pieces": len(np.unique(groups[rows]))}
            out += _macro(concept, names, found, np.asarray(classes, bool), cells, rows, folds, groups, plan, at)
    return out


def _macro(
    concept: str,
    names: Sequence[str],
    found: Detectors,
    classes: NDArray[np.bool_],
    seen: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    folds: NDArray[np.int64],
    groups: NDArray[np.int64],
    plan: NDArray[np.float32],
    at: dict[str, Any],
) -> list[Score]:
    """F1 and average precision of detectors on the known cells of some rows, over the classes and of each.

    A class is scored when it holds in at least `PIECES` pieces and two folds of these rows. A replicate without any positive of a
    class leaves it out of its mean.
    """
    f1_name, ap_name, pieces, whole = f"f1_{concept}", f"ap_{concept}", plan.shape[1], with_total(plan)
    folds, groups, values, seen = folds[rows], groups[rows], found.values[rows], seen[rows]
    classes, fired = classes[rows] & seen, found.fired[rows] & seen
    f1, ap = np.full((2, len(whole), len(names)), np.nan)
    held = (piece_sums(classes, groups, pieces) > 0).sum(0)
    scored = [c for c in range(len(names)) if held[c] >= PIECES and len(np.unique(folds[classes[:, c]])) > 1]
    if not scored:
        return [Score(m, None, f"no class holds in {PIECES} pieces of two folds").on(**at) for m in (f1_name, ap_name)]
    for c in scored:
        sums = piece_sums(np.stack([fired[:, c] & classes[:, c], fired[:, c], classes[:, c]], 1), groups, pieces)
        hits, size, positives = (whole.astype(np.float64) @ sums).T
        f1[:, c] = np.where(positives > 0, ratio(2 * hits, size + positives), np.nan)
        known = seen[:, c]
        ap[:, c] = rank_scores(values[known, c], classes[known, c], folds[known], groups[known], whole)[1]
    out = [
        summarise(f1_name, nanmean(f1[:, scored]), keep=not at["control"], **at),
        summarise(ap_name, nanmean(ap[:, scored]), centre=True, **at),
    ]
    for c, name in enumerate(names):
        for metric, figures in ((f1_name, f1), (ap_name, ap)):
            if c in scored:
                on = at | {"pieces": len(np.unique(groups[seen[:, c]]))}
                out.append(summarise(metric, figures[:, c], centre=metric == ap_name, label=name, **on))
            else:
                out.append(Score(metric, None, f"{name} holds in fewer than {PIECES} pieces of two folds", label=name).on(**at))
    return out
