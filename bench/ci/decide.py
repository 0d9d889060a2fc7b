"""The decision: which benches became slower, with false alarms controlled over the whole family of benches.

Samples come as ``[restarts, pairs]``: both sides run in processes of their own, which are started afresh several times. What
only one process has (where its memory lies, which core it got) moves all of its samples together; a restart is therefore a
stratum, and two samples are compared only within it, where they also lie seconds apart.

A bench is *slower* where both hold:

- a one-sided Mann-Whitney test (Mann & Whitney 1947), stratified by restart (van Elteren 1960), shows that the new times exceed
  ``1 + MARGIN`` times the base times, with Holm's correction (Holm 1979) over all compared benches at `ALPHA`;
- all restarts but one, by themselves, have medians that are further apart than that.

The margin makes the question "slower by more than 3 %?": smaller differences, which the layout of memory alone can make, never
gate. The second condition is for what the test does not know: that samples of one process are not independent.

The ratio is Hodges and Lehmann's: the median over all pairs of a new and a base time of the same restart. Its interval is the
range of the restarts' own ratios: that of six holds the median restart's with probability 1 - 2 / 2^6 = 97 %, whatever the noise.
Cliff's delta is P(new > base) - P(new < base) within a restart: 1 where every new time is longer, 0 where nothing differs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import mannwhitneyu, norm

ALPHA = 0.01
"""Chance of any false alarm among all benches of one comparison."""
MARGIN = 0.03
"""Slowdowns up to this share do not gate. Chosen from noise: of 220 ratios of CPU time between equal benches (36 pairs each), on
two cores under a load of six to nine, 92 % lay within 3 % of 1, and all within 8.8 %."""

Verdict = Literal["slower", "faster", "same", "unclear", "broken", "new", "gone", "unmeasured"]
"""`same`: shown, at `ALPHA` each way, to lie within the margin; `unclear`: nothing is shown; `new`, `gone`: only the head, or
only the base, has or runs it; `broken`: it fails in the head; `unmeasured`: in both. `slower` and `broken` fail the gate."""


@dataclass(frozen=True)
class Effect:
    """How large a difference is."""

    ratio: float
    """New time over base time."""
    low: float
    high: float
    """The range of the restarts' ratios."""
    delta: float
    """Cliff's delta, from -1 to 1; positive where the new one is slower."""


@dataclass(frozen=True)
class Decision:
    """What is concluded about one bench."""

    bench: str
    verdict: Verdict
    base: float | None = None
    """Median time of a call, seconds."""
    head: float | None = None
    effect: Effect | None = None
    p: float | None = None
    """Of being slower by more than the margin, adjusted by Holm's method."""
    note: str = ""
    """Why there is no comparison."""

    @property
    def fails(self) -> bool:
        """Whether it fails the gate."""
        return self.verdict in ("slower", "broken")


def p_slower(base: ArrayLike, head: ArrayLike, margin: float) -> float:
    """One-sided p of ``head > (1 + margin) * base`` for times ``[restarts, pairs]``."""
    b, h = _checked(base, head)
    restarts, pairs = b.shape
    u = mannwhitneyu(h, b * (1 + margin), alternative="greater", method="asymptotic", axis=1).statistic.sum()
    deviation = math.sqrt(restarts * pairs * pairs * (2 * pairs + 1) / 12)
    return float(norm.sf((u - restarts * pairs * pairs / 2 - 0.5) / deviation))


def effect(base: ArrayLike, head: ArrayLike) -> Effect:
    """Ratio of new to base times ``[restarts, pairs]``, its interval, and Cliff's delta."""
    b, h = _checked(base, head)
    ratios = h[:, :, None] / b[:, None, :]
    own = restart_ratios(b, h)
    return Effect(float(np.median(ratios)), float(own.min()), float(own.max()), float(np.sign(ratios - 1).mean()))


def restart_ratios(base: ArrayLike, head: ArrayLike) -> NDArray[np.float64]:
    """Each restart's ratio of median times, ``[restarts]``."""
    b, h = _checked(base, head)
    return np.asarray(np.median(h, axis=1) / np.median(b, axis=1), dtype=np.float64)


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted by Holm's method, in the order given: at most one false alarm among all has probability `ALPHA`."""
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, p[i] * (len(p) - rank)))
        adjusted[i] = largest
    return adjusted


def decide(times: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> list[Decision]:
    """Decide on all benches of a comparison at once: base and new times ``[restarts, pairs]`` of each, in seconds."""
    names = list(times)
    slower = holm([p_slower(*times[name], MARGIN) for name in names])
    faster = holm([p_slower(times[name][1], times[name][0], MARGIN) for name in names])
    return [_decision(name, *times[name], slow, fast) for name, slow, fast in zip(names, slower, faster, strict=True)]


def _decision(bench: str, base: ArrayLike, head: ArrayLike, slower: float, faster: float) -> Decision:
    found, own = effect(base, head), restart_ratios(base, head)
    verdict: Verdict = "unclear"
    if slower < ALPHA and (own > 1 + MARGIN).sum() >= len(own) - 1:
        verdict = "slower"
    elif faster < ALPHA and (own < 1 / (1 + MARGIN)).sum() >= len(own) - 1:
        verdict = "faster"
    elif max(_p_within(base, head), _p_within(head, base)) < ALPHA:
        verdict = "same"
    return Decision(bench, verdict, float(np.median(np.asarray(base))), float(np.median(np.asarray(head))), found, slower)


def _p_within(base: ArrayLike, head: ArrayLike) -> float:
    """One-sided p of ``head < (1 + MARGIN) * base``."""
    return p_slower(head, np.asarray(base) * (1 + MARGIN), 0.0)


def _checked(base: ArrayLike, head: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    b, h = np.asarray(base, dtype=np.float64), np.asarray(head, dtype=np.float64)
    if b.ndim != 2 or b.shape != h.shape or not b.size:
        raise ValueError(f"times must be [restarts, pairs] on both sides, not {b.shape} and {h.shape}")
    if not (np.isfinite(b).all() and np.isfinite(h).all() and b.min() > 0 and h.min() > 0):
        raise ValueError("times must be positive and finite")
    return b, h
