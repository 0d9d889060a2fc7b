"""Instruments: can the families that sound in a clip be read off the mean of its features?

Families may sound together, so each is a yes-or-no question (multi-label). Features are clip means, the paper's
aggregation.

- ``map``, ``roc_auc``: average precision and area under the ROC curve of cross-fitted two-class probes
  (`musae.scores.probe`), mean over families; curves are drawn within a fold (`musae.scores.ranking`). For the probe on
  all features, and its controls, there is a row for each family.
- ``f1_instrument``: the best single latent of each family (`musae.scores.latents`), mean over families.

Where a corpus is labelled in part, a clip neither trains nor tests the probes and latents of a family that was not observed in it
(`Annotations.unobserved`); permuted labels bring along what was not observed.

A family is scored where every fold has clips with and without it; the others are unscored, by name. Chance gives all
clips the same score; for F1, it is a detector that always fires.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.card import TaskCard
from musae.scores import latents, probe, spread, truth
from musae.scores.heldout import Features, HeldOut
from musae.scores.ranking import rank_scores
from musae.scores.score import CHANCE, PERMUTED, Score

CARD = TaskCard(
    name="instrument",
    summary="Instrument families of a clip: macro mAP and ROC-AUC of linear probes on clip means, F1 of the best single latent.",
    version=1,
    main=("map", "roc_auc", "f1_instrument"),
    direction={"map": "higher", "roc_auc": "higher", "f1_instrument": "higher"},
    reads=("codes",),
    concept="instruments",
)


@dataclass(frozen=True, eq=False)
class Clips:
    """The annotated clips, and which of the scored families sound in them, truly and after permuting ``[n, families]``; and in
    which of these cells that is known."""

    clip: NDArray[np.int64]
    level: NDArray[np.str_]
    families: tuple[str, ...]
    rare: tuple[str, ...]
    """Families that some fold has no clip with, or none without."""
    real: NDArray[np.bool_]
    mixed: NDArray[np.bool_]
    seen_real: NDArray[np.bool_]
    seen_mixed: NDArray[np.bool_]

    @property
    def partial(self) -> bool:
        """Whether some cell is not known."""
        return not (self.seen_real.all() and self.seen_mixed.all())


def score(features: Features, data: HeldOut) -> list[Score]:
    """Mean average precision and ROC-AUC of the probes at each k, and F1 and average precision of the best latent per family."""
    if unscored := truth.unscorable("instruments", data, CARD.main):
        return unscored
    clips = data.once("instrument", lambda: _clips(data))
    unscored = [Score("map", None, f"some fold has no clip with, or none without, {f}", label=f) for f in clips.rare]
    if not clips.families:
        return unscored + [Score(m, None, "no instrument family is both present and absent in every fold") for m in CARD.main]
    x, folds, groups = features.clip_means[clips.clip], data.folds[clips.clip], data.groups[clips.clip]
    fitted = _probes(x, folds, clips)
    plan, out = spread.with_total(data.plan), unscored
    for level in np.unique(clips.level):
        rows = np.flatnonzero(clips.level == level)
        at: dict[str, Any] = {"truth": str(level), "pieces": len(np.unique(groups[rows]))}
        cases: list[tuple[NDArray, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]]
        cases = [(fitted[0][k], clips.real, clips.seen_real, {"k": k}) for k in probe.KS]
        cases += [(fitted[1][k], clips.mixed, clips.seen_mixed, {"k": k, "control": PERMUTED}) for k in probe.KS]
        cases += [(np.zeros_like(fitted[0][None]), clips.real, clips.seen_real, {"control": CHANCE})]
        for scores, tags, seen, case in cases:
            known = [rows[column[rows]] for column in seen.T]
            heard = [len(np.unique(groups[r])) for r in known]
            curves = [rank_scores(s[r], t[r], folds[r], groups[r], plan) for s, t, r in zip(scores.T, tags.T, known, strict=True)]
            for metric, figures in zip(("roc_auc", "map"), np.array(curves).transpose(1, 2, 0), strict=True):
                out.append(
                    spread.summarise(
                        metric, spread.nanmean(figures), keep="control" not in case, centre=metric == "map", **case, **at
                    )
                )
                if case.get("k") is None:
                    out += [
                        spread.summarise(metric, f, centre=metric == "map", label=name, **case, **at | {"pieces": pieces})
                        for name, f, pieces in zip(clips.families, figures.T, heard, strict=True)
                    ]
    means = features.sparse_means(clips.clip)
    cells = (clips.seen_real, clips.seen_mixed) if clips.partial else None
    return out + latents.latent_scores(
        "instrument", clips.families, means, clips.real, clips.mixed, clips.level, folds, groups, data.plan, cells
    )


def _probes(x: NDArray, folds: NDArray[np.int64], clips: Clips) -> list[dict[int | None, NDArray[np.float32]]]:
    """Out-of-fold scores ``[n, families]`` for true and for permuted tags; where a cell is not known, 0.

    Where all is known one fit serves all families; else each is fitted on its own clips.
    """
    tags, seen = (clips.real, clips.mixed), (clips.seen_real, clips.seen_mixed)
    if not clips.partial:
        return probe.crossfit(x, folds, [probe.Tags(each) for each in tags])
    fitted = [{k: np.zeros(each.shape, np.float32) for k in probe.KS} for each in tags]
    for kind, family in np.ndindex(2, len(clips.families)):
        known = np.flatnonzero(seen[kind][:, family])
        [found] = probe.crossfit(x[known], folds[known], [probe.Tags(tags[kind][known, family : family + 1])])
        for k, scores in found.items():
            fitted[kind][k][known, family] = scores[:, 0]
    return fitted


def _clips(data: HeldOut) -> Clips:
    level, donors = truth.levels(data, "instruments"), truth.donors(data, "instruments")
    clip, said = np.flatnonzero(level != ""), truth.clip_annotations(data)
    families = sorted(set().union(*(said[c].instruments for c in clip)))
    tags = np.array([[f in a.instruments for f in families] for a in said], bool).reshape(len(said), -1)
    seen = np.array([[f not in a.unobserved for f in families] for a in said], bool).reshape(len(said), -1)
    real, mixed, seen_real, seen_mixed = (t[rows] for t in (tags, seen) for rows in (clip, donors[clip]))
    folds = data.folds[clip]
    parts = [(t[folds == f], s[folds == f]) for t, s in ((real, seen_real), (mixed, seen_mixed)) for f in np.unique(folds)]
    scored = np.all([(t & s).any(0) & (~t & s).any(0) for t, s in parts], axis=0)
    kept, rare = (tuple(f for f, s in zip(families, scored, strict=True) if s == wanted) for wanted in (True, False))
    return Clips(clip, level[clip], kept, rare, *(cells[:, scored] for cells in (real, mixed, seen_real, seen_mixed)))
