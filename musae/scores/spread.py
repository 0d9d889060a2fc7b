"""Error bars: one resampling plan of pieces for a whole corpus, applied to additive sums per piece.

The unit is the piece (`musae.corpora.track`: `group`); clips and frames of a piece are not independent. Every metric is
written as ``finish(sums)``, where `sums [G, m]` are sufficient statistics that add up over pieces (hits and durations,
squared errors, histograms). Its value is ``finish`` of their total and its R bootstrap replicates are ``finish(plan @
sums)``, so a replicate costs a row of a matrix product, and the difference of two scores under one plan is a paired
difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.scores.score import Score

Finish = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps sums ``[..., m]`` to the metric ``[...]``; NaN where it is undefined."""

UNDEFINED = "undefined on these clips: its denominator is zero"


def random(corpus_revision: str, purpose: str) -> np.random.Generator:
    """The generator of random numbers for one purpose on one corpus revision: the same for everybody."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{purpose}:{corpus_revision}".encode()).digest()[:8], "big"))


def resampling_plan(corpus_revision: str, pieces: int, replicates: int = 1000) -> NDArray[np.float32]:
    """How often each piece is drawn in each replicate of the bootstrap ``[R, G]``; rows sum to G. Fixed by the revision."""
    draws = random(corpus_revision, "bootstrap").multinomial(pieces, np.full(pieces, 1 / pieces), size=replicates)
    return draws.astype(np.float32)


def piece_sums(values: NDArray, groups: NDArray[np.int64], pieces: int) -> NDArray[np.float64]:
    """Sum rows ``[n]`` or ``[n, m]`` over the piece of each row: ``[G, m]``."""
    columns = np.asarray(values, np.float64).reshape(len(groups), -1).T
    return np.stack([np.bincount(groups, weights=column, minlength=pieces) for column in columns], axis=1)


def ratio(numerator: NDArray, denominator: NDArray) -> NDArray[np.float64]:
    """Elementwise quotient; NaN where the denominator is zero."""
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out


def nanmean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis of what is not NaN; NaN where all is."""
    return ratio(np.nan_to_num(values).sum(-1), np.isfinite(values).sum(-1))


def mean(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The commonest `Finish`: first sum over second."""
    return ratio(sums[..., 0], sums[..., 1])


def estimate(
    metric: str, sums: NDArray[np.float64], finish: Finish, plan: NDArray[np.float32], *, keep: bool = False, **where: Any
) -> Score:
    """A `Score` from sums per piece ``[G, m]``: see `summarise`."""
    return summarise(metric, finish(np.vstack([sums.sum(0, keepdims=True), plan.astype(np.float64) @ sums])), keep=keep, **where)


def summarise(metric: str, values: NDArray[np.float64], *, keep: bool = False, centre: bool = False, **where: Any) -> Score:
    """A `Score` from the value on the sample followed by its replicates ``[1 + R]``, with a 95 % percentile interval.

    `keep` stores the replicates (for main scores). `centre` shifts them so that their mean is the value: for counts of rare
    events and average precision, which resampling with replacement biases (it repeats pieces and leaves out a third of them), so
    that only their spread says anything. `where` are further fields of `Score`. Replicates in which the metric is undefined are
    NaN and do not enter the interval; an undefined value is unscored.
    """
    value, replicates = float(values[0]), values[1:]
    if not np.isfinite(value):
        return Score(metric, None, UNDEFINED).on(**where)
    if not np.isfinite(replicates).any():
        return Score(metric, value).on(**where)
    if centre:
        replicates = replicates + (value - np.nanmean(replicates))
    low, high = np.nanpercentile(replicates, (2.5, 97.5))
    score = Score(metric, value, low=float(low), high=float(high))
    return score.on(replicates=replicates.astype(np.float32) if keep else None, **where)


def with_total(plan: NDArray[np.float32]) -> NDArray[np.float32]:
    """The plan with the sample itself (every piece once) as row 0: ``[1 + R, G]``."""
    return np.vstack([np.ones((1, plan.shape[1]), plan.dtype), plan])
