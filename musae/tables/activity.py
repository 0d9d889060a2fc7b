"""How often a latent is active, by several definitions, and how many latents pass a filter on that rate.

The paper's filter (Singh et al., arXiv 2505.18186) keeps latents with 0.01 <= r <= 0.25, r the share of clips on which the latent
is active. What "active on a clip" means is not said beyond the aggregation, the mean over time. Three definitions are counted:

- ``mean > 0``: the mean over the clip's frames is positive, so it fired on one frame at least: the most literal reading;
- ``firing clips``: that mean exceeds `musae.labels.evidence.LEVEL` of a high quantile of the latent's positive means;
- ``firing frames``: r is the share of *frames* whose value exceeds the same level of the quantile of its values on frames. The
  10-s mean plays no part.

Quantiles are of the explaining half of the pieces, as in `musae.labels.evidence`. Shapes: n clips, m probe rows, F latents, G
pieces, R replicates.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from musae.labels import evidence
from musae.scores import spread
from musae.scores.heldout import Features, HeldOut

BAND = (0.01, 0.25)
"""The paper's bounds of r, both included."""

DEFINITIONS = ("mean > 0", "firing clips", "firing frames")

LEVELS = (0.0, 0.1, 0.25, 0.5, 0.75)
"""Firing levels of the sensitivity curves, as a share of the quantile; 0: any positive value."""

LOWER = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Lower bounds of r; the upper one stays the paper's. 0 leaves out latents that never fire all the same."""

UPPER = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Upper bounds of r; the lower one stays the paper's."""

_COLUMNS = 4096
"""Latents that are counted at once: bounds memory, changes nothing else."""


def quantiles(values: NDArray | scipy.sparse.csr_array, known: NDArray[np.int64]) -> NDArray[np.float64]:
    """The `evidence.QUANTILE` of each column's positive values ``[F]`` on the rows `known`; infinite where there are none."""
    columns = scipy.sparse.csc_array(values[known])
    out = np.full(columns.shape[1], np.inf)
    for j, (start, end) in enumerate(zip(columns.indptr, columns.indptr[1:], strict=False)):
        positive = columns.data[start:end]
        positive = positive[positive > 0]
        if len(positive):
            out[j] = np.quantile(positive, evidence.QUANTILE)
    return out


def thresholds(high: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """What a value must exceed to count as firing ``[F]``; infinite where the quantile is."""
    out: NDArray[np.float64] = np.where(np.isfinite(high), level * np.where(np.isfinite(high), high, 0), np.inf)
    return out


def active_clips(features: Features, data: HeldOut) -> NDArray[np.int32]:
    """Clips of each piece on which each latent is active, at each of `LEVELS` ``[levels, G, F]``."""
    means = features.clip_means
    high = quantiles(means, np.flatnonzero(evidence.explaining(data)[data.groups]))
    member = _membership(data.groups, data.pieces)
    found = [member @ (means > (thresholds(high, level) if level else 0)).astype(np.int32) for level in LEVELS]
    return np.stack(found).astype(np.int32)


def active_frames(features: Features, data: HeldOut) -> NDArray[np.int32]:
    """Probe rows of each piece on which each latent fires, at `evidence.LEVEL` ``[G, F]``."""
    code = scipy.sparse.csr_array(features.at(data.probe_rows))
    groups = evidence.groups(data, "frames")
    least = thresholds(quantiles(code, np.flatnonzero(evidence.explaining(data)[groups])), evidence.LEVEL)
    fires = code.copy()
    fires.data = (code.data > least[code.indices]).astype(np.int32)
    counts: NDArray[np.int32] = (_membership(groups, data.pieces) @ fires).toarray().astype(np.int32)
    return counts


def count(active: NDArray[np.int32], sizes: NDArray, plan: NDArray[np.float32], band: tuple[float, float]) -> NDArray[np.float64]:
    """How many latents have a rate within `band`, on the sample and on each replicate ``[1 + R]``.

    `active` ``[G, F]``: rows of each piece on which each is active; `sizes` ``[G]``: rows of each piece.
    """
    whole = spread.with_total(plan).astype(np.float64)
    rows = (whole @ sizes)[:, None]
    out = np.zeros(len(whole))
    for start in range(0, active.shape[1], _COLUMNS):
        out += within(whole @ active[:, start : start + _COLUMNS] / rows, band).sum(1)
    return out


def within(rates: NDArray[np.float64], band: tuple[float, float]) -> NDArray[np.bool_]:
    """Which rates lie within a band, its bounds included; a latent that never fires never does."""
    inside: NDArray[np.bool_] = (rates > 0) & (rates >= band[0]) & (rates <= band[1])
    return inside


def _membership(groups: NDArray[np.int64], pieces: int) -> scipy.sparse.csr_array:
    """Which row is of which piece ``[G, rows]``."""
    rows = np.arange(len(groups))
    return scipy.sparse.csr_array((np.ones(len(groups), np.int32), (groups, rows)), shape=(pieces, len(groups)))
