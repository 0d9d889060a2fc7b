"""Interleaved rounds and what may be concluded from them, without assuming that timings are normal.

Contestants take turns within a round, each round starting with another one, so that a neighbour on the machine hits all alike.
Two contestants are compared within rounds: the ratio of their times in the same round. The ratio's estimate is that of Hodges
and Lehmann (the median of the Walsh averages, here of the logarithms), its interval the one that Wilcoxon's signed-rank test
gives exactly (Hollander, Wolfe, Chicken 2014, "Nonparametric Statistical Methods", sections 3.2 and 3.3). The median of one
contestant's rounds has the interval of the sign test (section 3.6). Fewer than six rounds give no 95 % interval: None.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
LEVEL = 0.95
"""Least coverage of the intervals; being discrete, they cover a little more (96.1 % for nine rounds)."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; both ends are None where there are too few rounds for one."""

    value: float
    low: float | None
    high: float | None
    rounds: int


def rotation(contestants: Sequence[T], round_: int) -> list[T]:
    """The order in round 0, 1, ...: A B C, B C A, C A B, A B C."""
    first = round_ % len(contestants) if contestants else 0
    return [*contestants[first:], *contestants[:first]]


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Numerator over denominator from pairs of the same round; all positive. Raises ValueError for unequal or empty lists."""
    logs = [math.log(a / b) for a, b in zip(numerators, denominators, strict=True)]
    n = len(logs)
    if not n:
        raise ValueError("a ratio needs at least one round")
    averages = sorted((logs[i] + logs[j]) / 2 for i in range(n) for j in range(i, n))
    cut = signed_rank_cut(n)
    low, high = (averages[cut - 1], averages[-cut]) if cut else (None, None)
    return Estimate(math.exp(statistics.median(averages)), _exp(low), _exp(high), n)


def median(values: Sequence[float]) -> Estimate:
    """Median of the rounds of one contestant. Raises ValueError for none."""
    if not values:
        raise ValueError("a median needs at least one round")
    ordered = sorted(values)
    cut = sign_cut(len(ordered))
    low, high = (ordered[cut - 1], ordered[-cut]) if cut else (None, None)
    return Estimate(statistics.median(ordered), low, high, len(ordered))


def signed_rank_cut(n: int) -> int:
    """Which Walsh average from either end bounds the interval for n pairs (1: the outermost); 0 where none covers `LEVEL`.

    The largest c with ``P(T < c) <= (1 - LEVEL) / 2``, T being the signed-rank statistic: the sum of a random subset of 1..n.
    """
    subsets = [1] + [0] * (n * (n + 1) // 2)
    for rank in range(1, n + 1):
        for total in range(len(subsets) - 1, rank - 1, -1):
            subsets[total] += subsets[total - rank]
    return _cut(subsets, 2**n)


def sign_cut(n: int) -> int:
    """The same for order statistics of n values: the largest c with ``P(B < c) <= (1 - LEVEL) / 2``, B binomial(n, 1/2)."""
    return _cut([math.comb(n, successes) for successes in range(n + 1)], 2**n)


def _cut(counts: Sequence[int], total: int) -> int:
    below = 0
    for c, count in enumerate(counts):
        below += count
        if below > (1 - LEVEL) / 2 * total:
            return c
    return 0


def _exp(log: float | None) -> float | None:
    return None if log is None else math.exp(log)
