"""Cross-fitted linear probes in closed form.

For each of the (5) folds a probe is fitted on the other folds and read off on that fold, so it never sees the piece it
is scored on. Every probe is a function of the same second moments: the covariance of the features, computed once per
feature set, and their cross-covariance with the targets. So label sets, permuted labels, all k and all ridges cost a
triangular solve each, and there is no optimiser whose tolerance could favour one feature set.

- Classes (`Classes`): linear discriminant analysis, ``W + ridge * diag(T)`` with W the within-class and T the total
  covariance.
- Tags (`Tags`, several may hold at once): two-class LDA of each, whose scores are log-odds.
- Values (`Values`): ridge regression.

Features are scaled by their standard deviation on the training folds, hence the diagonal: rescaling a latent changes
nothing. The ridge is chosen among `RIDGES`, in units of F / n (the variance that sampling noise adds to a correlation
matrix of F features and n rows: Marchenko & Pastur 1967), by fitting without one more training fold and reading it off
there.

k-sparse probes read, for each class, the k features with the largest one-vs-rest correlation on the training folds
(point-biserial for classes, Pearson for values), through two-class LDA (or ridge) on these k at ridge k / n; the class
is the largest log-odds.

A matrix inverse of W is had from that of T: ``(T - M P M')^-1 M = T^-1 M (I - P M' T^-1 M)^-1`` with M the centred
class means and P the class shares. So one factor serves every label set. More features than rows are solved through the
n x n kernel instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import pairwise
from typing import Protocol, TypeAlias

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from musae.scores.ranking import rank_scores

KS = (1, 5, 20, None)
"""Features per class that a probe may read; None is all."""

RIDGES = (0.1, 1.0, 10.0)
"""Ridges to choose from, in units of F / n."""

CHUNK = 2_048
"""Rows of dense features that are centred at a time."""

Code: TypeAlias = scipy.sparse.csr_array | NDArray
"""Features ``[n, F]``, sparse or dense."""

Key: TypeAlias = tuple[int, int | None]
"""Which probe: the index of its target, and its k."""

Readout: TypeAlias = tuple[NDArray, NDArray]
"""Weights ``[F, C]`` and biases ``[C]`` of a probe on scaled, centred features."""

Solve: TypeAlias = Callable[[NDArray], NDArray]


class System(Protocol):
    """Centred features, scaled to unit variance, on some training rows."""

    n: int

    def solver(self, ridge: float) -> Solve:
        """``B [F, m] -> (T + ridge * I)^-1 B``."""

    def blocks(self, chosen: NDArray[np.int64]) -> NDArray:
        """Covariance of each column's features: ``[k, C] -> [C, k, k]``."""


class Target(Protocol):
    """What a probe predicts."""

    @property
    def count(self) -> int:
        """Number C of scores per row."""

    @property
    def matrix(self) -> NDArray[np.float64]:
        """What features are correlated with ``[n, C]``, or ``[n, C + 1]`` where there is a class outside."""

    def readout(self, cross: NDArray, share: NDArray, solve: Solve) -> Readout:
        """Weights ``[F, C]`` and biases ``[C]`` of the probe on all (scaled, centred) features.

        `cross [F, C]`: covariance of features and columns; `share [C]`: the columns' means on the training rows.
        """

    def sparse(self, cross: NDArray, share: NDArray, solve: Solve) -> Readout:
        """The same, with each column a problem of its own: all arrays hold its k features only ``[k, C]``."""

    def quality(self, scores: NDArray, rows: NDArray[np.int64]) -> float:
        """How good the scores ``[len(rows), C]`` are on these rows; larger is better. It chooses the ridge."""


