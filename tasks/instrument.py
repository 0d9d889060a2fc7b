"""Instruments: can the families that sound in a clip be read off the mean of its features?

Families may sound together, so each is a yes-or-no question (multi-label). Features are clip means, the paper's
aggregation.

- ``map``, ``roc_auc``: average precision and area under the ROC curve of cross-fitted two-class probes
  (`musae.scores.probe`), mean over families; curves are drawn within a fold (`musae.scores.ranking`). For the probe on
  all features, and its controls, there is a row for each family.
- ``f1_instrument``: the best single latent of each family (`musae.scores.latents`), mean over families.

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
    """The annotated clips, and which of the scored families sound in them, truly and after permuting ``[n, families]``."""

    clip: NDArray[np.int64]
    level: NDArray[np.str_]
    families: tuple[str, ...]
    rare: tuple[str, ...]
    """Families that some fold has no clip with, or none without."""
    real: NDArray[np.bool_]
    mixed: NDArray[np.bool_]


def score(features: Features, data: HeldOut) -> list[Score]:
    """Mean average precision and ROC-AUC of the probes at each k, and F1 and average precision of the best latent per family."""
    if unscored := truth.unscorable("instruments", data, CARD.main):
        return unscored
    clips = data.once("instrument", lambda: _clips(data))
    unscored = [Score("map", None, f"some fold has no clip with, or none without, {f}", label=f) for f in clips.rare]
    if not clips.families:
        return unscored + [Score(m, None, "no instrument family is both present and absent in every fold") for m in CARD.main]
    x, folds, groups = features.clip_means[clips.clip], data.folds[clips.clip], data.groups[clips.clip]
    fitted = probe.crossfit(x, folds, [probe.Tags(clips.real), probe.Tags(clips.mixed)])
    plan, out = spread.with_total(data.plan), unscored
    for level in np.unique(clips.level):
        rows = np.flatnonzero(clips.level == level)
        at: dict[str, Any] = {"truth": str(level), "pieces": len(np.unique(groups[rows]))}
        cases: list[tuple[NDArray, NDArray[np.bool_], dict[str, Any]]]
        cases = [(fitted[0][k], clips.real, {"k": k}) for k in probe.KS]
        cases += [(fitted[1][k], clips.mixed, {"k": k, "control": PERMUTED}) for k in probe.KS]
        cases += [(np.zeros_like(fitted[0][None]), clips.real, {"control": CHANCE})]
        for scores, tags, case in cases:
            curves = [
                rank_scores(s[rows], t[rows], folds[rows], groups[rows], plan) for s, t in zip(scores.T, tags.T, strict=True)
            ]
            for metric, figures in zip(("roc_auc", "map"), np.array(curves).transpose(1, 2, 0), strict=True):
                out.append(
                    spread.summarise(
                        metric, spread.nanmean(figures), keep="control" not in case, centre=metric == "map", **case, **at
                    )
                )
                if case.get("k") is None:
                    out += [
                        spread.summarise(metric, f, centre=metric == "map", label=name, **case, **at)
                        for name, f in zip(clips.families, figures.T, strict=True)
                    ]
    means = features.sparse_means(clips.clip)
    return out + latents.latent_scores(
        "instrument", clips.families, means, clips.real, clips.mixed, clips.level, folds, groups, data.plan
    )


def _clips(data: HeldOut) -> Clips:
    level, donors = truth.levels(data, "instruments"), truth.donors(data, "instruments")
    clip, heard = np.flatnonzero(level != ""), [a.instruments for a in truth.clip_annotations(data)]
    families = sorted(set().union(*(heard[c] for c in clip)))
    tags = np.array([[f in h for f in families] for h in heard], bool).reshape(len(heard), -1)
    folds = data.folds[clip]
    shares = np.array([[t[clip][folds == f].mean(0) for f in np.unique(folds)] for t in (tags, tags[donors])])
    scored = np.asarray(((shares > 0) & (shares < 1)).all((0, 1)))
    kept, rare = (tuple(f for f, s in zip(families, scored, strict=True) if s == wanted) for wanted in (True, False))
    return Clips(clip, level[clip], kept, rare, tags[clip][:, scored], tags[donors[clip]][:, scored])
