"""Spherical k-means (Coates & Ng 2012, "Learning feature representations with k-means") as a dictionary.

Centroids are unit directions of the centred frames: each frame goes to the centroid that it projects on most, and a centroid
becomes the sum of its frames, weighted by their projections (their gain-shape k-means, damped by the old centroid). The code is
k steps of a matching pursuit over the centroids, never negative (`musae.methods.matching_pursuit`; Coates & Ng 2011, "The
importance of encoding versus training", try such pursuits on such centroids): the k largest projections, as in ``random``, would
be those on k centroids that are nearly the same (FVU 0.45 against 0.27, with a decoder for each, on 65,536 training frames of
nano). Atoms and bias are the best that these codes can have (`musae.least_squares`).

Left out: whitening the frames first, after which centroids follow the faintest directions of the stream (FVU 0.29), and negative
projections.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from musae.card import MethodCard
from musae.dictionary import Dictionary, FrameSource, Report, SparseCode, generator
from musae.least_squares import fit_decoder
from musae.methods.matching_pursuit import choose, pursue

CARD = MethodCard(
    name="kmeans",
    summary="spherical k-means; matching pursuit over the centroids, least-squares decoder",
    paper="Coates & Ng 2012, doi 10.1007/978-3-642-35289-8_30",
)

BATCH = 4096
"""Frames that are assigned at a time: bounds memory, changes nothing else."""


class Kmeans(Dictionary):
    """Spherical k-means, matching pursuit, least-squares decoder."""

    name = CARD.name

    def __init__(self, width: int = 2048, k: int = 32, seed: int = 0, frames: int = 131_072, iterations: int = 10) -> None:
        """`width`: number of centroids; `k`: steps of the pursuit; `seed`: of the frames drawn, and of the first centroids among
        them.

        `frames`: centroids and decoder learn from at most so many, 64 for each centroid by default: twice as many gain 0.006 of
        FVU. `iterations`: Coates & Ng find that 10 suffice; 20 gain less than 0.001.
        """
        super().__init__()
        self.width = width
        self.k = k
        self.seed = seed
        self.frames = frames
        self.iterations = iterations

    def fit(self, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> Self:
        self.check_sizes()
        mean, sample = frames.mean(), frames.sample(self.frames, self.seed)
        self.check_finite(sample, frames)
        x = sample - mean
        draw = generator("kmeans", self.seed)
        centroids = self._draw(x, self.width, draw)
        for iteration in range(self.iterations):
            sums, counts = torch.zeros_like(centroids), torch.zeros(self.width, dtype=torch.int64)
            for part in torch.split(x, BATCH):
                gain, shape = (part @ centroids.T).max(1)
                sums.index_add_(0, shape, gain.clamp_min(0).unsqueeze(1) * part)
                counts += torch.bincount(shape, minlength=self.width)
            centroids = functional.normalize(sums + centroids, dim=1)
            empty = counts == 0
            if iteration + 1 < self.iterations:
                centroids[empty] = self._draw(x, int(empty.sum()), draw)
            for report in reports:
                report({"step": iteration + 1, "steps": self.iterations, "dead": float(empty.float().mean())})
        W_dec, b_dec, seen = fit_decoder(
            self, frames, lambda x: _code(x - mean, centroids, self.k), width=self.width, at_most=self.frames
        )
        self.tensors = {"centroids": centroids, "mean": mean, "W_dec": W_dec, "b_dec": b_dec}
        self.trained = {"frames": max(seen, len(x)), "store": frames.identity}
        return self.freeze()

    def encode(self, x: Tensor) -> SparseCode:
        return _code(self.checked(x) - self._tensor("mean"), self.tensors["centroids"], self.k)

    def _draw(self, x: Tensor, count: int, draw: torch.Generator) -> Tensor:
        """Directions of frames drawn at random, and noise where there are too few (or frames at the mean)."""
        rows = torch.randint(len(x), (count,), generator=draw)
        noise = torch.randn(count, x.shape[1], generator=draw)
        return functional.normalize(x[rows] + 1e-3 * x.std() * noise, dim=1)


def _code(x: Tensor, centroids: Tensor, k: int) -> SparseCode:
    return pursue(x, centroids, choose(x, centroids, k))


METHOD = Kmeans
