"""In which register it is played: the mean MIDI pitch of the notes, by ridge regression on the notes of `pitch.listen`.

Learnt from the exact notes of `lessons`, on audio as rendered and as the codec plays it, never on activations. How loud a
pitch is does not enter, and so brightness hardly does: at the same mean pitch, an octave more of spectral centroid raised what it
says by 0.6 semitones on 120 held-out clips of `procedural` through nano's codec. With the amplitudes of the peaks beside the
notes it erred less (2.2 in place of 2.4 semitones), but an octave raised it by 2.7. What is noise has no pitch (NaN). How far it
errs is measured on held-out pieces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musae.errors import UserError
from musae.steering import pitch
from musae.steering.lessons import KINDS, Lessons

VERSION = 1
"""Raised when the fit changes."""

LEAST = 40
"""Training clips with notes that are needed."""

PENALTY = 0.1
"""Ridge penalty on shares of a sum of 1: by cross-validation on 300 clips of `procedural`."""

TONAL = 0.05
"""Tonality below which nothing is played: white noise has 0.001, pink noise 0.02, and of 120 held-out clips as nano's codec plays
them the noisiest 0.15."""


@dataclass(frozen=True, eq=False)
class Register:
    """A fitted regression."""

    weights: NDArray[np.float64]
    """``[p]``, of `Pitches.notes`."""
    bias: float
    revision: str
    """What it depends on."""
    accuracy: Mapping[str, tuple[float, float]]
    """Kind of audio -> correlation with the exact mean pitch, and mean absolute error in semitones, on held-out clips."""
    guess: float
    """Mean absolute error of always guessing the mean of the training clips."""

    def hear(self, audio: NDArray[np.float32], rate: int) -> float:
        """Mean MIDI pitch of audio ``[samples]``; NaN where it has none."""
        found = pitch.listen(audio, rate)
        return float(found.notes @ self.weights + self.bias) if found.tonality >= TONAL else float("nan")


def learn(lessons: Lessons) -> Register:
    """Raises UserError for a corpus of which too few clips have exact notes."""
    for split, lesson, least in (("train", lessons.train, LEAST), ("heldout", lessons.heldout, 2)):
        count = int(np.isfinite(lesson.pitch).sum())
        if count < least:
            raise UserError(
                f"{lessons.corpus}: exact notes of {count} {split} clips, and {least} are needed; name another corpus."
            )
    known = np.isfinite(lessons.train.pitch)
    x = lessons.train.notes[:, known].reshape(2 * known.sum(), -1)
    y = np.tile(lessons.train.pitch[known], len(KINDS))
    mean, centre = x.mean(0), float(y.mean())
    weights = np.linalg.solve((x - mean).T @ (x - mean) + PENALTY * np.eye(x.shape[1]), (x - mean).T @ (y - centre))
    bias = centre - float(mean @ weights)
    heldout = np.isfinite(lessons.heldout.pitch)
    truth, accuracy = lessons.heldout.pitch[heldout], {}
    for kind, heard in zip(KINDS, lessons.heldout.notes, strict=True):
        said = heard[heldout] @ weights + bias
        varied = said.std() > 0 and truth.std() > 0
        correlation = float(np.corrcoef(said, truth)[0, 1]) if varied else float("nan")
        accuracy[kind] = (correlation, float(np.abs(said - truth).mean()))
    return Register(weights, bias, f"{VERSION}-{lessons.revision}", accuracy, guess=float(np.abs(truth - centre).mean()))
