"""One key for all of the audio: madmom's ensemble of CNNs (Korzeniowski & Widmer, ISMIR 2018)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.card import EstimatorCard
from musae.corpora.track import Annotations, Span
from musae.estimators import madmom_package
from musae.estimators.estimator import Estimator, revision_of

CARD = EstimatorCard(
    name="madmom_key",
    summary="One major or minor key: madmom's CNN ensemble.",
    licence="BSD-2-Clause; models: CC BY-NC-SA 4.0 (non-commercial)",
    source="madmom, CNNKeyRecognitionProcessor (Korzeniowski & Widmer 2018)",
    concepts=("key",),
    rate=44_100,
    shortest=2.0,
)


class MadmomKey(Estimator):
    """See the module's header."""

    card = CARD

    @property
    def revision(self) -> str:
        return revision_of("madmom", madmom_package.version(), CARD, {})

    @cached_property
    def _network(self) -> Any:
        return madmom_package.module("features.key").CNNKeyRecognitionProcessor()

    def hear(self, audio: NDArray[np.float32]) -> Annotations:
        answer = madmom_package.process(self._network, audio)
        key = madmom_package.module("features.key").key_prediction_to_label(answer)
        return Annotations(keys=(Span(0.0, len(audio) / CARD.rate, key),))


def load() -> MadmomKey:
    """The estimator. Raises UserError where madmom is not installed."""
    madmom_package.version()
    return MadmomKey()
