"""Two chords of sines a track, with exact labels: no soundfont, no file."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from musae.card import CorpusCard
from musae.corpora.track import Annotations, Clip, Span, Split, Track, Truth

CARD = CorpusCard(
    name="tones",
    summary="two chords of sines a track",
    licence="CC0-1.0",
    source="synthesised by this package",
    truth={"chords": ("exact",)},
)

TRACKS = {Split.TRAIN: 24, Split.HELDOUT: 12}
SECONDS = 6.0
ROOTS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


class Tones:
    """Track i has a major chord on i and a minor one on its dominant, three seconds each."""

    card = CARD
    revision = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:10]

    def tracks(self, split: Split) -> Sequence[Track]:
        return [self._track(split, index) for index in range(TRACKS[split])]

    def clips(
        self, split: Split, *, seconds: float, per_track: int = 1, limit: int | None = None, seed: int = 0
    ) -> Sequence[Clip]:
        latest = int(1000 * (SECONDS - seconds))
        if latest < 0:
            return []
        draw = np.random.default_rng([seed, split is Split.HELDOUT])
        starts = [draw.permutation(latest + 1)[:per_track] / 1000 for _ in range(TRACKS[split])]
        turns = [(turn, track) for turn in range(per_track) for track in range(TRACKS[split]) if turn < len(starts[track])]
        return [Clip(self._track(split, track), float(starts[track][turn]), seconds) for turn, track in turns[:limit]]

    def audio(self, clips: Sequence[Clip], rate: int) -> Iterator[np.ndarray]:
        for clip in clips:
            t = clip.start + np.arange(round(clip.duration * rate)) / rate
            audio = np.zeros(len(t))
            for span in clip.track.annotations.chords:
                root, quality = span.label.split(":")
                for step in (0, 4 if quality == "maj" else 3, 7):
                    pitch = 60 + ROOTS.index(root) + step
                    audio += 0.2 * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * t) * ((t >= span.start) & (t < span.end))
            yield audio.astype(np.float32)

    def _track(self, split: Split, index: int) -> Track:
        half = SECONDS / 2
        chords = (Span(0.0, half, f"{ROOTS[index % 12]}:maj"), Span(half, SECONDS, f"{ROOTS[(index + 7) % 12]}:min"))
        labels = Annotations(chords=chords, truth={"chords": Truth.EXACT})
        return Track(f"{split}-{index}", f"tones-{split}-{index}", split, CARD.licence, SECONDS, labels)


def load() -> Tones:
    return Tones()