@dataclass(frozen=True, eq=False)
class Classes:
    """One of `count` classes a row: ``labels [n]``, -1 for a row outside them (a class of its own, which is never answered)."""

    labels: NDArray[np.int64]
    count: int

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        return np.eye(self.count + 1)[self.labels]

    def readout(self, cross: NDArray, share: NDArray, solve: Solve) -> Readout:
        seen = np.flatnonzero(share > 0)
        means = cross[:, seen] / share[seen]
        solved = solve(means)
        within = np.eye(len(seen)) - share[seen, None] * (means.T @ solved)
        weights = np.linalg.solve(within.T, solved.T).T
        known = seen < self.count
        out, bias = np.zeros((len(cross), self.count), cross.dtype), np.full(self.count, -np.inf)
        out[:, seen[known]] = weights[:, known]
        bias[seen[known]] = (np.log(share[seen]) - (means * weights).sum(0) / 2)[known]
        return out, bias

    def sparse(self, cross: NDArray, share: NDArray, solve: Solve) -> Readout:
        weights, bias = _log_odds(cross, share, solve)
        return weights[:, : self.count], bias[: self.count]

    def quality(self, scores: NDArray, rows: NDArray[np.int64]) -> float:
        labels = self.labels[rows]
        return float((scores.argmax(1) == labels)[labels >= 0].mean()) if (labels >= 0).any() else 0.0


@dataclass(frozen=True, eq=False)
class Tags:
    """Tags that may hold together: ``tags [n, C]``."""

    tags: NDArray[np.bool_]

    @property
    def count(self) -> int:
        return int(self.tags.shape[1])

    @property
    def matrix(self) -> NDArray[np.float64]:
        return self.tags.astype(np.float64)

    def readout(self, cross: NDArray, share: NDArray, solve: Solve) -> Readout:
        return _log_odds(cross, share, solve)

    sparse = readout

    def quality(self, scores: NDArray, rows: NDArray[np.int64]) -> float:
        one, whole = np.zeros(len(rows), np.int64), np.ones((1, 1), np.float32)
        precision = [
            rank_scores(s, t, one, one, whole)[1][0] for s, t in zip(scores.T, self.tags[rows].T, strict=True) if t.any()
        ]
        return float(np.mean(precision)) if precision else 0.0


@dataclass(frozen=True, eq=False)
class Values:
    """A number a row: ``values [n]``."""

    values: NDArray[np.float64]
    count: int = field(default=1, init=False)

    @property
    def matrix(self) -> NDArray[np.float64]:
        return self.values[:, None]

    def readout(self, cross: NDArray, share: NDArray, solve: Solve) -> Readout:
        return solve(cross), share

    sparse = readout

    def quality(self, scores: NDArray, rows: NDArray[np.int64]) -> float:
        return -float(((scores[:, 0] - self.values[rows]) ** 2).mean())


def _log_odds(cross: NDArray, share: NDArray, solve: Solve) -> Readout:
    """Two-class LDA of each column against the rest; a column that is always or never on has no weights and infinite odds."""
    p = np.clip(share, 1e-12, 1 - 1e-12)
    mean, delta = cross / p, cross / (p * (1 - p))
    solved = solve(delta)
    weights = solved / np.maximum(1 - p * (1 - p) * (delta * solved).sum(0), 1e-6)
    bias = np.log(p / (1 - p)) - (weights * mean).sum(0) * (1 - 2 * p) / (1 - p) / 2
    return weights, np.where(share <= 0, -np.inf, np.where(share >= 1, np.inf, bias))


def crossfit(
    x: Code, folds: NDArray[np.int64], targets: Sequence[Target], ks: Sequence[int | None] = KS
) -> list[dict[int | None, NDArray[np.float32]]]:
    """Out-of-fold scores of a probe for each target and k: ``[n, C]`` of log-odds (classes, tags: up to a constant) or values.

    `x`: features ``[n, F]``, sparse or dense; `folds [n]`: at least 3 distinct ones. All targets are read from the same rows.
    """
    moments = _Moments(x, folds, targets)
    out = [{k: np.empty((len(folds), target.count), np.float32) for k in ks} for target in targets]
    count = len(moments.rows)
    for fold in range(count):
        held = (fold + 1) % count
        train = moments.training([f for f in range(count) if f != fold])
        readouts: dict[Key, Readout] = {(i, k): train.sparse(i, k) for i in range(len(targets)) for k in ks if k is not None}
        if None in ks:
            inner = moments.training([f for f in range(count) if f not in (fold, held)], train.scale)
            chosen = _ridges(inner, held)
            for ridge in sorted(set(chosen)):
                readouts |= train.full([i for i, best in enumerate(chosen) if best == ridge], ridge)
        for (i, k), scores in train.apply(readouts, fold).items():
            out[i][k][moments.rows[fold]] = scores
    return out


