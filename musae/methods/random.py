"""The control: random encoder directions, with the best decoder that they can have.

Directions are drawn uniformly on the sphere and never trained; the code is the k largest positive projections of the centred
frame, as in ``topk``. Atoms and bias solve the least-squares problem of reconstructing the frames from these codes, in closed
form: so what the control lacks is learnt directions alone. Atoms keep their least-squares norm (normalising them into the code
would change which latents are selected).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import scipy.linalg
import torch
from torch import Tensor
from torch.nn import functional

from musae.card import MethodCard
from musae.dictionary import Dictionary, FrameSource, Report, SparseCode, generator
from musae.errors import UserError
from musae.kernels.topk_encode import topk_encode

CARD = MethodCard(
    name="random",
    summary="control: random directions, the same sparsity, least-squares decoder",
    role="control",
)

BATCH = 32_768
"""Frames at a time: bounds memory, and is large enough for the dense sum of Gram matrices to cost little beside them."""

RIDGE = 1e-6
"""Added to the diagonal of the normal equations, relative to their mean diagonal: enough for latents that never fire."""


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
        mean = frames.mean()
        directions = torch.randn(self.width, frames.d, generator=generator("random", self.seed))
        W_enc = functional.normalize(directions, dim=1)
        b_enc = -(W_enc @ mean)

        gram, moments = np.zeros((self.width, self.width)), np.zeros((self.width, frames.d))
        code_sum, x_sum, seen, wanted = np.zeros(self.width), np.zeros(frames.d), 0, min(self.frames, frames.frames)
        for step, batch in enumerate(islice(frames.batches(BATCH, seed=self.seed), -(-wanted // BATCH)), start=1):
            x = batch[: wanted - seen]
            if not bool(x.isfinite().all()):
                where = getattr(frames, "locate_nonfinite", str)()
                raise UserError(f"random: the frames hold NaN or an infinity ({where or frames.identity}); harvest them again.")
            centred = (x - mean).double().numpy()
            code = SparseCode.from_topk(*topk_encode(x, W_enc, b_enc, self.k), self.width).to_scipy().astype(np.float64)
            gram += (code.T @ code).toarray()
            moments += code.T @ centred
            code_sum += code.sum(0)
            x_sum += centred.sum(0)
            seen += len(x)
            for report in reports:
                report({"step": step, "steps": -(-wanted // BATCH)})
        code_mean, x_mean = code_sum / seen, x_sum / seen
        gram -= seen * np.outer(code_mean, code_mean)
        gram[np.diag_indices(self.width)] += RIDGE * (np.trace(gram) or 1.0) / self.width
        atoms = scipy.linalg.solve(gram, moments - seen * np.outer(code_mean, x_mean), assume_a="pos")
        W_dec, b_dec = (torch.from_numpy(a).float() for a in (atoms, x_mean - code_mean @ atoms))
        self.tensors = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec.contiguous(), "b_dec": mean + b_dec}
        self.trained = {"frames": seen, "store": frames.identity}
        return self.freeze()

    def encode(self, x: Tensor) -> SparseCode:
        values, indices = topk_encode(self.checked(x), self.tensors["W_enc"], self.tensors["b_enc"], self.k)
        return SparseCode.from_topk(values, indices, self.width)


METHOD = Random
