"""One dictionary's latents explained on half the pieces, and their labels judged on the other half by several judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.clap import Clap
from musae.errors import UserError
from musae.explainers.explainer import Case, Explainer, Explanation
from musae.labelling.report import Agreed, Exemplar, Labelled, measure
from musae.labels import agreement, evidence, facts, judge_clap, judge_llm, judge_truth
from musae.labels.claims import ABSTENTION, Label
from musae.labels.descriptors import Estimated
from musae.labels.evidence import Evidence
from musae.labels.judge_truth import EMPTY, SHUFFLED
from musae.labels.outcomes import Outcome
from musae.providers.client import Client
from musae.results import Measure
from musae.scores import spread
from musae.scores.heldout import Features, HeldOut
from musae.scores.score import Score

JUDGES = ("truth", "detection", "fuzzing", "intruder", "clap")

NULLS = 20
"""Latents of which judges that have to be asked are asked for a null: each costs as much as a score."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Judges:
    """Who judges: the names of some of `JUDGES`, and what they need."""

    names: tuple[str, ...] = ("truth",)
    client: Client | None = None
    """Of the judges that ask a language model."""
    clap: Clap | None = None
    asked: int = 50
    """At most so many latents are asked about: of 10 firing and 10 silent excerpts of each, the local model judges some 150 a
    minute."""


