"""Reconstruction: how much of the stream a dictionary keeps, in squared error and in what the generator loses by it.

- ``fvu``: fraction of variance unexplained, sum |x - x^|^2 / sum |x - m|^2 over all frames, in float64, m the mean of
  the *training* frames (not zero, not the batch's mean). ``fvu_position``: the same about the training mean of each
  position in the clip, which a sinusoidal position code would otherwise inflate. ``cosine``: mean cosine of x and x^.
- ``loss_recovered``: (L_ablated - L_spliced) / (L_ablated - L_clean), L the generator's next-token loss as it is, with
  the layer's stream replaced by the training mean, and by the reconstruction; mean over codebooks, and a row for each.
  Losses themselves are rows too (nats). One clip per piece is spliced: the first.

Chance reconstructs every frame as the training mean. Feature sets without a decoder are unscored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from musae.card import TaskCard
from musae.dictionary import Dictionary, SparseCode
from musae.scores import spread
from musae.scores.heldout import Features, HeldOut
from musae.scores.score import CHANCE, Score

CARD = TaskCard(
    name="reconstruction",
    summary="Fraction of variance unexplained, and the generator's loss recovered when the reconstruction is spliced in.",
    version=1,
    main=("fvu", "loss_recovered"),
    direction={"fvu": "lower", "loss_recovered": "higher"},
    reads=("reconstruction", "generator"),
)

BATCH = 16
"""Clips that are decoded, or run through the generator, at a time."""


@dataclass(frozen=True, eq=False)
class Losses:
    """The generator's loss on one clip per piece ``[clips, K]``, in nats: as it is, and with the stream ablated to its mean."""

    clip: NDArray[np.int64]
    clean: NDArray[np.float64]
    ablated: NDArray[np.float64]


def score(features: Features, data: HeldOut) -> list[Score]:
    """Squared error, cosine and loss recovered of the dictionary's reconstructions."""
    if features.dictionary is None or not isinstance(features.code, scipy.sparse.csr_array):
        return [Score(m, None, "no reconstruction: it is no dictionary") for m in CARD.main]
    code, dictionary, plan, pieces = features.code, features.dictionary, data.plan, data.pieces
    constant = data.once("constant", lambda: _constant(data))
    error = np.zeros((len(data.clips), 2))
    for clips in _batches(np.arange(len(data.clips))):
        x, fit = np.asarray(data.x[clips], np.float64), _decode(dictionary, code, clips, data.x.shape[1]).double().numpy()
        fit = fit.reshape(x.shape)
        error[clips, 0] = ((x - fit) ** 2).sum((1, 2))
        error[clips, 1] = _cosine(x, fit).mean(1)

    at: dict[str, Any] = {"pieces": len(np.unique(data.groups))}
    sums = spread.piece_sums(np.column_stack([error, constant, np.ones(len(error))]), data.groups, pieces)
    out = []
    for metric, over, under in (("fvu", 0, 2), ("fvu_position", 0, 3), ("cosine", 1, 5)):
        out.append(spread.estimate(metric, sums[:, [over, under]], spread.mean, plan, keep=metric in CARD.main, **at))
    for metric, over, under in (("fvu", 2, 2), ("fvu_position", 2, 3), ("cosine", 4, 5)):
        out.append(spread.estimate(metric, sums[:, [over, under]], spread.mean, plan, control=CHANCE, **at))

    losses = data.once("losses", lambda: _losses(data))
    spliced = _loss(data, losses.clip, lambda clips: _decode(dictionary, code, clips, data.x.shape[1]))
    return out + _recovered(losses, spliced, data)


def _recovered(losses: Losses, spliced: NDArray[np.float64], data: HeldOut) -> list[Score]:
    groups, books, out = data.groups[losses.clip], spliced.shape[1], []
    at: dict[str, Any] = {"pieces": len(losses.clip)}
    for label, book in (("", slice(None)), *((f"codebook {b + 1}", slice(b, b + 1)) for b in range(books))):
        clean, ablated, kept = (a[:, book].mean(1) for a in (losses.clean, losses.ablated, spliced))
        sums = spread.piece_sums(
            np.stack([ablated - kept, ablated - clean, clean, ablated, kept, np.ones_like(kept)], 1), groups, data.pieces
        )
        nothing = sums.copy()
        nothing[:, 0] = 0
        out.append(spread.estimate("loss_recovered", sums, recovered, data.plan, keep=not label, label=label, **at))
        out.append(spread.estimate("loss_recovered", nothing, recovered, data.plan, label=label, control=CHANCE, **at))
        for column, name in ((2, "loss_clean"), (3, "loss_ablated"), (4, "loss_spliced")):
            out.append(spread.estimate(name, sums[:, [column, 5]], spread.mean, data.plan, label=label, **at))
    return out


def recovered(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Loss recovered from sums of (ablated - spliced) and (ablated - clean); undefined where ablation does no harm."""
    harm = sums[..., 1]
    return spread.ratio(sums[..., 0], np.where(harm > 0, harm, 0))


def _constant(data: HeldOut) -> NDArray[np.float64]:
    """Each clip's squared distance from the training mean and from the position means, and cosine with the mean ``[n, 3]``."""
    out = np.empty((len(data.clips), 3))
    mean = np.asarray(data.mean, np.float64)
    for clips in _batches(np.arange(len(out))):
        x = np.asarray(data.x[clips], np.float64)
        out[clips, :2] = np.stack([((x - centre) ** 2).sum((1, 2)) for centre in (mean, data.position_means)], 1)
        out[clips, 2] = _cosine(x, mean).mean(1)
    return out


def _losses(data: HeldOut) -> Losses:
    _, clip = np.unique(data.groups, return_index=True)
    mean = torch.from_numpy(np.asarray(data.mean, np.float32))
    ablated = _loss(data, clip, lambda clips: mean.expand(len(clips) * data.x.shape[1], -1))
    return Losses(clip, _loss(data, clip, None), ablated)


def _loss(
    data: HeldOut, clip: NDArray[np.int64], stream: Callable[[NDArray[np.int64]], torch.Tensor] | None
) -> NDArray[np.float64]:
    """The generator's loss on some clips ``[clips, K]``, with the layer's stream replaced by ``stream(clips) [clips * T, d]``."""
    out = []
    for clips in _batches(clip):
        codes = torch.from_numpy(np.asarray(data.codes[clips], np.int64))
        if stream is None:
            loss = data.generator.loss(codes)
        else:
            loss = data.generator.loss(codes, data.layer, partial(_replace, stream(clips)))
        out.append(loss.double().numpy())
    return np.concatenate(out)


def _replace(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    return new.reshape(old.shape)


def _decode(dictionary: Dictionary, code: scipy.sparse.csr_array, clips: NDArray[np.int64], frames: int) -> torch.Tensor:
    """Reconstruction of some clips' frames ``[clips * T, d]``."""
    part = code[(clips[:, None] * frames + np.arange(frames)).ravel()]
    tensors = [torch.from_numpy(a) for a in (part.data, part.indices.astype(np.int64), part.indptr.astype(np.int64))]
    return dictionary.decode(SparseCode(tensors[0], tensors[1], tensors[2], code.shape[1]))


def _cosine(x: NDArray[np.float64], fit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine along the last axis; 0 where either is zero."""
    return np.nan_to_num(spread.ratio((x * fit).sum(-1), np.sqrt((x**2).sum(-1) * (fit**2).sum(-1))))


def _batches(clips: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(clips), BATCH):
        yield clips[start : start + BATCH]
