"""Statistical labels, judged on other pieces: of the task's latents, and of a sample of latents at several firing levels.

`scores` follows the task `label_precision` to the letter, so that its numbers can be compared with the board's. `each` labels a
fixed sample of latents whatever their rate, once for each firing level: means over the latents within a band of rates are then
taken without labelling again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from musae.labels import evidence, explain_statistically, judge_truth
from musae.labels.claims import Label
from musae.labels.evidence import Firing
from musae.labels.facts import Unit
from musae.scores import spread
from musae.scores.heldout import Features, HeldOut
from musae.tables import activity

SAMPLE = 400
"""Latents of a sample, at most."""

REPLICATES = 200
"""Bootstrap replicates that are kept of each latent of the sample."""


@dataclass(frozen=True, eq=False)
class LabelScores:
    """Mean Youden index of the labels of a dictionary, each with its replicates ``[1 + R]``, and its nulls."""

    youden: NDArray[np.float64]
    permuted: NDArray[np.float64]
    """Explained and judged on annotations permuted between pieces."""
    shuffled: NDArray[np.float64]
    """The labels dealt out at random among the latents."""
    latents: int
    eligible: int
    """How many qualified, of which `latents` were taken."""
    labelled: float
    """Share that got a label; the others count as 0."""


def scores(features: Features, data: HeldOut, level: str) -> LabelScores | None:
    """Label scores at a level of truth; None where no latent qualifies (`musae.labels.evidence.RATES`)."""
    firing = evidence.firing(features, data)
    if not len(firing.latents):
        return None
    labels = [e.label for e in explain_statistically.explain(firing, data, level)]
    mixed = [e.label for e in explain_statistically.explain(firing, data, level, permuted=True)]
    dealt = [judge_truth.judge(deal, firing, data, level).youden() for deal in judge_truth.shuffled(labels, data.corpus_revision)]
    return LabelScores(
        judge_truth.judge(labels, firing, data, level).youden(),
        judge_truth.judge(mixed, firing, data, level, permuted=True).youden(),
        np.mean(dealt, axis=0),
        len(labels),
        firing.eligible,
        float(np.mean([bool(label.checkable) for label in labels])),
    )


def sample(features: Features, data: HeldOut) -> tuple[NDArray[np.int64], int]:
    """At most `SAMPLE` latents that are active in `evidence.PIECES` explaining pieces or more, ascending; and how many are.

    The order in which they are drawn knows nothing of the dictionary.
    """
    half = np.flatnonzero(evidence.explaining(data)[data.groups])
    member = scipy.sparse.csr_array(
        (np.ones(len(half)), (data.groups[half], np.arange(len(half)))), shape=(data.pieces, len(half))
    )
    pieces = ((member @ (features.clip_means[half] > 0)) > 0).sum(0)
    order = spread.random(data.corpus_revision, "latents of the tables").permutation(features.width)
    alive = order[pieces[order] >= evidence.PIECES]
    return np.sort(alive[:SAMPLE]), len(alive)


def values(features: Features, data: HeldOut, latents: NDArray[np.int64]) -> dict[Unit, NDArray[np.float32]]:
    """Values of some latents at the probe rows ``[m, S]`` and their means on clips ``[n, S]``."""
    code = features.at(data.probe_rows)
    frames = code[:, latents]
    return {
        "frames": frames if isinstance(frames, np.ndarray) else frames.toarray(),
        "clips": features.clip_means[:, latents],
    }


def each(latents: NDArray[np.int64], found: dict[Unit, NDArray[np.float32]], data: HeldOut, level: str) -> NDArray[np.float32]:
    """Youden index of each latent's label at each of `activity.LEVELS`, sample first ``[levels, 1 + REPLICATES, S]``.

    An abstention is 0; a replicate that draws no piece in which the label can be judged is NaN. `found`: see `values`.
    """
    half = evidence.explaining(data)
    high = {where: activity.quantiles(v, np.flatnonzero(half[evidence.groups(data, where)])) for where, v in found.items()}
    out = []
    for share in activity.LEVELS:
        at = {where: v > activity.thresholds(high[where], share) for where, v in found.items()}
        firing = Firing(latents, at, found, len(latents))
        labels = [e.label for e in explain_statistically.explain(firing, data, level)]
        out.append(_of_each(labels, judge_truth.judge(labels, firing, data, level)))
    return np.stack(out)


def _of_each(labels: Sequence[Label], verdict: judge_truth.Verdict) -> NDArray[np.float32]:
    claims = verdict.claims_youden()[: 1 + REPLICATES]
    out = np.zeros((len(claims), len(labels)))
    for i, j in enumerate(verdict.latents):
        out[:, j] += claims[:, i] * verdict.weights[i] * len(labels)
    return out.astype(np.float32)