@dataclass(eq=False)
class Session:
    """What is found of one dictionary on one corpus."""

    case: Case
    explainer: Explainer
    judges: Judges
    progress: Progress = lambda what, done, total: None

    def run(self) -> Found:
        """Explain and judge."""
        found = self.explainer.explain(self.case)
        return self.judge(found)

    def judge(self, found: Sequence[Explanation]) -> Found:
        """Judge explanations of the case's latents."""
        labels = [e.label for e in found]
        unscored = Counter(e.unscored for e in found if e.unscored)
        scores: list[Score] = []
        values: dict[str, NDArray[np.float64]] = {}
        if "truth" in self.judges.names:
            scores += self._truth(labels, values)
        if {"detection", "fuzzing", "intruder"} & set(self.judges.names):
            for outcome in self._asked(labels, scores):
                values[outcome.test] = np.full(len(labels), np.nan)
                values[outcome.test][: len(outcome.per_latent)] = outcome.per_latent
                unscored += Counter({f"{outcome.test}: {reason}": count for reason, count in outcome.unscored.items()})
        if "clap" in self.judges.names and self.judges.clap is not None:
            similarity = judge_clap.judge(labels, self.case.firing, self.case.data, self.judges.clap)
            values["clap"] = similarity.per_latent
            scores += similarity.rows()
            unscored += Counter({f"clap: {reason}": count for reason, count in similarity.unscored.items()})
        labelled = np.array([bool(label.claims) for label in labels], bool)
        agreed = agreement.agreement(values, labelled, self.case.data.corpus_revision)
        return Found(
            latents=self._latents(found, values),
            scores=tuple(measure(score) for score in scores),
            agreement=tuple(
                Agreed(judges=a.judges, n=a.n, rho=a.rho, low=a.low, high=a.high, p=a.p, unscored=a.reason) for a in agreed
            ),
            unscored=dict(unscored),
        )

    def _truth(self, labels: Sequence[Label], values: dict[str, NDArray[np.float64]]) -> list[Score]:
        """Rows of the truth judge, with its nulls."""
        data, firing, level = self.case.data, self.case.firing, self.case.level
        if not level:
            return [Score("youden", None, f"no clip of {data.corpus} is annotated")]
        if not len(labels):
            return [Score("youden", None, "no latent qualifies")]
        verdict = judge_truth.judge(labels, firing, data, level)
        values["truth"] = verdict.per_label(len(labels))
        empty = judge_truth.judge([ABSTENTION] * len(labels), firing, data, level).youden()
        nulls = {**judge_truth.nulls(labels, firing, data, level), EMPTY: empty}
        judging = facts.annotated(data, level) & ~evidence.explaining(data)[data.groups]
        at: dict[str, Any] = {"truth": level, "pieces": len(np.unique(data.groups[judging]))}
        youden = verdict.youden()
        return [
            spread.summarise("youden", youden, **at),
            spread.summarise("balanced_accuracy", (1 + youden) / 2, **at),
            spread.summarise("label_precision", spread.nanmean(verdict.hits), **at),
            spread.summarise("label_recall", spread.nanmean(verdict.covered), **at),
            *(spread.summarise("youden", replicates, control=name, **at) for name, replicates in nulls.items()),
        ]

    def _asked(self, labels: Sequence[Label], scores: list[Score]) -> list[Outcome]:
        """The tests of a language model, of the first latents; their rows, with nulls, are added to `scores`."""
        client, case, count = self.judges.client, self.case, min(self.judges.asked, len(labels))
        if client is None or not count:
            return []
        tables = case.tables(judging=True)
        shown: list[Evidence] = [
            evidence.evidence(case.firing, j, case.data, tables, judging=True, count=case.count) for j in range(count)
        ]
        told = [judge_llm.told(label) for label in labels[:count]]
        deal = judge_truth.shuffled(told, case.data.corpus_revision)[0][:NULLS]
        found: list[Outcome] = []
        if "detection" in self.judges.names:
            found.append(judge_llm.detect(client, told, shown, case.data, self.progress))
            scores += found[-1].rows()
            nulls: dict[str, Sequence[str | None]] = {SHUFFLED: deal, EMPTY: [""] * len(deal)}
            for name, texts in nulls.items():
                scores += judge_llm.detect(client, texts, shown[: len(deal)], case.data, self.progress).rows(control=name)
        if "fuzzing" in self.judges.names:
            found.append(judge_llm.fuzz(client, told, shown, case.firing, case.data, tables, self.progress))
            scores += found[-1].rows()
            dealt = judge_llm.fuzz(client, deal, shown[: len(deal)], case.firing, case.data, tables, self.progress)
            scores += dealt.rows(control=SHUFFLED)
        if "intruder" in self.judges.names:
            found.append(judge_llm.spot(client, shown, case.data, self.progress))
            scores += found[-1].rows()
        return found

    def _latents(self, found: Sequence[Explanation], values: dict[str, NDArray[np.float64]]) -> tuple[Labelled, ...]:
        data, firing = self.case.data, self.case.firing
        shown = replace(self.case, oracle=True).evidence()
        return tuple(
            Labelled(
                latent=int(firing.latents[j]),
                label=e.label,
                unscored=e.unscored,
                p=e.p,
                judged={name: round(float(v[j]), 4) for name, v in values.items() if np.isfinite(v[j])},
                exemplars=tuple(
                    Exemplar(
                        clip=data.clips[place.clip].id,
                        start=round(place.start, 3),
                        end=round(place.end, 3),
                        activation=round(place.activation, 4),
                    )
                    for place in shown[j].top
                ),
            )
            for j, e in enumerate(found)
        )


@dataclass(frozen=True)
class Found:
    """The parts of a report that depend on what was found."""

    latents: tuple[Labelled, ...]
    scores: tuple[Measure, ...]
    agreement: tuple[Agreed, ...]
    unscored: dict[str, int]


def level_of(data: HeldOut) -> str:
    """The level of truth at which most clips are annotated; empty where none is."""
    levels = facts.levels(data)
    return max(levels, key=lambda level: int(facts.annotated(data, level).sum()), default="")


def case(
    features: Features,
    data: HeldOut,
    *,
    latents: int,
    oracle: bool,
    count: int,
    threshold: float,
    progress: Progress = lambda what, done, total: None,
) -> Case:
    """The latents of a dictionary that are to be labelled. Raises UserError where an oracle has no annotations to read."""
    level = level_of(data)
    if oracle and not level:
        raise UserError(f"--evidence exact: no clip of {data.corpus} is annotated; leave it out to have estimates.")
    firing = evidence.firing(features, data, latents, threshold)
    return Case(firing, data, level, oracle=oracle, count=count, estimated=Estimated(progress=progress), progress=progress)
