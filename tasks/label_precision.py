"""Labels: can a latent be told in a few words that are true on other pieces?

The statistical explainer (`musae.labels.explain_statistically`) labels up to `musae.labels.evidence.LATENTS` latents on half the
pieces with a claim of a closed vocabulary, or abstains; the truth judge (`musae.labels.judge_truth`) checks the claims on the
other half. Which latents, and when they fire: `musae.labels.evidence`. Of the explainers it is the ceiling: it chooses by what is
measured.

- ``youden``: P(the claim holds | the latent fires) - P(it holds | the latent is silent), mean over latents; an abstention is 0.
- ``balanced_accuracy``: half of one plus that; ``label_precision`` and ``label_recall``: of the claims that were made.
- ``labelled_share`` of the latents, and ``latents``, how many were taken; ``eligible_latents``, of how many.

Rows by kind of claim have it as their label and are means over the claims of that kind. A set with few eligible latents is
judged by these few: read ``latents`` too. Chance is one claim for all latents, the commonest; ``shuffled_labels`` deals the
labels out at random among latents; ``empty_label`` abstains, 0 by definition; permuted labels are explained and judged on
permuted annotations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from musae.card import TaskCard
from musae.labels import evidence, explain_statistically, facts, judge_truth
from musae.labels.claims import ABSTENTION, Claim, Label
from musae.labels.evidence import Firing
from musae.labels.judge_truth import Verdict
from musae.scores import spread
from musae.scores.heldout import Features, HeldOut
from musae.scores.score import CHANCE, PERMUTED, Score

CARD = TaskCard(
    name="label_precision",
    summary="Statistical labels of latents, checked against annotations on other pieces: Youden index, precision, recall.",
    version=1,
    main=("youden",),
    direction={"youden": "higher"},
    reads=("codes",),
)

SHUFFLED = "shuffled_labels"
EMPTY = "empty_label"


def score(features: Features, data: HeldOut) -> list[Score]:
    """Youden index of the statistical labels at each level of truth, with its parts, its kinds of claims and its nulls."""
    levels = facts.levels(data)
    if not levels:
        return [Score("youden", None, f"no clip of {data.corpus} is annotated")]
    firing = evidence.firing(features, data)
    if not len(firing.latents):
        low, high = evidence.RATES
        reason = f"no latent fires on {low:.1%} to {high:.0%} of the frames, in {evidence.PIECES} pieces or more"
        return [Score("youden", None, reason).on(truth=level) for level in levels]
    return [row for level in levels for row in _level(firing, data, level)]


def _level(firing: Firing, data: HeldOut, level: str) -> list[Score]:
    annotated = facts.annotated(data, level) & ~evidence.explaining(data)[data.groups]
    at: dict[str, Any] = {"truth": level, "pieces": len(np.unique(data.groups[annotated]))}
    labels = [e.label for e in explain_statistically.explain(firing, data, level)]
    verdict = judge_truth.judge(labels, firing, data, level)
    mixed = [e.label for e in explain_statistically.explain(firing, data, level, permuted=True)]
    dealt = [judge_truth.judge(deal, firing, data, level).youden() for deal in judge_truth.shuffled(labels, data.corpus_revision)]
    same = [_commonest(data, level)] * len(labels)
    nulls = {
        CHANCE: judge_truth.judge(same, firing, data, level).youden(),
        PERMUTED: judge_truth.judge(mixed, firing, data, level, permuted=True).youden(),
        SHUFFLED: np.mean(dealt, axis=0),
        EMPTY: judge_truth.judge([ABSTENTION] * len(labels), firing, data, level).youden(),
    }
    youden = verdict.youden()
    counted = {
        "labelled_share": float(np.mean([bool(label.checkable) for label in labels])),
        "latents": float(len(labels)),
        "eligible_latents": float(firing.eligible),
    }
    return [
        spread.summarise("youden", youden, keep=True, **at),
        spread.summarise("balanced_accuracy", (1 + youden) / 2, **at),
        *(Score(metric, value, low=value, high=value).on(**at) for metric, value in counted.items()),
        *_claims(verdict, np.ones(len(verdict.kinds), bool), at),
        *(row for kind in sorted(set(verdict.kinds)) for row in _claims(verdict, np.array(verdict.kinds) == kind, at, kind)),
        *(spread.summarise("youden", values, control=control, **at) for control, values in nulls.items()),
    ]


def _claims(verdict: Verdict, which: np.ndarray, at: dict[str, Any], kind: str = "") -> list[Score]:
    """Precision and recall of some of the claims, and of a kind its Youden index."""
    figures = {
        "label_precision": spread.nanmean(verdict.hits[:, which]),
        "label_recall": spread.nanmean(verdict.covered[:, which]),
    }
    if kind:
        figures["youden"] = spread.nanmean(verdict.claims_youden()[:, which])
    return [spread.summarise(metric, values, label=kind, **at) for metric, values in figures.items()]


def _commonest(data: HeldOut, level: str) -> Label:
    """The candidate that holds most often on the explaining pieces: a label that reads no feature."""
    half = evidence.explaining(data)

    def share(claim: Claim) -> float:
        where = facts.unit(claim)
        true, known = facts.facts(data, where, level).holds(claim)
        rows = half[evidence.groups(data, where)]
        return float(true[rows].sum() / max(known[rows].sum(), 1))

    candidates: Sequence[Claim] = explain_statistically.CANDIDATES
    return explain_statistically.describe([max(candidates, key=share)], confidence=1)
