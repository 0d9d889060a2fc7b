"""Beats and a constant tempo: madmom's recurrent networks and dynamic Bayesian network (Böck, Krebs & Widmer, ISMIR 2014, 2015).

The tempo is the slope of a line through the beats: their times are on a grid of 10 ms, so single intervals are 1 to 4 % off.
Its joint tracker of downbeats fails under NumPy from 1.24 on, so beats have no positions.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.card import EstimatorCard
from musae.corpora.track import Annotations
from musae.estimators import madmom_package
from musae.estimators.estimator import Estimator, revision_of

CARD = EstimatorCard(
    name="madmom_beats",
    summary="Beats and a constant tempo: madmom's recurrent networks with a dynamic Bayesian network.",
    licence="BSD-2-Clause; models: CC BY-NC-SA 4.0 (non-commercial)",
    source="madmom, RNNBeatProcessor and DBNBeatTrackingProcessor (Böck, Krebs & Widmer 2014; Krebs, Böck & Widmer 2015)",
    concepts=("tempo", "beats"),
    rate=44_100,
    shortest=5.0,
)

SETTINGS = {"fps": 100, "min_bpm": 55.0, "max_bpm": 215.0}
"""Frames per second of the networks, and madmom's default tempi in beats per minute."""


class MadmomBeats(Estimator):
    """See the module's header."""

    card = CARD

    @property
    def revision(self) -> str:
        return revision_of("madmom", madmom_package.version(), CARD, SETTINGS)

    @cached_property
    def _network(self) -> Any:
        return madmom_package.module("features.beats").RNNBeatProcessor()

    def hear(self, audio: NDArray[np.float32]) -> Annotations:
        activations = madmom_package.process(self._network, audio)
        beats = np.asarray(madmom_package.module("features.beats").DBNBeatTrackingProcessor(**SETTINGS)(activations), float)
        return Annotations(tempo=tempo(beats), beats=tuple(beats.tolist()))


def tempo(beats: NDArray[np.float64]) -> float | None:
    """Beats per minute of the line through beat times in seconds ``[n]``; None for fewer than three."""
    if len(beats) < 3:
        return None
    period, _ = np.polyfit(np.arange(len(beats)), beats, 1)
    return round(60.0 / float(period), 2)


def load() -> MadmomBeats:
    """The estimator. Raises UserError where madmom is not installed."""
    madmom_package.version()
    return MadmomBeats()
