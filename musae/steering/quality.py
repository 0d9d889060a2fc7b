"""Whether a steered continuation is still music: bounds that 5 % of unsteered continuations lie beyond.

Five things can go wrong with a continuation, each with its bound:

- ``tonality``: less of its power is in tonal peaks (noise);
- ``distance``: its spectral statistics lie farther from those of the corpus as the codec plays it (Mahalanobis, with the
  shrunk covariance of Ledoit and Wolf, 2004);
- ``unlikely``: it costs the unsteered generator more nats a token than the unsteered continuation of its prompt does;
- ``stuck``: it costs less by too much, as drones and loops do, to which a loss alone is blind;
- ``unlike``: its log-mel spectrogram resembles that of the unsteered continuation less.

The bounds come from unsteered continuations of the development prompts with other seeds, held against those of the seed that is
steered: a steered continuation may differ as much as luck makes them differ. A condition keeps its quality where at most a
budget of its continuations is beyond each bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musae.steering import pitch, spectra
from musae.steering.ears import Ear
from musae.steering.lessons import Lessons

VERSION = 1
"""Raised when what is measured changes."""

BEYOND = 0.05
"""Share of the unsteered continuations that lies beyond a bound."""

HIGH = ("distance", "unlikely")
"""Bad where it is high; the others where it is low."""

NAMES = ("tonality", "distance", "unlikely", "stuck", "unlike")


def ear(lessons: Lessons) -> Ear:
    """Measures ``tonality`` and ``distance`` of audio."""
    from sklearn.covariance import ledoit_wolf

    coded = lessons.train.statistics[1]
    mean, scale = coded.mean(0), np.maximum(coded.std(0), 1e-6)
    covariance, _ = ledoit_wolf((coded - mean) / scale)
    whiten = np.linalg.cholesky(np.linalg.inv(covariance + 1e-6 * np.eye(len(covariance)))).T

    def hear(audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
        away = whiten @ ((spectra.statistics(audio, rate) - mean) / scale)
        return np.array([pitch.listen(audio, rate).tonality, np.sqrt(away @ away)])

    return Ear("quality", ("tonality", "distance"), hear, f"quality-{VERSION}-{lessons.revision}")


def held(
    heard: NDArray[np.float64], cost: NDArray[np.float64], similarity: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """What is held against the bounds, each ``[n]``, of what the ear measured ``[n, 2]``, nats a token more, and similarity.

    A similarity that is not known (of silence) is 0.
    """
    found = {"tonality": heard[:, 0], "distance": heard[:, 1], "unlikely": cost, "stuck": cost}
    return found | {"unlike": np.nan_to_num(similarity)}


@dataclass(frozen=True)
class Bounds:
    """One bound for each of `NAMES`."""

    at: Mapping[str, float]

    @classmethod
    def of(cls, unsteered: Mapping[str, NDArray[np.float64]]) -> Bounds:
        """The bounds that a share of `BEYOND` of unsteered continuations lies beyond."""
        return cls({name: float(np.quantile(v, 1 - BEYOND if name in HIGH else BEYOND)) for name, v in unsteered.items()})

    def beyond(self, found: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
        """Share of continuations beyond each bound."""
        return {
            name: float(np.mean(found[name] > bound if name in HIGH else found[name] < bound)) for name, bound in self.at.items()
        }


def keeps(beyond: Mapping[str, float], budget: float) -> bool:
    """Whether no bound has more than a share of `budget` beyond it."""
    return max(beyond.values()) <= budget + 1e-9
