"""Which latents are labelled, where they fire, and what an explainer sees of them.

Pieces are split in two halves, fixed by the corpus revision: one to explain a latent on, the other to judge the label on. A
latent fires on a row where its value exceeds `LEVEL` of a high quantile of its positive values on the explaining half: a code
that is never quite zero has no other silence. The value of a clip is the mean over its frames, the paper's aggregation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from musae.labels.facts import Facts, Unit
from musae.scores import spread
from musae.scores.heldout import Features, HeldOut

LATENTS = 200
"""At most so many latents are labelled: the first that qualify in an order that knows nothing of the dictionary."""

RATES = (0.001, 0.25)
"""A latent qualifies when it fires on such a share of the explaining frames. The upper bound is the paper's; its lower one is of
clips, where a latent that stands for one chord of 24 fires almost everywhere for a moment."""

PIECES = 3
"""It must also fire in at least so many explaining pieces."""

LEVEL, QUANTILE = 0.5, 0.99

EXCERPT = 1.0
"""Seconds on either side of the peak of an activation-aligned excerpt."""


@dataclass(frozen=True, eq=False)
class Firing:
    """Where the chosen latents fire. Compared by identity."""

    latents: NDArray[np.int64]
    """Which latents of the feature set ``[L]``, ascending."""
    at: Mapping[Unit, NDArray[np.bool_]]
    """Whether each fires at `HeldOut.probe_rows` ``[m, L]`` and on each clip ``[n, L]``."""
    values: Mapping[Unit, NDArray[np.float32]]
    """Their values there."""
    eligible: int
    """How many latents qualify, of which these are taken."""


def explaining(data: HeldOut) -> NDArray[np.bool_]:
    """Which pieces ``[G]`` labels are found on; the others judge them."""
    order = spread.random(data.corpus_revision, "label halves").permutation(data.pieces)
    half: NDArray[np.bool_] = order % 2 == 0
    return half


def groups(data: HeldOut, unit: Unit) -> NDArray[np.int64]:
    """The piece of each row of a unit."""
    return data.groups if unit == "clips" else data.groups[clip_of(data)]


def clip_of(data: HeldOut) -> NDArray[np.int64]:
    """The clip of each of `HeldOut.probe_rows` ``[m]``."""
    return np.asarray(data.probe_rows // data.x.shape[1], np.int64)


def firing(features: Features, data: HeldOut, limit: int = LATENTS, threshold: float = LEVEL) -> Firing:
    """The latents that qualify (`RATES`, `PIECES`), at most `limit` of them, and where they fire.

    `threshold`: the share of a latent's high quantile that its value exceeds where it fires.
    """
    half, pieces = explaining(data), groups(data, "frames")
    code, rows = features.at(data.probe_rows), np.flatnonzero(half[pieces])
    order = spread.random(data.corpus_revision, "labelled latents").permutation(features.width)
    chosen: list[int] = []
    eligible = 0
    columns = code.tocsc() if isinstance(code, scipy.sparse.csr_array) else code
    for j in order.tolist():
        fires = _fires(_column(columns, j), rows, threshold)
        rate = fires[rows].mean() if len(rows) else 0.0
        if RATES[0] <= rate <= RATES[1] and len(np.unique(pieces[rows][fires[rows]])) >= PIECES:
            eligible += 1
            if len(chosen) < limit:
                chosen.append(j)
    latents = np.sort(np.array(chosen, np.int64))
    clips = np.flatnonzero(half[data.groups])
    values: dict[Unit, NDArray[np.float32]] = {
        "frames": np.stack([_column(columns, j) for j in latents], 1) if chosen else np.zeros((len(pieces), 0), np.float32),
        "clips": features.clip_means[:, latents],
    }
    known: dict[Unit, NDArray[np.int64]] = {"frames": rows, "clips": clips}
    at: dict[Unit, NDArray[np.bool_]] = {}
    for unit, found in values.items():
        at[unit] = np.zeros(found.shape, np.bool_)
        for i, column in enumerate(found.T):
            at[unit][:, i] = _fires(column, known[unit], threshold)
    return Firing(latents, at, values, eligible)


def _column(code: scipy.sparse.csc_array | NDArray[np.float32], j: int) -> NDArray[np.float32]:
    if not isinstance(code, scipy.sparse.csc_array):
        return code[:, j]
    out = np.zeros(code.shape[0], np.float32)
    part = slice(code.indptr[j], code.indptr[j + 1])
    out[code.indices[part]] = code.data[part]
    return out


def _fires(values: NDArray[np.float32], known: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
    """Whether a latent fires, its threshold set by the rows `known`."""
    positive = values[known]
    positive = positive[positive > 0]
    if not len(positive):
        return np.zeros(len(values), bool)
    fires: NDArray[np.bool_] = values > threshold * np.quantile(positive, QUANTILE)
    return fires


@dataclass(frozen=True)
class Example:
    """One place that an explainer or a judge is shown."""

    clip: int
    """Which clip."""
    start: float
    """Seconds from the clip's start at which the excerpt begins."""
    end: float
    activation: float
    fires: bool
    descriptors: Mapping[str, Any]
    """Fact -> its value at the excerpt's middle and of its clip, where it is known (`musae.labels.descriptors`)."""


