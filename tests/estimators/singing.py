"""A corpus of sines, each the tonic of its key, and an estimator that hears them rightly, but for one in four."""

from collections.abc import Iterator, Sequence

import numpy as np

from musae.card import CorpusCard, EstimatorCard
from musae.corpora.notes import NoteCorpus
from musae.corpora.track import Annotations, Clip, Span, Split, Track, Truth
from musae.estimators.estimator import Estimator
from musae.scores.mir import TONICS

SECONDS = 3.0


def key_of(index: int) -> str:
    return f"{TONICS[index % 12]} {'major' if index < 12 else 'minor'}"


def sine(index: int, seconds: float, rate: int) -> np.ndarray:
    return np.asarray(0.5 * np.sin(2 * np.pi * 220 * 2 ** (index / 24) * np.arange(round(seconds * rate)) / rate), np.float32)


class Singing:
    """24 held-out tracks, one a key; the first half of them exact, the others annotated, one estimated; the last is silent."""

    card = CorpusCard(
        name="singing", summary="s", licence="CC0-1.0", source="s", truth={"key": ("exact", "annotated", "estimated")}
    )
    revision = "0123456789"

    def tracks(self, split: Split) -> Sequence[Track]:
        return [self._track(i) for i in range(24)] if split is Split.HELDOUT else []

    clips = NoteCorpus.clips

    def audio(self, clips: Sequence[Clip], rate: int) -> Iterator[np.ndarray]:
        for clip in clips:
            index = int(clip.track.id.removeprefix("song-"))
            yield sine(index, clip.duration, rate) * (index < 23)

    def _track(self, index: int) -> Track:
        level = Truth.ESTIMATED if index == 20 else Truth.EXACT if index < 12 else Truth.ANNOTATED
        labels = Annotations(keys=(Span(0.0, SECONDS, key_of(index)),), truth={"key": level})
        return Track(f"song-{index}", f"tune-{index}", Split.HELDOUT, "CC0-1.0", SECONDS, labels)


CARD = EstimatorCard(name="ear", summary="s", licence="CC0-1.0", source="s", concepts=("key",), rate=8_000, shortest=0.5)


class Ear(Estimator):
    """Which sine is heard, from its frequency; a tritone off where the index divides by four."""

    card = CARD
    revision = "ear-1"

    def hear(self, audio):
        spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 2**16))
        index = round(24 * np.log2(spectrum.argmax() * self.card.rate / 2**16 / 220))
        label = key_of(index) if index % 4 else f"{TONICS[(index + 6) % 12]} {'major' if index < 12 else 'minor'}"
        return Annotations(keys=(Span(0.0, len(audio) / self.card.rate, label),))


def load() -> Ear:
    return Ear()
