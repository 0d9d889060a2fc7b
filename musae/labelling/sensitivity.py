"""How the truth judge's score moves with what was chosen: exemplars, firing threshold, evidence and explainer.

One thing is changed at a time, from the defaults. A score that turns on such a choice says as much about the choice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from musae import registry
from musae.errors import UserError
from musae.explainers.explainer import COUNT, Explainer
from musae.files import atomic_path
from musae.labelling import session
from musae.labels import judge_truth
from musae.labels.evidence import LEVEL
from musae.scores import spread
from musae.scores.heldout import Features, HeldOut

EXEMPLARS = (3, 5, COUNT, 20)
THRESHOLDS = (0.25, LEVEL, 0.75)
BESIDE = ("statistical", "tags")
"""Explainers that are always beside the one asked for."""

Progress = Callable[[str, int, int], None]


class Point(BaseModel):
    """One setting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    explainer: str
    evidence: Literal["estimated", "exact"]
    exemplars: int
    threshold: float
    latents: int = 0
    youden: float | None = None
    low: float | None = None
    high: float | None = None
    claimed: float | None = None
    """Share of the latents with a claim."""
    unscored: str = ""


def run(
    features: Features,
    data: HeldOut,
    explainers: Sequence[Explainer],
    *,
    latents: int,
    progress: Progress = lambda what, done, total: None,
) -> list[Point]:
    """Score every setting; one that cannot be scored says why."""
    chosen = {e.card.name: e for e in (*(registry.make("explainers", name) for name in BESIDE), *explainers)}
    points = [
        point
        for name, explainer in chosen.items()
        for point in _settings(name, reads_annotations=explainer.card.reads == "annotations")
    ]
    found = []
    for done, point in enumerate(points):
        progress("settings", done, len(points))
        found.append(_score(point, chosen[point.explainer], features, data, latents, progress))
    progress("settings", len(points), len(points))
    return found


def _settings(name: str, reads_annotations: bool) -> list[Point]:
    """The default, and each other value of one setting at a time; the annotations' explainer has no exemplars."""
    default = Point(explainer=name, evidence="exact" if reads_annotations else "estimated", exemplars=COUNT, threshold=LEVEL)
    changed: list[dict[str, float | str]] = [{"threshold": value} for value in THRESHOLDS]
    if not reads_annotations:
        changed += [{"exemplars": value} for value in EXEMPLARS]
        changed.append({"evidence": "exact"})
    return list(dict.fromkeys([default, *(default.model_copy(update=change) for change in changed)]))


def _score(point: Point, explainer: Explainer, features: Features, data: HeldOut, latents: int, progress: Progress) -> Point:
    try:
        case = session.case(
            features,
            data,
            latents=latents,
            oracle=point.evidence == "exact",
            count=point.exemplars,
            threshold=point.threshold,
            progress=progress,
        )
        if not len(case.firing.latents):
            return point.model_copy(update={"unscored": "no latent qualifies"})
        labels = [e.label for e in explainer.explain(case)]
    except UserError as error:
        return point.model_copy(update={"unscored": str(error)})
    verdict = judge_truth.judge(labels, case.firing, data, case.level)
    score = spread.summarise("youden", verdict.youden())
    claimed = sum(bool(label.checkable) for label in labels) / len(labels)
    return point.model_copy(
        update={"latents": len(labels), "youden": score.value, "low": score.low, "high": score.high, "claimed": claimed}
    )


def table(points: Sequence[Point]) -> str:
    """One line a setting."""
    lines = [f"{'explainer':28} {'evidence':9} {'exemplars':>9} {'threshold':>9} {'latents':>7} {'claimed':>7}  Youden, 95 %"]
    for p in points:
        value = p.unscored or f"{p.youden:.3f} [{p.low:.3f}, {p.high:.3f}]"
        claimed = "" if p.claimed is None else f"{p.claimed:.0%}"
        count = "-" if p.explainer == "statistical" else str(p.exemplars)
        lines.append(f"{p.explainer:28} {p.evidence:9} {count:>9} {p.threshold:9.2f} {p.latents:7d} {claimed:>7}  {value}")
    return "\n".join(lines)


def write(points: Sequence[Point], dictionary: str, path: Path) -> Path:
    """Write the settings with their scores, atomically."""
    found = {"dictionary": dictionary, "points": [p.model_dump(exclude_none=True) for p in points]}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path