@dataclass(frozen=True)
class Evidence:
    """What is shown of one latent, from one half of the pieces."""

    latent: int
    top: tuple[Example, ...]
    """Where it fires most, one excerpt a clip about its peak, strongest first."""
    random: tuple[Example, ...]
    """Places drawn at random where it is silent."""
    hard: tuple[Example, ...]
    """Places where it is silent that share most descriptors with the strongest."""
    near: tuple[Example, ...]
    """Places where it is silent and the latent that fires most like it fires."""


def evidence(
    firing: Firing, column: int, data: HeldOut, tables: Mapping[Unit, Facts], judging: bool = False, count: int = 10
) -> Evidence:
    """The evidence on one of the chosen latents, by its column in `firing`; at most `count` of a kind, each of another clip.

    `tables`: facts of frames and of clips, exact or estimated; negatives are hard by what these say.
    """
    half = explaining(data) != judging
    values, fires = firing.values["frames"][:, column], firing.at["frames"]
    rows = np.flatnonzero(half[groups(data, "frames")])
    order = rows[np.argsort(-values[rows], kind="stable")]
    top = _distinct(order[fires[order, column]], data, count)
    rng = spread.random(data.corpus_revision, f"negatives {column} {judging}")
    silent = rng.permutation(rows[~fires[rows, column]])
    clips = clip_of(data)

    def shared(row: int, other: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many facts hold at both places."""
        same = sum((ids[other] == ids[row]) & (ids[row] > 0) for ids in tables["frames"].index.values())
        in_clips = tables["clips"].index.values()
        return np.asarray(
            same + sum((ids[clips[other]] == ids[clips[row]]) & (ids[clips[row]] > 0) for ids in in_clips), np.int64
        )

    hard = silent[np.argsort(-shared(top[0], silent), kind="stable")] if top else silent[:0]
    overlap = (fires[rows].T.astype(np.float32) @ fires[rows, column]) / np.maximum(fires[rows].sum(0), 1)
    overlap[column] = -1
    near = silent[fires[silent, int(overlap.argmax())]] if len(overlap) > 1 else silent[:0]

    def examples(picked: list[int]) -> tuple[Example, ...]:
        return tuple(_example(row, values, fires[:, column], data, tables) for row in picked)

    return Evidence(
        int(firing.latents[column]),
        examples(top),
        *(examples(_distinct(r, data, count)) for r in (silent, hard, near)),
    )


def _distinct(rows: NDArray[np.int64], data: HeldOut, count: int) -> list[int]:
    """The first rows of each clip, at most `count`."""
    _, first = np.unique(clip_of(data)[rows], return_index=True)
    return [int(r) for r in rows[np.sort(first)[:count]]]


def _example(row: int, values: NDArray, fires: NDArray[np.bool_], data: HeldOut, tables: Mapping[Unit, Facts]) -> Example:
    clip, frame = divmod(int(data.probe_rows[row]), data.x.shape[1])
    middle = float(data.times[frame] - data.period / 2)
    known = tables["frames"].at(row) | tables["clips"].at(clip)
    bounds = max(0.0, middle - EXCERPT), min(data.clips[clip].duration, middle + EXCERPT)
    return Example(clip, *bounds, float(values[row]), bool(fires[row]), known)
