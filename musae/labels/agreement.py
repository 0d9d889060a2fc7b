"""Do judges agree? Spearman's rank correlation of what two judges say of the same labels.

Latents are the sample: its interval is of the bootstrap over latents, its p-value of permuting one judge's values between them
(two-sided). Judges that share their evidence, as detection and fuzzing do, may agree about that and both be wrong; agreement with
the truth judge is what counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from musae.scores import spread

LEAST = 10
"""Latents that both judges have scored: of fewer, a rank correlation says nothing."""

REPLICATES = 1000
"""Of the bootstrap, and permutations."""


@dataclass(frozen=True)
class Agreement:
    """Of two judges."""

    judges: tuple[str, str]
    n: int
    """Latents that both have scored."""
    rho: float | None = None
    """Spearman's rank correlation; None where it is unscored."""
    low: float | None = None
    """Lower end of its 95 % percentile interval."""
    high: float | None = None
    p: float | None = None
    """How often permuted values correlate as much, or more."""
    reason: str = ""
    """Why it is unscored; empty otherwise."""


def agreement(judges: Mapping[str, NDArray[np.float64]], labelled: NDArray[np.bool_], revision: str) -> list[Agreement]:
    """The agreement of each pair of judges, given by name with a value of each latent ``[L]``, NaN where it is unscored.

    `labelled [L]`: the latents whose label does not abstain. The others are left out: judges give them one value by definition,
    about which they cannot but agree. `revision`, the corpus's, fixes what is drawn.
    """
    return [_of((a, b), judges[a], judges[b], labelled, revision) for a, b in combinations(judges, 2)]


def spearman(first: NDArray, second: NDArray) -> NDArray[np.float64]:
    """Spearman's rho over the last axis, ties sharing their mean rank; NaN where either is constant."""
    ranks = [scipy.stats.rankdata(values, axis=-1) for values in np.broadcast_arrays(first, second)]
    a, b = (r - r.mean(-1, keepdims=True) for r in ranks)
    return spread.ratio((a * b).sum(-1), np.sqrt((a**2).sum(-1) * (b**2).sum(-1)))


def _of(
    pair: tuple[str, str], first: NDArray[np.float64], second: NDArray[np.float64], labelled: NDArray[np.bool_], revision: str
) -> Agreement:
    known = labelled & np.isfinite(first) & np.isfinite(second)
    n, first, second = int(known.sum()), first[known], second[known]
    if n < LEAST:
        return Agreement(pair, n, reason=f"both have scored {n} latents, and {LEAST} are needed")
    for name, values in zip(pair, (first, second), strict=True):
        if np.ptp(values) == 0:
            return Agreement(pair, n, reason=f"{name} says the same of all {n} latents")
    rho = float(spearman(first, second))
    rng = spread.random(revision, f"agreement {' '.join(pair)}")
    drawn = rng.integers(0, n, (REPLICATES, n))
    low, high = np.nanpercentile(spearman(first[drawn], second[drawn]), (2.5, 97.5))
    permuted = spearman(first, rng.permuted(np.tile(second, (REPLICATES, 1)), axis=1))
    p = (1 + int((np.abs(permuted) >= abs(rho) - 1e-12).sum())) / (1 + REPLICATES)
    return Agreement(pair, n, rho, float(low), float(high), p)
