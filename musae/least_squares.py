"""The best decoder of a given code, in closed form: atoms and bias that minimise ``|code @ atoms + bias - x|^2``.

For methods that choose their encoder without a decoder in mind (random directions, centroids, probes): what a sparse code of
theirs can reconstruct at most. Sums over frames are float64; a latent that never fires gets an atom of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from musae.dictionary import Dictionary, FrameSource, Report, SparseCode

BATCH = 32_768
"""Frames at a time: bounds memory, and is large enough for the dense sum of Gram matrices to cost little beside them."""

RIDGE = 1e-6
"""Added to the diagonal of the normal equations, relative to their mean diagonal: enough for latents that never fire."""


class NormalEquations:
    """Sums over frames from which the decoder follows."""

    def __init__(self, width: int, d: int) -> None:
        self.gram, self.moments = np.zeros((width, width)), np.zeros((width, d))
        self.code_sum, self.x_sum = np.zeros(width), np.zeros(d)
        self.frames = 0
        """Frames counted."""

    def add(self, code: SparseCode, x: Tensor) -> None:
        """Count frames ``[n, d]`` with their code; far from the origin, centre them first (for precision)."""
        sparse, dense = code.to_scipy().astype(np.float64), x.double().numpy()
        self.gram += (sparse.T @ sparse).toarray()
        self.moments += sparse.T @ dense
        self.code_sum += sparse.sum(0)
        self.x_sum += dense.sum(0)
        self.frames += len(x)

    def solve(self) -> tuple[Tensor, Tensor]:
        """Atoms ``[width, d]`` and bias ``[d]``, float32."""
        width = len(self.gram)
        code_mean, x_mean = self.code_sum / self.frames, self.x_sum / self.frames
        gram = self.gram - self.frames * np.outer(code_mean, code_mean)
        gram[np.diag_indices(width)] += RIDGE * (np.trace(gram) or 1.0) / width
        atoms = scipy.linalg.solve(gram, self.moments - self.frames * np.outer(code_mean, x_mean), assume_a="pos")
        bias = x_mean - code_mean @ atoms
        return torch.from_numpy(atoms).float().contiguous(), torch.from_numpy(bias).float()


def fit_decoder(
    dictionary: Dictionary,
    frames: FrameSource,
    encode: Callable[[Tensor], SparseCode],
    *,
    width: int,
    at_most: int,
    reports: Sequence[Report] = (),
) -> tuple[Tensor, Tensor, int]:
    """Atoms ``[width, d]`` and bias ``[d]`` for the codes that `encode` gives raw frames, and the number of frames used.

    `at_most`: frames to fit on, in an order that the dictionary's seed decides; the excess error of least squares is width /
    frames of the residual. Raises UserError for NaN or infinite frames.
    """
    mean, sums, wanted = frames.mean(), NormalEquations(width, frames.d), min(at_most, frames.frames)
    steps = -(-wanted // BATCH)
    for step, batch in enumerate(islice(frames.batches(BATCH, seed=dictionary.seed), steps), start=1):
        x = batch[: wanted - sums.frames]
        dictionary.check_finite(x, frames)
        sums.add(encode(x), x - mean)
        for report in reports:
            report({"step": step, "steps": steps})
    atoms, bias = sums.solve()
    return atoms, mean + bias, sums.frames
