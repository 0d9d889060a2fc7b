"""Intervals, and when two methods are told apart.

Two sources of error are kept apart and then combined. *Pieces*: the bootstrap over the pieces of the corpus, by a resampling plan
that the corpus revision fixes, so that replicate r of every dictionary is of the same pieces and a paired difference is a
subtraction. *Seeds*: the t-interval of the mean over training seeds, from two seeds on. The sources are independent, hence the
combined interval has the half-widths added in quadrature, each side by itself.

Two methods are *separated* when the 95 % interval of the paired bootstrap of their seed-averaged difference excludes 0 and the
difference has the same sign for every seed; otherwise they tie. No correction for the number of comparisons is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special
from numpy.typing import NDArray

LEVEL = 0.95
"""Coverage of every interval."""


@dataclass(frozen=True)
class Sample:
    """A method's scores on one line of the board."""

    values: Mapping[int | None, float]
    """Seed -> value; the seed None for a method that has none."""
    replicates: NDArray[np.float64]
    """Bootstrap replicates of the seed average ``[R]``; NaN where a resample leaves the score undefined."""

    @property
    def mean(self) -> float:
        """The seed average."""
        return math.fsum(self.values.values()) / len(self.values)


@dataclass(frozen=True)
class Interval:
    """The seed average with its 95 % intervals."""

    value: float
    low: float
    """Lower end of the combined interval."""
    high: float
    pieces: tuple[float, float] | None
    """Ends of the piece-bootstrap interval of the seed average."""
    seeds: float | None
    """Half-width of the t-interval over seeds; None for fewer than two seeds."""


def interval(sample: Sample) -> Interval:
    """The seed average with its piece interval, its seed interval and both combined."""
    value, pieces, seeds = sample.mean, quantiles(sample.replicates), seed_half_width(list(sample.values.values()))
    below, above = (max(0.0, value - pieces[0]), max(0.0, pieces[1] - value)) if pieces else (0.0, 0.0)
    return Interval(value, value - math.hypot(below, seeds or 0.0), value + math.hypot(above, seeds or 0.0), pieces, seeds)


def quantiles(replicates: NDArray[np.float64]) -> tuple[float, float] | None:
    """Ends of the 95 % percentile interval of replicates ``[R]``, undefined ones left out; None when none is defined."""
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def seed_half_width(values: Sequence[float]) -> float | None:
    """Half-width of the 95 % t-interval of the mean of `values`; None for fewer than two."""
    n = len(values)
    if n < 2:
        return None
    return float(scipy.special.stdtrit(n - 1, (1 + LEVEL) / 2)) * float(np.std(values, ddof=1)) / math.sqrt(n)


def sign(a: Sample, b: Sample) -> int:
    """+1 when `a` is separated above `b` in value, -1 when below, 0 when they tie.

    Seeds are paired where both have the same ones; otherwise (one has no seed, or they differ) every value of `a` is held
    against every value of `b`.
    """
    ends = quantiles(a.replicates - b.replicates)
    if ends is None or ends[0] <= 0.0 <= ends[1]:
        return 0
    if a.values.keys() == b.values.keys():
        differences = [a.values[seed] - b.values[seed] for seed in a.values]
    else:
        differences = [x - y for x in a.values.values() for y in b.values.values()]
    towards = 1 if ends[0] > 0 else -1
    return towards if all(difference * towards > 0 for difference in differences) else 0
