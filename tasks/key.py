"""Key: can the key of a clip be read off the mean of its features?

A clip's label is the key that holds over more than 80 % of it; a clip without one is unscored (``clips_without_key``
counts them) and only trains, as a class that is never answered. The 24 keys are joint labels: no linear reading of
absolute pitch gives the mode apart from the tonic. Features are clip means, the paper's aggregation.

- ``weighted_key``: cross-fitted probes (`musae.scores.probe`), scored by mir_eval's weighted key score, fifths counting
  both ways (`mir`).
- ``key_accuracy``: the share of clips whose key is right.
- ``f1_key``: the best single latent of each key (`musae.scores.latents`), mean over keys.

Chance is the key that, answered throughout, scores best on the training folds; for F1, a detector that always fires.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.card import TaskCard
from musae.scores import latents, mir, probe, spread, truth
from musae.scores.heldout import Features, HeldOut
from musae.scores.score import CHANCE, PERMUTED, Score

CARD = TaskCard(
    name="key",
    summary="Key of a clip (24): weighted key score of linear probes on clip means, F1 of the best single latent per key.",
    version=1,
    main=("weighted_key", "f1_key"),
    direction={"weighted_key": "higher", "f1_key": "higher"},
    reads=("codes",),
    concept="key",
)

SHARE = 0.8
"""A clip has a key when one holds over more than this share of it."""


@dataclass(frozen=True, eq=False)
class Clips:
    """The annotated clips, their keys (-1: none over `SHARE`), and their keys after permuting."""

    clip: NDArray[np.int64]
    real: NDArray[np.int64]
    mixed: NDArray[np.int64]
    level: NDArray[np.str_]


def score(features: Features, data: HeldOut) -> list[Score]:
    """Weighted key score and accuracy of the probes at each k, and F1 and average precision of the best latent per key."""
    if unscored := truth.unscorable("key", data, CARD.main):
        return unscored
    clips = data.once("key", lambda: _clips(data))
    x, folds, groups = features.clip_means[clips.clip], data.folds[clips.clip], data.groups[clips.clip]
    fitted = probe.crossfit(x, folds, [probe.Classes(labels, 24) for labels in (clips.real, clips.mixed)])
    tables = {"weighted_key": mir.key_table(), "key_accuracy": np.eye(24)}
    out = []
    for level in np.unique(clips.level):
        rows = clips.level == level
        at: dict[str, Any] = {"truth": str(level)}
        lost = spread.piece_sums(rows & (clips.real < 0), groups, data.pieces)
        out.append(
            spread.estimate("clips_without_key", lost, lambda s: s[..., 0], data.plan, pieces=len(np.unique(groups[rows])), **at)
        )
        for metric, table in tables.items():
            for labels, scores, control in ((clips.real, fitted[0], ""), (clips.mixed, fitted[1], PERMUTED)):
                for k, s in scores.items():
                    out.append(_mean(metric, table, labels, s.argmax(1), rows, groups, data.plan, k=k, control=control, **at))
            constant = _constant(table, clips.real, folds)
            out.append(_mean(metric, table, clips.real, constant, rows, groups, data.plan, control=CHANCE, **at))
    real, mixed = (np.eye(25, dtype=bool)[labels, :24] for labels in (clips.real, clips.mixed))
    return out + latents.latent_scores(
        "key", mir.KEYS, features.sparse_means(clips.clip), real, mixed, clips.level, folds, groups, data.plan
    )


def _clips(data: HeldOut) -> Clips:
    level, donors = truth.levels(data, "key"), truth.donors(data, "key")
    clip = np.flatnonzero(level != "")
    keys = np.full(len(level), -1)
    for c in clip.tolist():
        seconds = np.zeros(24)
        for span in truth.clip_annotations(data)[c].keys:
            key = mir.key_index(span.label)
            seconds[max(key, 0)] += (span.end - span.start) * (key >= 0)
        if seconds.max() > SHARE * data.clips[c].duration:
            keys[c] = seconds.argmax()
    return Clips(clip, keys[clip], keys[donors[clip]], level[clip])


def _mean(
    metric: str,
    table: NDArray[np.float64],
    labels: NDArray[np.int64],
    answer: NDArray[np.int64],
    rows: NDArray[np.bool_],
    groups: NDArray[np.int64],
    plan: NDArray[np.float32],
    **where: Any,
) -> Score:
    """Mean of ``table[label, answer]`` over the labelled clips among `rows`."""
    counted = rows & (labels >= 0)
    sums = spread.piece_sums(np.stack([table[labels, answer] * counted, counted], 1), groups, plan.shape[1])
    keep = metric in CARD.main and not where.get("control")
    return spread.estimate(metric, sums, spread.mean, plan, keep=keep, pieces=int((sums[:, 1] > 0).sum()), **where)


def _constant(table: NDArray[np.float64], labels: NDArray[np.int64], folds: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each clip the key that, answered throughout, scores best on the other folds."""
    best = np.zeros(len(folds), np.int64)
    for fold in np.unique(folds):
        training = labels[(folds != fold) & (labels >= 0)]
        best[folds == fold] = (np.bincount(training, minlength=24) @ table).argmax()
    return best
