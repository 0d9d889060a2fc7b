"""What is true of the held-out clips: annotations, their level of truth, and whole label tracks permuted between pieces.

Scores are reported per level (`musae.corpora.track.Truth`) and never mixed: each level is scored on its own clips,
while the probes may be trained on the other folds' clips of all levels. Labels that a tool guessed (`estimated`) are
not used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musae.corpora.track import Annotations, Truth
from musae.scores import spread
from musae.scores.heldout import HeldOut
from musae.scores.score import Score

FOLDS = 3
"""A probe needs a fold to be scored on, one to choose its ridge on and one to be fitted on."""


def clip_annotations(data: HeldOut) -> tuple[Annotations, ...]:
    """Each clip's annotations, times from the clip's start."""
    return data.once("annotations", lambda: tuple(clip.annotations for clip in data.clips))


def levels(data: HeldOut, concept: str) -> NDArray[np.str_]:
    """Level of truth at which each clip is labelled for a concept ``[n]``; empty where it is not."""
    known = [str(a.truth.get(concept, "")) for a in clip_annotations(data)]
    return np.array(["" if level == Truth.ESTIMATED else level for level in known], dtype=object).astype(str)


def donors(data: HeldOut, concept: str) -> NDArray[np.int64]:
    """The clip whose label track each clip gets when labels are permuted between whole pieces of a level of truth ``[n]``."""
    return permuted(data, levels(data, concept))


def permuted(data: HeldOut, kind: NDArray[np.str_]) -> NDArray[np.int64]:
    """For each clip, a clip of another piece of its kind ``[n]``.

    Within a kind, pieces are put in a seeded random order and each gets the labels of the next, so none keeps its own (unless it
    is alone); its j-th clip gets the donor's j-th, starting over when the donor has fewer.
    """
    donor = np.arange(len(data.clips))
    order = spread.random(data.corpus_revision, "permuted labels").permutation(data.pieces)
    for name in np.unique(kind):
        members = [rows for g in order if len(rows := np.flatnonzero((data.groups == g) & (kind == name)))]
        for rows, source in zip(members, members[1:] + members[:1], strict=True):
            donor[rows] = np.resize(source, len(rows))
    return donor


def unscorable(concept: str, data: HeldOut, metrics: tuple[str, ...]) -> list[Score]:
    """Unscored rows for a concept that too few clips are labelled for; empty where probes can be fitted."""
    folds = np.unique(data.folds[levels(data, concept) != ""])
    if not len(folds):
        return [Score(metric, None, f"no clip of {data.corpus} is labelled for {concept}") for metric in metrics]
    if len(folds) < FOLDS:
        return [Score(metric, None, f"clips labelled for {concept} lie in fewer than {FOLDS} folds") for metric in metrics]
    return []