def _ridges(train: _Training, held: int) -> list[float]:
    """The ridge of each target's probe on all features: the best on the rows of one more fold, `held`."""
    targets, rows = train.moments.targets, train.moments.rows[held]
    quality = np.empty((len(RIDGES), len(targets)))
    for r, ridge in enumerate(RIDGES):
        for (i, _), scores in train.apply(train.full(range(len(targets)), ridge), held).items():
            quality[r, i] = targets[i].quality(scores, rows)
    return [RIDGES[best] for best in quality.argmax(0)]


class _Moments:
    """Sums over each fold, from which every training set's moments follow by addition."""

    def __init__(self, x: Code, folds: NDArray[np.int64], targets: Sequence[Target]) -> None:
        self.targets = targets
        self.width = x.shape[1]
        self.rows = [np.flatnonzero(folds == f) for f in np.unique(folds)]
        self.wide = x.shape[1] > x.shape[0]
        columns = np.cumsum([0, *(target.matrix.shape[1] for target in targets)])
        self.columns = [np.arange(start, end) for start, end in pairwise(columns)]
        self.parts = [x[rows] for rows in self.rows] if isinstance(x, scipy.sparse.csr_array) else self._centred(x)
        self.counts = np.array([len(rows) for rows in self.rows])
        self.totals = np.stack([np.asarray(part.sum(0, dtype=np.float64)).ravel() for part in self.parts])
        labels = [np.hstack([target.matrix[rows] for target in targets]) for rows in self.rows]
        self.shares = np.stack([y.sum(0) for y in labels])
        self.sums = np.stack([np.asarray(part.T @ y) for part, y in zip(self.parts, labels, strict=True)])
        if not self.wide:
            self.grams = [_gram(part) for part in self.parts]
            self.gram: NDArray[np.float32] = reduce(np.add, self.grams)

    def _centred(self, x: NDArray) -> list[NDArray]:
        """Each fold's rows of dense features about the mean of all, in single precision unless they are few.

        Where the origin lies is arbitrary; far from the mean, single precision would lose the rest. The difference is taken in
        double, `CHUNK` rows at a time: a copy of all rows in double would be the largest array of a run.
        """
        mean, parts = x.mean(0, dtype=np.float64), []
        for rows in self.rows:
            part = np.empty((len(rows), self.width), np.float64 if self.wide else np.float32)
            for start in range(0, len(rows), CHUNK):
                part[start : start + CHUNK] = x[rows[start : start + CHUNK]] - mean
            parts.append(part)
        return parts

    def training(self, folds: list[int], scale: NDArray[np.float64] | None = None) -> _Training:
        """Moments over some folds; `scale` overrides one over their standard deviations."""
        return _Training(self, folds, scale)


class _Training:
    """Means, scales and covariances on some folds; probes fitted on them, and their scores on another."""

    def __init__(self, moments: _Moments, folds: list[int], scale: NDArray[np.float64] | None) -> None:
        self.moments = moments
        n = int(moments.counts[folds].sum())
        self.mean = moments.totals[folds].sum(0) / n
        self.share = moments.shares[folds].sum(0) / n
        cross = moments.sums[folds].sum(0) / n - self.mean[:, None] * self.share
        if moments.wide:
            x = np.concatenate([_dense(moments.parts[f]) for f in folds]) - self.mean
            self.scale = _inverse_sd((x**2).mean(0)) if scale is None else scale
            self.system: System = _Wide(x * self.scale)
        else:
            gram = moments.gram.copy()
            for fold in set(range(len(moments.rows))) - set(folds):
                gram -= moments.grams[fold]
            self.scale = _inverse_sd(gram.diagonal().astype(np.float64) / n - self.mean**2) if scale is None else scale
            self.system = _Tall(gram, n, self.mean, self.scale)
        self.cross = cross * self.scale[:, None]

    def full(self, targets: Iterable[int], ridge: float) -> dict[Key, Readout]:
        """Probes of some targets on all features, at a ridge in units of F / n."""
        solve = self.system.solver(ridge * self.moments.width / self.system.n)
        chosen = {i: self.moments.columns[i] for i in targets}
        return {(i, None): self.moments.targets[i].readout(self.cross[:, c], self.share[c], solve) for i, c in chosen.items()}

    def sparse(self, target: int, k: int) -> Readout:
        """The probe of a target that reads each column's k most correlated features."""
        columns = self.moments.columns[target]
        cross, k = self.cross[:, columns], min(k, len(self.cross))
        chosen = np.sort(np.argpartition(-np.abs(cross), k - 1, axis=0)[:k], axis=0)
        blocks = self.system.blocks(chosen) + np.eye(k) * (k / self.system.n)

        def solve(rhs: NDArray) -> NDArray:
            return np.linalg.solve(blocks, rhs.T[:, :, None])[:, :, 0].T

        part, bias = self.moments.targets[target].sparse(np.take_along_axis(cross, chosen, 0), self.share[columns], solve)
        weights = np.zeros((len(cross), part.shape[1]))
        np.put_along_axis(weights, chosen[:, : part.shape[1]], part, 0)
        return weights, bias

    def apply(self, readouts: dict[Key, Readout], fold: int) -> dict[Key, NDArray]:
        """Scores of several probes on the rows of a fold, in one product."""
        weights = np.hstack([w for w, _ in readouts.values()]) * self.scale[:, None]
        bias = np.concatenate([b for _, b in readouts.values()]) - self.mean @ weights
        part = self.moments.parts[fold]
        scores = part @ weights.astype(part.dtype) + bias
        cuts = np.cumsum([w.shape[1] for w, _ in readouts.values()])[:-1]
        return dict(zip(readouts, np.split(scores, cuts, axis=1), strict=True))


