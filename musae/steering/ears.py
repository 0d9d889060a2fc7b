"""What is measured of audio: one ear a kind of concept, each with named columns, blind to activations.

- ``instrument``: probability of each family (`timbre`);
- ``register``: mean MIDI pitch of what is played, in semitones (`register`);
- ``tempo``: log2 of the estimated beats per minute (`essentia_rhythm`);
- ``key``: weighted key score of the estimated key against each of the 24 (`essentia_key`, mir_eval's weights, fifths both ways);
- ``root``: share of the time in which each pitch class is the estimated chord's root (`essentia_chords`).

What cannot be estimated is NaN (register of what has no pitch, tempo) or a score of 0 (key, root).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musae import registry
from musae.corpora.track import Annotations
from musae.estimators.estimator import Estimator, NoEstimate
from musae.scores import mir
from musae.steering.register import Register
from musae.steering.timbre import Timbre

Hear = Callable[[NDArray[np.float32], int], NDArray[np.float64]]


@dataclass(frozen=True)
class Ear:
    """Measures mono audio ``[samples]`` at a rate in Hz."""

    kind: str
    columns: tuple[str, ...]
    hear: Hear
    """-> ``[columns]``"""
    revision: str
    """Changes with whatever changes what is measured."""
    slow: bool = False
    """Whether it is asked only for its own concepts, not for what else has changed."""


def instrument(timbre: Timbre) -> Ear:
    """Probabilities of the families that a classifier has learnt."""
    return Ear("instrument", timbre.families, timbre.probabilities, f"timbre-{timbre.revision}")


def register(learnt: Register) -> Ear:
    """Mean MIDI pitch by a regression that has been learnt."""
    return Ear(
        "register", ("semitones",), lambda audio, rate: np.array([learnt.hear(audio, rate)]), f"register-{learnt.revision}"
    )


def tempo() -> Ear:
    """Raises UserError where Essentia is not installed; `key` and `root` likewise."""
    tool: Estimator = registry.make("estimators", "essentia_rhythm")

    def hear(audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
        bpm = _guess(tool, audio, rate).tempo
        return np.array([np.log2(bpm) if bpm else np.nan])

    return Ear("tempo", ("log2 bpm",), hear, tool.revision, slow=True)


def key() -> Ear:
    """See the header."""
    tool: Estimator = registry.make("estimators", "essentia_key")
    table = mir.key_table()

    def hear(audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
        keys = _guess(tool, audio, rate).keys
        index = mir.key_index(keys[0].label) if keys else -1
        return table[:, index] if index >= 0 else np.zeros(len(mir.KEYS))

    return Ear("key", mir.KEYS, hear, tool.revision)


def root() -> Ear:
    """See the header."""
    tool: Estimator = registry.make("estimators", "essentia_chords")

    def hear(audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
        shares = np.zeros(len(mir.TONICS) + 1)
        spans = _guess(tool, audio, rate).chords
        for span, pitch in zip(spans, mir.chord_classes([span.label for span in spans], "root"), strict=True):
            shares[pitch] += (span.end - span.start) / (len(audio) / rate)
        return shares[:-1]

    return Ear("root", mir.TONICS, hear, tool.revision)


def _guess(tool: Estimator, audio: NDArray[np.float32], rate: int) -> Annotations:
    try:
        return tool.estimate(audio, rate)
    except NoEstimate:
        return Annotations()
