"""The control: random encoder directions, with the best decoder that they can have.

Directions are drawn uniformly on the sphere and never trained; the code is the k largest positive projections of the centred
frame, as in ``topk``. Atoms and bias are the best that these codes can have (`musae.least_squares`): so what the control lacks is
learnt directions alone. Atoms keep their least-squares norm (normalising them into the code would change which latents are
selected).
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
from musae.kernels.topk_encode import topk_encode
from musae.least_squares import fit_decoder

CARD = MethodCard(
    name="random",
    summary="control: random directions, the same sparsity, least-squares decoder",
    role="control",
)


class Random(Dictionary):
    """Random unit directions, TopK, least-squares decoder."""

    name = CARD.name

    def __init__(self, width: int = 2048, k: int = 32, seed: int = 0, frames: int = 262_144) -> None:
        """`width`, `k`: as the method that it is compared with; `seed`: of the directions and of the frames drawn.

        `frames`: the decoder is fitted on at most so many; the excess error of least squares is width / frames of the residual,
        0.8 % by default, and the time grows with them.
        """
        super().__init__()
        self.width = width
        self.k = k
        self.seed = seed
        self.frames = frames

    def fit(self, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> Self:
        self.check_sizes()
        directions = torch.randn(self.width, frames.d, generator=generator("random", self.seed))
        W_enc = functional.normalize(directions, dim=1)
        b_enc = -(W_enc @ frames.mean())

        def code(x: Tensor) -> SparseCode:
            return SparseCode.from_topk(*topk_encode(x, W_enc, b_enc, self.k), self.width)

        W_dec, b_dec, seen = fit_decoder(self, frames, code, width=self.width, at_most=self.frames, reports=reports)
        self.tensors = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
        self.trained = {"frames": seen, "store": frames.identity}
        return self.freeze()

    def encode(self, x: Tensor) -> SparseCode:
        values, indices = topk_encode(self.checked(x), self.tensors["W_enc"], self.tensors["b_enc"], self.k)
        return SparseCode.from_topk(values, indices, self.width)


METHOD = Random
