"""Major and minor triads and no chord: madmom's CNN features and conditional random field (Korzeniowski & Widmer, MLSP 2016)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.card import EstimatorCard
from musae.corpora.track import Annotations
from musae.estimators import madmom_package
from musae.estimators.estimator import Estimator, merged, revision_of

CARD = EstimatorCard(
    name="madmom_chords",
    summary="Major and minor triads, and no chord: madmom's CNN with a conditional random field.",
    licence="BSD-2-Clause; models: CC BY-NC-SA 4.0 (non-commercial)",
    source="madmom, CNNChordFeatureProcessor and CRFChordRecognitionProcessor (Korzeniowski & Widmer 2016)",
    concepts=("chords",),
    rate=44_100,
    shortest=1.0,
)


class MadmomChords(Estimator):
    """See the module's header."""

    card = CARD

    @property
    def revision(self) -> str:
        return revision_of("madmom", madmom_package.version(), CARD, {})

    @cached_property
    def _networks(self) -> tuple[Any, Any]:
        chords = madmom_package.module("features.chords")
        return chords.CNNChordFeatureProcessor(), chords.CRFChordRecognitionProcessor()

    def hear(self, audio: NDArray[np.float32]) -> Annotations:
        features, field = self._networks
        spans = field(madmom_package.process(features, audio))
        return Annotations(chords=merged((float(start), float(end), str(label)) for start, end, label in spans))


def load() -> MadmomChords:
    """The estimator. Raises UserError where madmom is not installed."""
    madmom_package.version()
    return MadmomChords()
