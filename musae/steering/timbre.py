"""Which instrument families are heard: logistic regression on spectral statistics of audio, never on activations.

One classifier a family, on the clips of `lessons`, as rendered and as the codec plays them. Truth is the families that sound in
the clip. How often it is right is measured on held-out pieces, on both kinds of audio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.errors import UserError
from musae.steering import spectra
from musae.steering.lessons import KINDS, Lesson, Lessons

VERSION = 1
"""Raised when the fit changes."""

LEAST = 10
"""Training clips that a family must sound in, and be silent in, to be learnt."""

PENALTY = 0.03
"""scikit-learn's C: 160 statistics that are strongly correlated want a strong penalty."""


@dataclass(frozen=True, eq=False)
class Timbre:
    """A fitted classifier of instrument families."""

    families: tuple[str, ...]
    mean: NDArray[np.float64]
    """Of the statistics ``[s]``; `scale` is their deviation."""
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    """``[families, s]``"""
    bias: NDArray[np.float64]
    revision: str
    """What it depends on."""
    accuracy: Mapping[str, Mapping[str, float]]
    """Kind of audio (``rendered``, ``codec``) -> family -> AUROC on held-out clips; ``mean`` is over families."""

    def log_odds(self, audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
        """Log-odds of each family in audio ``[samples]`` -> ``[families]``."""
        found: NDArray[np.float64] = self.weights @ ((spectra.statistics(audio, rate) - self.mean) / self.scale) + self.bias
        return found

    def probabilities(self, audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
        """Probability of each family in audio ``[samples]`` -> ``[families]``."""
        return 1 / (1 + np.exp(-self.log_odds(audio, rate)))


def learn(lessons: Lessons) -> Timbre:
    """The classifier of a corpus's families.

    Raises UserError for a corpus whose clips have no instrument labels that are known better than by estimate, or too few of any
    family.
    """
    from sklearn.linear_model import LogisticRegression

    for split, lesson in (("train", lessons.train), ("heldout", lessons.heldout)):
        if not lesson.labelled.any():
            raise UserError(
                f"{lessons.corpus}: no {split} clip has instrument labels that are not estimates; name another corpus."
            )
    known = lessons.train.labelled
    x, y = lessons.train.statistics[:, known].reshape(2 * known.sum(), -1), lessons.train.sounding[known]
    counts = y.sum(0)
    learnt = [i for i in range(y.shape[1]) if LEAST <= counts[i] <= len(y) - LEAST]
    if not learnt:
        raise UserError(f"no instrument family sounds in, and is missing from, {LEAST} clips; give more of them.")
    mean, scale = x.mean(0), np.maximum(x.std(0), 1e-6)
    weights, bias = [], []
    for i in learnt:
        fit: Any = LogisticRegression(C=PENALTY, max_iter=1000).fit((x - mean) / scale, np.tile(y[:, i], len(KINDS)))
        weights.append(fit.coef_[0])
        bias.append(float(fit.intercept_[0]))
    families = tuple(lessons.train.families[i] for i in learnt)
    w, b = np.array(weights), np.array(bias)
    accuracy = {
        kind: _aurocs(((heard - mean) / scale) @ w.T + b, lessons.heldout, families)
        for kind, heard in zip(KINDS, lessons.heldout.statistics, strict=True)
    }
    return Timbre(families, mean, scale, w, b, f"{VERSION}-{lessons.revision}", accuracy)


def _aurocs(odds: NDArray[np.float64], lesson: Lesson, families: Sequence[str]) -> dict[str, float]:
    """AUROC of each family that sounds in some of the clips and not in others, and their mean."""
    from sklearn.metrics import roc_auc_score

    found = {}
    for i, family in enumerate(families):
        truth = lesson.sounding[lesson.labelled, lesson.families.index(family)] if family in lesson.families else np.zeros(1)
        if 0 < truth.sum() < len(truth):
            found[family] = float(roc_auc_score(truth, odds[lesson.labelled, i]))
    return found | ({"mean": float(np.mean(list(found.values())))} if found else {})
