"""What comes of asking a language model about labels: figures of each latent, and their means with intervals.

The mean is over latents, and both latents and pieces are a sample: in each replicate of the bootstrap the latents are redrawn,
and within them the pieces that their excerpts are of, by the corpus's own plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.scores import spread
from musae.scores.ranking import rank_scores
from musae.scores.score import Score


@dataclass(frozen=True, eq=False)
class Outcome:
    """One test of L latents; figures are of the sample, then of each bootstrap replicate."""

    test: str
    """``detection``, ``fuzzing`` or ``intruder``."""
    main: str
    """The measure that stands for the test."""
    chance: float
    """The main measure of somebody who ignores what is shown."""
    values: Mapping[tuple[str, str], NDArray[np.float64]]
    """Measure and kind of negative -> each latent's value ``[1 + R, L]``; NaN where it is unscored or was not drawn."""
    asked: int
    """Questions."""
    unscored: Mapping[str, int]
    """Reason -> how many questions have no answer, or could not be put."""
    abstained: int
    """Labels that say nothing: nothing was asked of them, and they are at chance."""
    pieces: int
    """How many pieces the excerpts are of."""
    revision: str
    """Of the corpus: it fixes how latents are redrawn."""

    @property
    def per_latent(self) -> NDArray[np.float64]:
        """The main measure of each latent ``[L]``, mean over the kinds of negatives."""
        kinds = [values[0] for (measure, _), values in self.values.items() if measure == self.main]
        return spread.nanmean(np.stack(kinds, 1))

    def mean(self, measure: str, kind: str) -> NDArray[np.float64]:
        """A measure's mean over latents ``[1 + R]``."""
        return over_latents(self.values[measure, kind], self.revision)

    def rows(self, **where: Any) -> list[Score]:
        """Each measure by kind of negative, as ``detection_auroc``; where nothing was answered, the commonest reason."""
        reason = max(self.unscored, key=lambda r: self.unscored[r], default="no latent has enough excerpts on the judging pieces")
        rows = []
        for measure, kind in self.values:
            found = self.mean(measure, kind)
            metric, at = f"{self.test}_{measure}", {"label": kind, "pieces": self.pieces, **where}
            known = np.isfinite(found[0])
            rows.append(spread.summarise(metric, found, **at) if known else Score(metric, None, reason).on(**at))
        return rows


def over_latents(values: NDArray[np.float64], revision: str) -> NDArray[np.float64]:
    """Mean over latents ``[1 + R]`` of what is not NaN in ``[1 + R, L]``, latents redrawn in each replicate."""
    replicates, count = len(values) - 1, values.shape[1]
    drawn = spread.random(revision, f"latents {count}").multinomial(count, np.full(count, 1 / max(count, 1)), size=replicates)
    drawn = np.vstack([np.ones((1, count)), drawn])
    return spread.ratio((drawn * np.nan_to_num(values)).sum(1), (drawn * np.isfinite(values)).sum(1))


def told_apart(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], pieces: NDArray[np.int64], plan: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AUROC and balanced accuracy of scores ``[n]`` with signs, in the sample and in each replicate, both ``[1 + R]``.

    Ties count half in the first, zeros half in the second; NaN where a replicate has no positives or no negatives.
    """
    whole = spread.with_total(plan)
    if not len(scores):
        return np.full(len(whole), np.nan), np.full(len(whole), np.nan)
    auroc, _ = rank_scores(scores, positive, np.zeros(len(scores), np.int64), pieces, whole)
    drawn = whole[:, pieces].astype(np.float64)
    right = (1 + np.sign(scores) * np.where(positive, 1, -1)) / 2
    rates = [spread.ratio(drawn[:, rows] @ right[rows], drawn[:, rows].sum(1)) for rows in (positive, ~positive)]
    return auroc, (rates[0] + rates[1]) / 2


def discrimination(
    test: str,
    kinds: Sequence[str],
    found: Sequence[tuple[int, str, int, float]],
    abstains: NDArray[np.bool_],
    plan: NDArray[np.float32],
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """AUROC and balanced accuracy of each latent, by kind of negative; ``abstains [L]`` are at one half.

    `found`: latent, kind (empty where it fires), piece and log-odds of each answer.
    """
    shape = (1 + len(plan), len(abstains))
    values = {(measure, kind): np.full(shape, np.nan) for measure in ("auroc", "balanced_accuracy") for kind in kinds}
    for j in range(len(abstains)):
        mine = [(k, p, s) for latent, k, p, s in found if latent == j]
        for kind in kinds:
            some = [(k, p, s) for k, p, s in mine if k in ("", kind)]
            scores, pieces = np.array([s for *_, s in some]), np.array([p for _, p, _ in some], np.int64)
            both = told_apart(scores, np.array([not k for k, *_ in some], bool), pieces, plan)
            for measure, value in zip(("auroc", "balanced_accuracy"), both, strict=True):
                values[measure, kind][:, j] = 0.5 if abstains[j] else value
    return values
