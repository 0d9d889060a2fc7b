"""The contract of a corpus: tracks, clips and their timed annotations.

Conventions
-----------
- All times are seconds from the start of the track (of the clip, in a clip's annotations); spans are half-open [start, end).
- Chords are in Harte syntax (``C:maj``, ``A:min7/b3``, ``N``), as `mir_eval.chord` reads them.
- Keys are ``"<tonic> <mode>"`` (``"C major"``, ``"F# minor"``), as `mir_eval.key` reads them.
- Tempo is in beats per minute of the annotated beat.
- Instruments are General MIDI family names, lower case (`musae.corpora.instruments`).
- ``group`` is the piece (tune, recording, set of twins): the unit of every split, fold and bootstrap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from musae.card import CorpusCard

CONCEPTS = ("chords", "key", "tempo", "beats", "instruments")
"""The annotated concepts, in the order in which tables show them."""


class Truth(StrEnum):
    """How a label is known. Scores are reported per level and never mixed."""

    EXACT = "exact"
    """True by construction: the audio was made from it."""
    ANNOTATED = "annotated"
    """Judged by a person."""
    DERIVED = "derived"
    """Computed by a documented rule from exact notes."""
    ESTIMATED = "estimated"
    """Guessed by a tool from audio; never ground truth."""


class Split(StrEnum):
    """Which part of a corpus a piece belongs to; a group lies wholly in one split."""

    TRAIN = "train"
    """Codec, generator and dictionary may learn from it."""
    HELDOUT = "heldout"
    """Only scored on, by probes cross-fitted over its groups."""


@dataclass(frozen=True, slots=True)
class Span:
    """A label that holds over [start, end) seconds."""

    start: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class Note:
    """A sounding note: onset and duration in seconds, MIDI pitch and velocity (1-127), index into the track's voices."""

    onset: float
    duration: float
    pitch: int
    velocity: int
    voice: int


@dataclass(frozen=True, slots=True)
class Voice:
    """A part: General MIDI program (0-127), its family's name, and whether it is a drum kit (MIDI channel 10)."""

    program: int
    family: str
    drums: bool = False


@dataclass(frozen=True)
class Annotations:
    """What is true of a stretch of audio. Absent concepts are empty (or None for tempo) and have no entry in `truth`."""

    chords: tuple[Span, ...] = ()
    keys: tuple[Span, ...] = ()
    tempo: float | None = None
    """Beats per minute, constant over the track."""
    beats: tuple[float, ...] = ()
    """Beat times in seconds."""
    beat_positions: tuple[int, ...] = ()
    """Position in the bar of each beat, 1 on the downbeat; as long as `beats`, or empty where bars are not known."""
    instruments: frozenset[str] = frozenset()
    """Families that sound in it."""
    unobserved: frozenset[str] = frozenset()
    """Families of which nobody knows whether they sound, as where a set is labelled in part; any other that is not among
    `instruments` does not sound."""
    truth: Mapping[str, Truth] = field(default_factory=dict)
    """Concept (one of `CONCEPTS`) -> how it is known."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Classes by which the whole track was made, true by construction, in terms that are none of `CONCEPTS`; ``concept`` says
    what they are classes of: ``{"concept": "intervals", "interval": "P5"}``."""


@dataclass(frozen=True)
class Track:
    """One rendering or recording of a piece, with its ground truth."""

    id: str
    """Unique in the corpus, safe in a path: letters, digits, ``._-``."""
    group: str
    split: Split
    licence: str
    duration: float
    annotations: Annotations
    voices: tuple[Voice, ...] = ()
    notes: tuple[Note, ...] = ()
    """Exact notes, sorted by onset; empty for a corpus of recordings."""
    source: str = ""
    """The piece (and rendering) it was made from, for people."""


@dataclass(frozen=True)
class Clip:
    """A window [start, start + duration) of a track, `duration` seconds long."""

    track: Track
    start: float
    duration: float

    @property
    def id(self) -> str:
        """Unique in the corpus: track id and start in milliseconds."""
        return f"{self.track.id}@{round(self.start * 1000):08d}"

    @property
    def group(self) -> str:
        """The piece this clip is of: the unit of splits, folds and bootstraps."""
        return self.track.group

    @property
    def annotations(self) -> Annotations:
        """The track's annotations cropped to the clip, times from the clip's start.

        `instruments` are those of which a note sounds within the clip, where the track's notes are known.
        """
        return crop(self.track, self.start, self.start + self.duration)


def crop(track: Track, start: float, end: float) -> Annotations:
    """Annotations of `track` between `start` and `end` seconds, re-timed to begin at 0."""
    a = track.annotations
    beats = [i for i, time in enumerate(a.beats) if start <= time < end]
    instruments = a.instruments
    if track.notes:
        sounding = {n.voice for n in track.notes if n.onset < end and n.onset + n.duration > start}
        instruments = frozenset(track.voices[v].family for v in sounding)
    return Annotations(
        chords=_crop_spans(a.chords, start, end),
        keys=_crop_spans(a.keys, start, end),
        tempo=a.tempo,
        beats=tuple(a.beats[i] - start for i in beats),
        beat_positions=tuple(a.beat_positions[i] for i in beats) if a.beat_positions else (),
        instruments=instruments,
        unobserved=a.unobserved,
        truth=a.truth,
        attributes=a.attributes,
    )


def _crop_spans(spans: Iterable[Span], start: float, end: float) -> tuple[Span, ...]:
    return tuple(
        Span(max(s.start, start) - start, min(s.end, end) - start, s.label) for s in spans if s.start < end and s.end > start
    )


class Corpus(Protocol):
    """Clips with ground truth. One file in `musae/corpora/` provides one, as a module-level ``CARD`` and ``load()``."""

    card: CorpusCard

    @property
    def revision(self) -> str:
        """Ten hex digits that change whenever any track, annotation, split or rendering rule changes."""

    def tracks(self, split: Split) -> Sequence[Track]:
        """The tracks of a split, in a fixed order."""

    def clips(
        self, split: Split, *, seconds: float, per_track: int = 1, limit: int | None = None, seed: int = 0
    ) -> Sequence[Clip]:
        """Clips at random offsets (seeded): `per_track` of each track; at most `limit` in all, spread over groups."""

    def audio(self, clips: Sequence[Clip], rate: int) -> Iterator[NDArray[np.float32]]:
        """Mono audio of each clip in order, `round(duration * rate)` samples in [-1, 1]."""
