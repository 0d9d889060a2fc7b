"""The contract of an estimator: audio in, annotations out that a tool guessed.

One file in `musae/estimators/` provides one, as a module-level ``CARD`` and ``load()``. What it says is `Truth.ESTIMATED`: it
describes audio of which nothing is known, and may steer; it is never ground truth, and no score reads it. How often it is right
is measured on corpora with truth (`musae.accuracy`), and printed wherever it is used.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import soxr
from numpy.typing import NDArray

from musae.card import EstimatorCard
from musae.corpora.track import Annotations, Span, Truth
from musae.errors import UserError

SILENT = 1e-3
"""Peak (-60 dBFS) below which audio is silent: a tool finds a key, a tempo and chords in its noise."""


class NoEstimate(UserError):
    """Nothing can be estimated of this audio; the message says why."""


class Estimator(ABC):
    """A tool that guesses annotations. The same audio gives the same annotations, whatever was heard before."""

    card: EstimatorCard

    @property
    @abstractmethod
    def revision(self) -> str:
        """Changes with the tool's version, its settings and its models (see `revision_of`)."""

    @abstractmethod
    def hear(self, audio: NDArray[np.float32]) -> Annotations:
        """What the tool finds in mono audio ``[samples]`` at `card.rate`, neither silent nor too short; `truth` may be empty."""

    def estimate(self, audio: NDArray[np.float32], rate: int) -> Annotations:
        """Estimated annotations of mono audio ``[samples]`` at `rate` Hz, times from its start; `truth` is ESTIMATED throughout.

        Spans and beats lie within the audio. A concept in which the tool finds nothing is absent. Audio at another rate than
        `card.rate` is resampled (soxr, high quality).

        Raises NoEstimate, with the reason, for audio that is empty, shorter than `card.shortest`, silent or not finite, and
        where the tool finds nothing at all. Raises UserError for what is no mono audio.
        """
        audio = np.ascontiguousarray(audio, np.float32)
        if audio.ndim != 1 or rate < 1:
            raise UserError(f"audio of shape {list(audio.shape)} at {rate} Hz: give mono audio [samples] at a positive rate.")
        seconds = len(audio) / rate
        if seconds < self.card.shortest:
            raise NoEstimate(f"{seconds:.3f} s of audio, and {self.card.name} needs {self.card.shortest:g} s")
        if not np.isfinite(audio).all():
            raise NoEstimate("NaN or infinite samples")
        if np.abs(audio).max() < SILENT:
            raise NoEstimate("silent: no sample above -60 dBFS")
        if rate != self.card.rate:
            audio = np.asarray(soxr.resample(audio, rate, self.card.rate), np.float32)
        found = _within(self.hear(audio), seconds)
        if not (concepts := present(found)):
            raise NoEstimate(f"{self.card.name} finds nothing in it")
        return replace(found, truth={concept: Truth.ESTIMATED for concept in self.card.concepts if concept in concepts})


def present(a: Annotations) -> set[str]:
    """The concepts of which annotations say something."""
    values = {"chords": a.chords, "key": a.keys, "tempo": a.tempo, "beats": a.beats, "instruments": a.instruments}
    return {concept for concept, value in values.items() if value}


def revision_of(package: str, version: str, card: EstimatorCard, settings: Mapping[str, object]) -> str:
    """A revision: the tool's package and version, and a digest of its settings, the rate and the card's version."""
    text = json.dumps([card.version, card.rate, settings], sort_keys=True)
    return f"{package}-{version}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def merged(labels: Iterable[tuple[float, float, str]]) -> tuple[Span, ...]:
    """Spans of consecutive ``(start, end, label)``: equal neighbours that touch are joined, empty ones left out."""
    spans: list[Span] = []
    for start, end, label in labels:
        if spans and spans[-1].label == label and start <= spans[-1].end:
            spans[-1] = Span(spans[-1].start, end, label)
        elif end > start:
            spans.append(Span(start, end, label))
    return tuple(spans)


def _within(a: Annotations, seconds: float) -> Annotations:
    """Annotations cut to [0, seconds)."""
    chords, keys = (
        tuple(Span(max(s.start, 0.0), min(s.end, seconds), s.label) for s in spans if s.start < seconds and s.end > 0)
        for spans in (a.chords, a.keys)
    )
    return replace(a, chords=chords, keys=keys, beats=tuple(t for t in a.beats if 0 <= t < seconds))