class _Tall:
    """A `System` by its F x F covariance, in single precision: on the correlation scale the ridge bounds its condition.

    Large matrices are changed in place, `gram` too: fresh memory costs more here than arithmetic.
    """

    def __init__(self, gram: NDArray[np.float32], n: int, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
        self.n = n
        gram *= (scale / n).astype(np.float32)[:, None]
        gram *= scale.astype(np.float32)
        shift = (mean * scale).astype(np.float32)
        self._covariance = scipy.linalg.blas.sger(-1, shift, shift, a=gram.T, overwrite_a=True).T

    def solver(self, ridge: float) -> Solve:
        matrix = self._covariance.copy()
        matrix.ravel()[:: len(matrix) + 1] += np.float32(ridge)
        factor = scipy.linalg.cho_factor(matrix.T, overwrite_a=True, check_finite=False)  # LAPACK wants columns: no copy
        return lambda rhs: scipy.linalg.cho_solve(factor, rhs.astype(np.float32), check_finite=False).astype(np.float64)

    def blocks(self, chosen: NDArray[np.int64]) -> NDArray:
        picked: NDArray = self._covariance[chosen.T[:, :, None], chosen.T[:, None, :]]
        return picked.astype(np.float64)


class _Wide:
    """A `System` of more features than rows, by its n x n kernel (Woodbury's identity), in double precision."""

    def __init__(self, z: NDArray[np.float64]) -> None:
        self.n = len(z)
        self._z = z
        self._kernel = z @ z.T

    def solver(self, ridge: float) -> Solve:
        factor = scipy.linalg.cho_factor(self._kernel + ridge * self.n * np.eye(self.n), lower=True, check_finite=False)
        return lambda rhs: (rhs - self._z.T @ scipy.linalg.cho_solve(factor, self._z @ rhs, check_finite=False)) / ridge

    def blocks(self, chosen: NDArray[np.int64]) -> NDArray:
        columns = self._z[:, chosen.T].transpose(1, 0, 2)
        products: NDArray = columns.transpose(0, 2, 1) @ columns
        return products / self.n


def _gram(part: Code) -> NDArray[np.float32]:
    """``part' part`` in single precision; a sparse one is summed in double, which costs no more."""
    if isinstance(part, scipy.sparse.csr_array):
        double = part.astype(np.float64)
        return np.asarray((double.T @ double).astype(np.float32).toarray())
    return np.asarray(part.T @ part)


def _dense(part: Code) -> NDArray[np.float64]:
    return np.asarray(part.toarray() if isinstance(part, scipy.sparse.csr_array) else part, np.float64)


def _inverse_sd(variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """One over the standard deviation; 0 for a feature that is constant, which then has no weight."""
    alive = variance > 1e-10 * max(float(variance.max(initial=0.0)), 1e-30)
    return np.where(alive, 1 / np.sqrt(np.where(alive, variance, 1.0)), 0.0)
