"""Effects of interventions: paired differences over pieces, their bootstrap intervals, and Holm's correction over concepts.

A shift is what an ear measures of a steered continuation less what it measures of the unsteered one of the same prompt and
seed. Pieces are the unit; random directions, where they are the null, are resampled with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musae.scores import spread

REPLICATES = 4000
"""Bootstrap replicates: the smallest p-value is 1 / 4001, which survives Holm's correction over 200 concepts."""


@dataclass(frozen=True)
class Effect:
    """A mean with its 95 % interval and, where it is held against 0, a p-value."""

    value: float
    low: float
    high: float
    p: float
    """One-sided: share of the bootstrap at or below 0."""
    pieces: int


def shift(steered: NDArray[np.float64], unsteered: NDArray[np.float64], sign: int) -> NDArray[np.float64]:
    """Shift of each piece ``[n]``: ``sign`` times the difference ``[seeds, n]``, mean over seeds; NaN where none is known."""
    difference = sign * (steered - unsteered)
    known = np.isfinite(difference)
    total, count = np.where(known, difference, 0.0).sum(0), known.sum(0)
    return spread.ratio(total, count)


def effect(shifts: NDArray[np.float64], seed: int = 0) -> Effect:
    """Mean shift over pieces ``[n]``; those that are NaN are left out."""
    return beyond(shifts, np.zeros((1, len(shifts))), seed)


def beyond(shifts: NDArray[np.float64], null: NDArray[np.float64], seed: int = 0) -> Effect:
    """Mean shift ``[n]`` less the mean over null directions ``[k, n]``; pieces and directions are resampled.

    Pieces of which the shift is not known are left out, as are single shifts of the null.
    """
    kept = np.isfinite(shifts)
    shifts, null = shifts[kept], null[:, kept]
    n, k = len(shifts), len(null)
    if n == 0:
        return Effect(float("nan"), float("nan"), float("nan"), 1.0, 0)
    known = np.isfinite(null)
    filled = np.where(known, null, 0.0)
    rng = np.random.default_rng([seed, n, k])
    pieces = rng.multinomial(n, np.full(n, 1 / n), REPLICATES).astype(float)
    directions = rng.multinomial(k, np.full(k, 1 / k), REPLICATES).astype(float)

    def mean_null(directions: NDArray[np.float64], pieces: NDArray[np.float64]) -> NDArray[np.float64]:
        total = ((directions @ filled) * pieces).sum(1)
        count = ((directions @ known.astype(float)) * pieces).sum(1)
        return np.nan_to_num(spread.ratio(total, count))

    value = shifts.mean() - mean_null(np.ones((1, k)), np.ones((1, n)))[0]
    drawn = pieces @ shifts / n - mean_null(directions, pieces)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Effect(float(value), float(low), float(high), float((1 + (drawn <= 0).sum()) / (1 + REPLICATES)), n)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given."""
    order = np.argsort(p, kind="stable")
    adjusted, largest = np.empty(len(p)), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return [float(value) for value in adjusted]
