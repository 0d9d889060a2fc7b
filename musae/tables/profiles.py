"""What a latent is like, whatever its number and its scale: what the layer-of-origin classifier reads.

Two groups of columns, one row a latent:

- `statistics`: how often and how evenly it is active;
- `concepts`: the correlation of its activation with each claim of `explain_statistically.CANDIDATES`, over the clips (mean over
  time) or the probe frames where the claim can be judged; 0 where a claim or a latent does not vary.

Nothing has the units of the stream, whose norm grows with depth and would give the layer away.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.stats
from numpy.typing import NDArray

from musae.labels import evidence
from musae.labels.explain_statistically import CANDIDATES
from musae.labels.facts import Unit, facts, unit
from musae.scores import spread
from musae.scores.heldout import Features, HeldOut

STATISTICS = (
    "log rate on clips",
    "log rate on frames",
    "rate on frames of active clips",
    "persistence",
    "mean over high quantile",
    "variation of clip means",
    "skewness of clip means",
    "share between pieces",
)
"""Names of the columns of `statistics`. Persistence: P(active on the next frame | active); share between pieces: of the variance
of clip means."""

_COLUMNS = 100
"""Latents that are correlated at once: bounds memory."""


def statistics(features: Features, data: HeldOut, latents: NDArray[np.int64]) -> NDArray[np.float64]:
    """The columns of `STATISTICS` for some latents ``[S, 8]``. A sparse code is read at all frames, a dense one at probe rows."""
    code = features.code[:, latents]
    dense = features.rows is not None
    columns = scipy.sparse.csc_array(code)
    columns.eliminate_zeros()
    frames = int(np.sum(data.probe_rows < data.x.shape[1])) if dense else data.x.shape[1]
    means = features.clip_means[:, latents].astype(np.float64)
    on_clips = (means > 0).mean(0)
    out = np.zeros((len(latents), len(STATISTICS)))
    for j, (start, end) in enumerate(zip(columns.indptr, columns.indptr[1:], strict=False)):
        rows, v = columns.indices[start:end], columns.data[start:end]
        rows, v = np.sort(rows[v > 0]), v[v > 0]
        if not len(rows):
            continue
        rate = len(rows) / columns.shape[0]
        follows = (np.diff(rows) == 1) & (rows[1:] % frames != 0)
        last = (rows % frames == frames - 1).sum()
        high = np.quantile(v, evidence.QUANTILE)
        out[j, :5] = (
            np.log10(max(on_clips[j], 1 / len(means))),
            np.log10(rate),
            rate / max(on_clips[j], 1 / len(means)),
            follows.sum() / max(len(rows) - last, 1),
            v.mean() / high,
        )
    spreads = means.std(0)
    varied = spreads > 0
    out[varied, 5] = spreads[varied] / np.maximum(np.abs(means.mean(0)[varied]), 1e-12)
    out[varied, 6] = scipy.stats.skew(means[:, varied], axis=0)
    sums, sizes = spread.piece_sums(means, data.groups, data.pieces), np.bincount(data.groups, minlength=data.pieces)
    between = (sizes[:, None] * (spread.ratio(sums, sizes[:, None]) - means.mean(0)) ** 2).sum(0) / len(means)
    out[varied, 7] = between[varied] / spreads[varied] ** 2
    return out


def concepts(found: dict[Unit, NDArray[np.float32]], data: HeldOut, level: str) -> NDArray[np.float64]:
    """Correlation of each latent with each candidate claim ``[S, C]``. `found`: values by unit, see `judged.values`."""
    size = found["clips"].shape[1]
    out = np.zeros((size, len(CANDIDATES)))
    for where, v in found.items():
        columns = [c for c, claim in enumerate(CANDIDATES) if unit(claim) == where]
        table = facts(data, where, level)
        answers = [table.holds(CANDIDATES[c]) for c in columns]
        true, known = (np.stack([a[i] for a in answers], 1).astype(np.float64) for i in (0, 1))
        for start in range(0, size, _COLUMNS):
            part = slice(start, start + _COLUMNS)
            out[part, columns] = correlation(v[:, part].astype(np.float64), true * known, known)
    return out


def correlation(v: NDArray[np.float64], true: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's r ``[S, C]`` of columns of `v` ``[m, S]`` and of `true` ``[m, C]``, over the rows `known` ``[m, C]``."""
    scale = v.std(0)
    v = (v - v.mean(0)) / np.where(scale > 0, scale, 1)
    n, t = known.sum(0), true.sum(0)
    s, ss, st = v.T @ known, (v**2).T @ known, v.T @ true
    below = np.sqrt(np.maximum(n * ss - s**2, 0) * np.maximum(n * t - t**2, 0))
    return np.where(below > 1e-9, spread.ratio(n * st - s * t, below), 0.0)
