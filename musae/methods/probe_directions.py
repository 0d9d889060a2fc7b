"""The supervised ceiling: directions that tell annotated concepts apart, found with labels, as a dictionary.

For every class of every concept that the training frames are labelled for (chords, keys, tempi, beats, instruments; a yes-or-no
concept counts once) a linear probe in closed form: linear discriminant analysis of the class against the rest, ``w = W^-1 (mean
- mean of the rest)`` with W the covariance within both. A latent's value is the probe's weight of evidence in nats, the
log-likelihood ratio of two Gaussians with that covariance: above 0 where the frame speaks for the class, whatever its prior, and
so of one scale for all concepts. The code keeps the k largest positive ones; atoms and bias are the best that these codes can
have (`musae.least_squares`). After the probes of SynTheory (arXiv 2410.00872).

No unsupervised method has seen a label: this shows what a score leaves to be found, and is never ranked among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from musae.card import MethodCard
from musae.dictionary import Dictionary, FrameSource, LabelledSource, Report, SparseCode
from musae.errors import UserError
from musae.kernels.topk_encode import topk_encode
from musae.least_squares import BATCH, RIDGE, fit_decoder

CARD = MethodCard(
    name="probe_directions",
    summary="supervised ceiling: directions of linear probes of the annotated concepts, least-squares decoder",
    paper="arXiv 2410.00872",
    role="supervised",
    seeded=False,
)


class ProbeDirections(Dictionary):
    """At most `width` probes; as many as the labels have classes."""

    name = CARD.name

    def __init__(self, width: int = 2048, k: int = 32, seed: int = 0, frames: int = 262_144) -> None:
        """`width`: at most so many classes; `k`: probes kept a frame; `seed`: changes nothing but which frames the decoder is
        fitted on, where there are too many.

        `frames`: probes and decoder are fitted on at most so many: a thousand for each dimension of a stream of 256.
        """
        super().__init__()
        self.width = width
        self.k = k
        self.seed = seed
        self.frames = frames

    def fit(self, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> Self:
        self.tensors = {}  # the width asked for counts, not how many classes an earlier fit found
        self.check_sizes()
        if not isinstance(frames, LabelledSource):
            raise UserError(
                f"{self.name}: the frames {frames.identity} have no labels to learn from; fit it with `musae train`, or on a "
                f"LabelledSource."
            )
        x, labels = frames.labelled(self.frames, 0)
        self.check_finite(x, frames)
        W_enc, b_enc, names = probes(x, labels)
        if not 0 < len(names) <= self.width:
            raise UserError(
                f"{self.name}: the labels have {len(names)} classes, and the width is {self.width}; give as much width."
            )

        def code(x: Tensor) -> SparseCode:
            values, indices = topk_encode(x, W_enc, b_enc, min(self.k, len(names)))
            return SparseCode.from_topk(values, indices, len(names))

        W_dec, b_dec, seen = fit_decoder(self, frames, code, width=len(names), at_most=self.frames, reports=reports)
        self.tensors = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
        self.trained = {"frames": max(seen, len(x)), "store": frames.identity, "classes": names}
        return self.freeze()

    def encode(self, x: Tensor) -> SparseCode:
        x = self.checked(x)
        values, indices = topk_encode(x, self._tensor("W_enc"), self.tensors["b_enc"], min(self.k, self.width))
        return SparseCode.from_topk(values, indices, self.width)


def probes(x: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, list[str]]:
    """Weights ``[C, d]``, biases ``[C]`` and names ``<concept> <class>`` of the probes of all classes that occur.

    `x`: ``[n, d]``; `labels`: see `musae.dictionary.LabelledSource`. A class is held against the other frames that are labelled
    for its concept; one that they all or none have has no probe. Sums are float64.
    """
    origin = x.mean(0).double()
    sums = {c: torch.zeros(int(y.max()) + 2, x.shape[1], dtype=torch.float64) for c, y in labels.items() if bool((y >= 0).any())}
    keys = {concept: (labels[concept] >= 0).numpy().tobytes() for concept in sums}
    scatters = {key: torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64) for key in keys.values()}
    first = {key: concept for concept, key in reversed(keys.items())}  # concepts that are labelled in the same frames share one
    for rows in torch.split(torch.arange(len(x)), BATCH):
        centred = x[rows].double() - origin
        for concept, total in sums.items():
            total.index_add_(0, labels[concept][rows] % len(total), centred)  # -1, unlabelled, comes last
        for key, concept in first.items():
            known = centred[labels[concept][rows] >= 0]
            scatters[key].addmm_(known.T, known)

    weights, biases, names = [], [], []
    for concept, total in sums.items():
        known = labels[concept][labels[concept] >= 0]
        counts, n = torch.bincount(known), len(known)
        mean = total[:-1].sum(0) / n
        covariance = scatters[keys[concept]] / n - torch.outer(mean, mean)
        covariance.diagonal().add_(RIDGE * covariance.diagonal().mean() + 1e-30)
        for c in [1] if len(counts) == 2 else range(len(counts)):
            if 0 < counts[c] < n:
                share, own = counts[c] / n, total[c] / counts[c] - mean
                delta = own / (1 - share)  # the class's mean less that of the rest
                solved = torch.linalg.solve(covariance, delta)
                # from the total covariance to that within: less share (1 - share) delta delta^T (Sherman & Morrison)
                w = solved / (1 - share * (1 - share) * (delta @ solved)).clamp_min(1e-6)
                weights.append(w)
                biases.append(-(w @ (origin + mean + own - delta / 2)))
                names.append(f"{concept} {c}")
    if not names:
        return x.new_zeros(0, x.shape[1]), x.new_zeros(0), names
    return torch.stack(weights).float(), torch.stack(biases).float(), names


METHOD = ProbeDirections
