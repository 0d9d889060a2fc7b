"""Non-negative matrix factorisation (Lee & Seung 1999) of the frames' positive and negative parts side by side.

A frame is split into ``v = [max(z, 0), max(-z, 0)]`` with ``z = x - mean``: 2 d non-negative numbers, which non-negative factors
``H [F, 2 d]`` of norm 1 add up to. An atom in the stream is the positive half of its factor less the negative half, so decoding
stays linear. The code is held to k: a matching pursuit over the factors chooses them (`musae.methods.matching_pursuit`), and
multiplicative updates fit their values (non-negative least squares, Lee & Seung 2001). Factors learn with codes of this kind,
batch by batch, by the multiplicative update of their sums so far, older batches fading (Lefèvre et al. 2011, arXiv 1106.4198):
NMF with at most k factors a frame is that of Peharz & Pernkopf 2012, doi 10.1016/j.neucom.2011.09.024.
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
from musae.methods.matching_pursuit import choose

CARD = MethodCard(
    name="nmf",
    summary="non-negative factors of the positive and negative parts of frames, at most k a frame",
    paper="Lee & Seung 1999, doi 10.1038/44565",
)

BATCH = 4096
"""Frames that factors are updated after."""

FADE = 0.8
"""What is left of a batch's sums after the next one: some five batches, ten frames for each factor by default, decide."""

UPDATES = 3
"""Multiplicative updates of the factors after each batch."""

ROWS = 128
"""Frames whose factors' Gram matrices exist at one time: they stay in a core's cache."""

TINY = 1e-12
"""Keeps an update from dividing by zero."""


class Nmf(Dictionary):
    """`width` non-negative factors of split frames."""

    name = CARD.name

    def __init__(self, width: int = 2048, k: int = 32, seed: int = 0, frames: int = 65_536, iterations: int = 30) -> None:
        """`width`: number of factors; `k`: factors of a frame; `seed`: of the frames drawn, and of the first factors among them.

        `frames`: it learns from at most so many, 32 for each factor by default: the pursuit is the slowest part. `iterations`:
        multiplicative updates of a code's values.
        """
        super().__init__()
        self.width = width
        self.k = k
        self.seed = seed
        self.frames = frames
        self.iterations = iterations

    def fit(self, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> Self:
        self.check_sizes()
        mean, x = frames.mean(), frames.sample(self.frames, self.seed)
        self.check_finite(x, frames)
        draw = generator("nmf", self.seed)
        factors = _start(split(x - mean), self.width, draw)
        gram, moments = torch.zeros(self.width, self.width), torch.zeros(self.width, 2 * frames.d)
        parts = torch.split(x, BATCH)
        for step, part in enumerate(parts, start=1):
            v = split(part - mean)
            values, indices = code(v, factors, self.k, self.iterations)
            dense = torch.zeros(len(v), self.width).scatter_add_(1, indices, values)
            gram, moments = FADE * gram + dense.T @ dense, FADE * moments + dense.T @ v
            for _ in range(UPDATES):
                factors = factors * moments / (gram @ factors + TINY)
            norms = torch.linalg.vector_norm(factors, dim=1, keepdim=True)
            silent = (norms <= TINY).flatten()
            norms[silent] = 1
            factors, gram, moments = factors / norms, gram * norms * norms.T, moments * norms
            if bool(silent.any()) and step < len(parts):
                factors[silent] = _start(v, int(silent.sum()), draw)
            for report in reports:
                report({"step": step, "steps": len(parts), "dead": float(silent.float().mean())})
        atoms = factors[:, : frames.d] - factors[:, frames.d :]
        self.tensors = {"factors": factors.contiguous(), "W_dec": atoms.contiguous(), "b_dec": mean}
        self.trained = {"frames": len(x), "store": frames.identity}
        return self.freeze()

    def encode(self, x: Tensor) -> SparseCode:
        v = split(self.checked(x) - self.bias)
        return SparseCode.from_topk(*code(v, self.tensors["factors"], self.k, self.iterations), self.width)


def split(z: Tensor) -> Tensor:
    """Positive and negative parts of ``z [n, d]`` side by side, ``[n, 2 d]``."""
    return torch.cat([z.clamp_min(0), (-z).clamp_min(0)], dim=1)


def code(v: Tensor, factors: Tensor, k: int, iterations: int) -> tuple[Tensor, Tensor]:
    """Values and indices ``[n, k]`` of non-negative frames ``v [n, m]`` over non-negative ``factors [F, m]`` of norm 1.

    Values minimise ``|v - values @ factors[indices]|`` as far as `iterations` of the multiplicative update bring them; a slot of
    value 0 is empty.
    """
    between = factors @ factors.T
    chosen = choose(v, factors, k).sort(dim=1).values
    again = functional.pad(chosen.diff(dim=1) == 0, (1, 0), value=False)
    empty, indices = again | (chosen < 0), chosen.clamp_min(0)
    values = torch.empty(indices.shape)
    for rows in torch.split(torch.arange(len(v)), ROWS):
        mine = indices[rows]
        target = (v[rows] @ factors.T).gather(1, mine).masked_fill_(empty[rows], 0)
        gram, value = between[mine.unsqueeze(2), mine.unsqueeze(1)], target.clone()
        for _ in range(iterations):
            value *= target / ((gram @ value.unsqueeze(2)).squeeze(2) + TINY)
        values[rows] = value
    return values, indices


def _start(v: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """Factors that are frames drawn at random, with a little of everything: a factor's zero stays 0 for ever."""
    rows = torch.randint(len(v), (count,), generator=draw)
    return functional.normalize(v[rows] + 0.1 * v.mean() * torch.rand(count, v.shape[1], generator=draw) + TINY, dim=1)


METHOD = Nmf
