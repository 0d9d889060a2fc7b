"""ROC-AUC and average precision with bootstrap replicates, in one pass over sorted scores.

Definitions are scikit-learn's (`roc_auc_score`, `average_precision_score`): ties count half in the first and share one
threshold in the second. Scores of different folds come from different fits and are not compared: each curve is drawn
within a fold, and folds are averaged by their number of (positive, negative) pairs, or of positives. Pooling instead
would put chance below one half, since a training set's prevalence falls as the held-out fold's rises.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musae.scores.spread import ratio

LEVELS = 128
"""Thresholds of a curve. Exact up to as many distinct scores in a fold; beyond, scores are read off at their quantiles."""


def rank_scores(
    scores: NDArray,
    positive: NDArray[np.bool_],
    folds: NDArray[np.int64],
    groups: NDArray[np.int64],
    plan: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ROC-AUC and average precision under each row of a plan: two arrays ``[R]``, NaN where a replicate lacks a class.

    `scores`, `positive`, `folds`, `groups`: ``[n]`` per example; `plan`: ``[R, G]`` (`spread.with_total` for the value first).
    """
    area, pairs, precision, positives = (np.zeros(len(plan)) for _ in range(4))
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        members, piece = np.unique(groups[rows], return_inverse=True)
        level = _levels(scores[rows])
        count = int(level.max()) + 1
        cell = (piece * 2 + positive[rows]) * count + level
        histogram = np.bincount(cell, minlength=len(members) * 2 * count).reshape(len(members), 2 * count)
        drawn = (plan[:, members].astype(np.float64) @ histogram).reshape(-1, 2, count)
        fp, tp = np.moveaxis(drawn.cumsum(-1), 1, 0)
        hits, misses = drawn[:, 1], drawn[:, 0]
        area += (misses * (tp - hits / 2)).sum(-1)
        pairs += tp[:, -1] * fp[:, -1]
        precision += (hits * np.nan_to_num(ratio(tp, tp + fp))).sum(-1)
        positives += tp[:, -1]
    return ratio(area, pairs), ratio(precision, positives)


def _levels(scores: NDArray) -> NDArray[np.int64]:
    """Rank of each score among the distinct ones, 0 the highest; at most about `LEVELS` of them, equal scores always together."""
    distinct, rank = np.unique(-np.asarray(scores, np.float64), return_inverse=True)
    if len(distinct) > LEVELS:
        below = np.bincount(rank).cumsum() - 1
        _, merged = np.unique(below * LEVELS // len(scores), return_inverse=True)
        rank = merged[rank]
    return rank.astype(np.int64)
