"""Scores against a known dictionary: which of the atoms that the frames were made of were found, and do their latents fire with
them?

Shapes: m true atoms and F learnt ones in d dimensions, n held-out frames. Every true atom is assigned at most one learnt atom,
none of which serves twice, such that the sum of absolute cosines is largest (the Hungarian method). Then

- **MCC**, the mean correlation coefficient, is the mean over true atoms of the absolute cosine with their match (0 without
  one). The name and the assignment come from independent component analysis (Hyvarinen and Morioka 2016, arXiv 1605.06336,
  which correlates sources); SynthSAEBench (arXiv 2602.14687) takes cosines of atoms, as here. The sign is ignored. Random
  directions do not score 0: the best of many cosines in d dimensions is well above it, so a control belongs beside every value.
- **F1** is the mean over true atoms of the F1 with which "the match fires" tells "the atom fires" on held-out frames. Firing
  means ``code > 0``: there is no threshold to choose. An atom without a match, or whose match never fires, scores 0.

Both are given per atom, so that two dictionaries learnt from the same frames are compared atom by atom.
"""

from __future__ import annotations

import numpy as np
import scipy.optimize
import scipy.sparse
from numpy.typing import NDArray

from musae.scores.spread import ratio


def match(atoms: NDArray, learnt: NDArray) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each row of `atoms` ``[m, d]``, the row of `learnt` ``[F, d]`` that it is assigned, and their absolute cosine:
    ``[m]`` each.

    Where F < m, the atoms left over have the match -1 and the cosine 0; so has a match of length zero.
    """
    cosines = np.abs(_unit(atoms) @ _unit(learnt).T)
    rows, columns = scipy.optimize.linear_sum_assignment(cosines, maximize=True)
    found, cosine = np.full(len(atoms), -1, np.int64), np.zeros(len(atoms))
    found[rows], cosine[rows] = columns, cosines[rows, columns]
    return found, np.minimum(cosine, 1.0)


def firing_f1(truth: scipy.sparse.csr_array, code: scipy.sparse.csr_array, found: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of each true atom ``[m]``: `truth` ``[n, m]`` and `code` ``[n, F]`` of the same frames, `found` ``[m]`` from `match`.

    ``2 tp / (fired + predicted)``; NaN for an atom that neither fires nor is said to, since it says nothing.
    """
    fires = (truth > 0).astype(np.float64).tocsc()
    matched = (code > 0).astype(np.float64).tocsc()[:, np.maximum(found, 0)]
    there = found >= 0
    hits = np.asarray(fires.multiply(matched).sum(axis=0)) * there
    predicted = np.asarray(matched.sum(axis=0)) * there
    return ratio(2 * hits, np.asarray(fires.sum(axis=0)) + predicted)


def fvu(x: NDArray, code: scipy.sparse.csr_array, learnt: NDArray, bias: NDArray) -> float:
    """Fraction of variance unexplained: squared error of ``code @ learnt + bias`` over that of the mean of `x` ``[n, d]``."""
    error = np.square(x - (code @ learnt + bias), dtype=np.float64).sum()
    return float(error / np.square(x - x.mean(axis=0, dtype=np.float64), dtype=np.float64).sum())


def l0(code: scipy.sparse.csr_array) -> float:
    """Mean number of latents that are not zero in a frame."""
    return float(np.count_nonzero(code.data) / code.shape[0])


def dead(code: scipy.sparse.csr_array) -> float:
    """Share of latents that are zero in every frame."""
    alive = np.unique(code.indices[code.data != 0])
    return 1 - len(alive) / int(code.shape[1])


def _unit(rows: NDArray) -> NDArray[np.float64]:
    """Rows divided by their length; rows of zeros stay."""
    rows = np.asarray(rows, np.float64)
    unit: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    return unit
