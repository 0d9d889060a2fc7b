"""The truth judge: is what a label claims true where its latent fires, and untrue where it does not?

On the judging pieces, a claim is a test for whether the latent fires, at the frames or clips at which it can be judged. Of
P(holds | fires) and P(holds | silent),

- ``youden`` is the difference (Youden's J: sensitivity + specificity - 1), ``balanced_accuracy`` half of one plus that;
- ``label_precision`` is the first: how often the label is true where the latent fires (a detection study would call it the
  label's sensitivity);
- ``label_recall`` is P(fires | holds): how much of what it claims the latent covers.

The Youden index does not depend on how often the latent fires. A claim that always holds scores 0, and so does one that never
does. A label's figure is the mean over its claims, so that a further claim has to earn its place; an abstention has a Youden
index of 0, and so has a latent that never fires on the judging pieces or whose claim nobody annotated there. Precision and
recall are means over the claims that were made and could be judged: read them beside the share of latents that are labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from musae.labels import evidence
from musae.labels.claims import Claim, Label
from musae.labels.evidence import Firing
from musae.labels.facts import Unit, facts, unit
from musae.scores import spread
from musae.scores.heldout import HeldOut
from musae.scores.score import PERMUTED

SHUFFLED, WRONG, EMPTY = "shuffled_labels", "wrong_latent", "empty_label"
"""Names of nulls: labels dealt out among latents, each with that of the next latent, and with one that says nothing."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """The claims of some labels against the truth; figures are of the sample, then of each bootstrap replicate."""

    kinds: tuple[str, ...]
    """Kind of each claim ``[P]``."""
    latents: NDArray[np.int64]
    """Which label (column) each is a claim of ``[P]``."""
    weights: NDArray[np.float64]
    """What each claim counts in the mean over labels ``[P]``: a share of its label's 1 / L."""
    hits: NDArray[np.float64]
    """P(holds | fires) ``[1 + R, P]``; NaN where it is undefined, as below."""
    false: NDArray[np.float64]
    """P(holds | silent) ``[1 + R, P]``."""
    covered: NDArray[np.float64]
    """P(fires | holds) ``[1 + R, P]``."""

    def claims_youden(self) -> NDArray[np.float64]:
        """Youden index of each claim ``[1 + R, P]``: 0 where the sample leaves it undefined, NaN where only a replicate does."""
        found = self.hits - self.false
        return np.where(np.isnan(found[0]), 0.0, found)

    def youden(self) -> NDArray[np.float64]:
        """Mean Youden index over all labels ``[1 + R]``, an abstention counted as 0.

        A replicate that happens to draw no piece in which a claim can be judged leaves that claim out of its mean.
        """
        found = self.claims_youden()
        left_out = np.isnan(found) @ self.weights
        return spread.ratio(np.nan_to_num(found) @ self.weights, 1 - left_out)

    def per_label(self, count: int) -> NDArray[np.float64]:
        """Youden index of each of `count` labels ``[L]``, mean over its claims; an abstention's is 0."""
        return np.bincount(self.latents, self.claims_youden()[0] * self.weights * count, minlength=count).astype(np.float64)


def judge(labels: Sequence[Label], firing: Firing, data: HeldOut, level: str, permuted: bool = False) -> Verdict:
    """Judge the label of each chosen latent (column) on the judging pieces; `permuted`: against permuted annotations."""
    pairs = [(j, claim, len(label.checkable)) for j, label in enumerate(labels) for claim in label.checkable]
    weights = np.array([1 / size for *_, size in pairs]) / max(len(labels), 1)
    sums = np.zeros((data.pieces, 4, len(pairs)))
    judging, units = ~evidence.explaining(data), dict[Unit, tuple[NDArray[np.int64], NDArray[np.int64]]]()
    for where in {unit(claim) for _, claim, _ in pairs}:
        pieces = evidence.groups(data, where)
        rows = np.flatnonzero(judging[pieces])
        units[where] = rows, pieces[rows]
    answers: dict[Claim, tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {}
    for i, (j, claim, _) in enumerate(pairs):
        where = unit(claim)
        rows, pieces = units[where]
        if claim not in answers:
            true, known = facts(data, where, level, permuted).holds(claim)
            answers[claim] = true[rows] & known[rows], known[rows]
        true, known = answers[claim]
        fires = firing.at[where][rows, j]
        for part, mask in enumerate((fires & true, fires & known, ~fires & true, ~fires & known)):
            sums[:, part, i] = np.bincount(pieces[mask], minlength=data.pieces)
    whole = spread.with_total(data.plan).astype(np.float64)
    a, b, c, d = ((whole @ sums[:, part]) for part in range(4))
    kinds = tuple(str(claim.model_dump()["kind"]) for _, claim, _ in pairs)
    latents = np.array([j for j, *_ in pairs], np.int64)
    return Verdict(kinds, latents, weights, spread.ratio(a, b), spread.ratio(c, d), spread.ratio(a, a + c))


T = TypeVar("T")


def shuffled(labels: Sequence[T], revision: str, draws: int = 10) -> list[list[T]]:
    """The labels dealt out at random, `draws` times; a latent may get its own again, so that one-of-many labels average to 0."""
    rng = spread.random(revision, "shuffled labels")
    return [[labels[i] for i in rng.permutation(len(labels))] for _ in range(draws)]


def nulls(
    labels: Sequence[Label], firing: Firing, data: HeldOut, level: str, mixed: Sequence[Label] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Youden indices ``[1 + R]`` of what must score nothing, by name.

    Labels against annotations permuted between pieces (`mixed`: those found on such annotations, where an explainer reads them);
    dealt out among latents, mean over deals; and each latent with the label of the next.
    """
    dealt = [judge(deal, firing, data, level).youden() for deal in shuffled(labels, data.corpus_revision)]
    return {
        PERMUTED: judge(labels if mixed is None else mixed, firing, data, level, permuted=True).youden(),
        SHUFFLED: np.mean(dealt, axis=0),
        WRONG: judge([*labels[1:], *labels[:1]], firing, data, level).youden(),
    }
