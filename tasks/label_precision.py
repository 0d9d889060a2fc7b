"""Labels: can a latent be told in a few words that are true on other pieces?

The suite's explainer (`musae.explainers`, by default the local language model) labels at most `HeldOut.labelled` latents on half
the pieces, by claims of a closed vocabulary, or abstains; the truth judge (`musae.labels.judge_truth`) checks the claims on the
other half. Which latents, and when they fire: `musae.labels.evidence`.

- ``youden``: P(the claim holds | the latent fires) - P(it holds | the latent is silent), mean over latents; an abstention, and a
  latent of which the explainer could say nothing, is 0.
- ``balanced_accuracy``: half of one plus that; ``label_precision`` and ``label_recall``: of the claims that were made.
- ``labelled_share`` and ``unscored_share`` of the latents; ``latents``, how many were taken; ``eligible_latents``, of how many.

Rows by kind of claim have it as their label and are means over the claims of that kind. A set with few eligible latents is
judged by these few: read ``latents`` too.

Beside the explainer stand: ``statistical_ceiling``, which reads the annotations and chooses by what is measured; ``tags``, the
most frequent tag, as in the paper; ``oracle_evidence``, the explainer told by annotations instead of estimates. Nulls: chance is
one claim for all latents, the commonest; ``shuffled_labels`` deals the labels out at random among latents; ``wrong_latent`` gives
each the label of the next; ``empty_label`` abstains, 0 by definition; permuted labels are judged against permuted annotations
(the statistical ones explained on them, too).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from musae import registry
from musae.card import TaskCard
from musae.errors import UserError
from musae.explainers.explainer import Case, Explainer, Explanation
from musae.labels import evidence, explain_statistically, facts, judge_truth
from musae.labels.claims import ABSTENTION, Claim, Label
from musae.labels.judge_truth import Verdict
from musae.scores import spread
from musae.scores.heldout import Features, HeldOut
from musae.scores.score import CHANCE, Score

CARD = TaskCard(
    name="label_precision",
    summary="Labels of latents, checked against annotations on other pieces: Youden index, precision, recall.",
    version=1,
    main=("youden",),
    direction={"youden": "higher"},
    reads=("codes",),
    references=("statistical_ceiling", "tags", "oracle_evidence"),
    labels=True,
)

CEILING = "statistical_ceiling"
TAGS = "tags"
ORACLE = "oracle_evidence"


def score(features: Features, data: HeldOut) -> list[Score]:
    """Youden index of the explainer's labels at each level of truth, with its parts, its kinds of claims and its nulls."""
    levels = facts.levels(data)
    if not levels:
        return [Score("youden", None, f"no clip of {data.corpus} is annotated")]
    firing = evidence.firing(features, data, data.labelled)
    if not len(firing.latents):
        low, high = evidence.RATES
        reason = f"no latent fires on {low:.1%} to {high:.0%} of the frames, in {evidence.PIECES} pieces or more"
        return [Score("youden", None, reason).on(truth=level) for level in levels]
    return [row for level in levels for row in _level(Case(firing, data, level))]


def _level(case: Case) -> list[Score]:
    data, firing = case.data, case.firing
    annotated = facts.annotated(data, case.level) & ~evidence.explaining(data)[data.groups]
    at: dict[str, Any] = {"truth": case.level, "pieces": len(np.unique(data.groups[annotated]))}
    empty = [ABSTENTION] * len(firing.latents)
    nulls = [
        spread.summarise("youden", judge_truth.judge(labels, firing, data, case.level).youden(), control=control, **at)
        for control, labels in (
            (CHANCE, [_commonest(case)] * len(firing.latents)),
            (judge_truth.EMPTY, empty),
        )
    ]
    ceiling = _others(case, "statistical", CEILING, at) if data.explainer != "statistical" else []
    beside = [*ceiling, *(_others(case, "tags", TAGS, at) if data.explainer != "statistical" else [])]
    try:
        explainer: Explainer = registry.make("explainers", data.explainer)
        found = explainer.explain(case)
        if explainer.card.reads == "descriptors":
            beside += _judged(explainer.explain(replace(case, oracle=True)), case, ORACLE, at)
    except UserError as error:
        return [Score("youden", None, str(error)).on(**at), *beside, *nulls]
    return [*_own(found, explainer, case, at), *beside, *nulls]


def _own(found: Sequence[Explanation], explainer: Explainer, case: Case, at: dict[str, Any]) -> list[Score]:
    """Rows of the suite's explainer."""
    data, firing, labels = case.data, case.firing, [e.label for e in found]
    verdict = judge_truth.judge(labels, firing, data, case.level)
    mixed = explainer.explain(replace(case, permuted=True)) if explainer.card.reads == "annotations" else found
    nulls = judge_truth.nulls(labels, firing, data, case.level, [e.label for e in mixed])
    youden = verdict.youden()
    counted = {
        "labelled_share": float(np.mean([bool(label.checkable) for label in labels])),
        "unscored_share": float(np.mean([bool(e.unscored) for e in found])),
        "latents": float(len(labels)),
        "eligible_latents": float(firing.eligible),
    }
    kinds = np.array(verdict.kinds)
    return [
        spread.summarise("youden", youden, keep=True, **at),
        spread.summarise("balanced_accuracy", (1 + youden) / 2, **at),
        *(Score(metric, value, low=value, high=value).on(**at) for metric, value in counted.items()),
        *_claims(verdict, np.ones(len(kinds), bool), at),
        *(row for kind in sorted(set(verdict.kinds)) for row in _claims(verdict, kinds == kind, at, kind)),
        *(spread.summarise("youden", values, control=control, **at) for control, values in nulls.items()),
    ]


def _others(case: Case, name: str, control: str, at: dict[str, Any]) -> list[Score]:
    """The score of another explainer, beside the suite's; unscored where it cannot explain."""
    try:
        explainer: Explainer = registry.make("explainers", name)
        return _judged(explainer.explain(case), case, control, at)
    except UserError as error:
        return [Score("youden", None, str(error)).on(control=control, **at)]


def _judged(found: Sequence[Explanation], case: Case, control: str, at: dict[str, Any]) -> list[Score]:
    verdict = judge_truth.judge([e.label for e in found], case.firing, case.data, case.level)
    return [spread.summarise("youden", verdict.youden(), control=control, **at)]


def _claims(verdict: Verdict, which: np.ndarray, at: dict[str, Any], kind: str = "") -> list[Score]:
    """Precision and recall of some of the claims, and of a kind its Youden index."""
    figures = {
        "label_precision": spread.nanmean(verdict.hits[:, which]),
        "label_recall": spread.nanmean(verdict.covered[:, which]),
    }
    if kind:
        figures["youden"] = spread.nanmean(verdict.claims_youden()[:, which])
    return [spread.summarise(metric, values, label=kind, **at) for metric, values in figures.items()]


def _commonest(case: Case) -> Label:
    """The candidate that holds most often on the explaining pieces: a label that reads no feature."""
    half = evidence.explaining(case.data)

    def share(claim: Claim) -> float:
        where = facts.unit(claim)
        true, known = facts.facts(case.data, where, case.level).holds(claim)
        rows = half[evidence.groups(case.data, where)]
        return float(true[rows].sum() / max(known[rows].sum(), 1))

    candidates: Sequence[Claim] = explain_statistically.CANDIDATES
    return explain_statistically.describe([max(candidates, key=share)], confidence=1)
