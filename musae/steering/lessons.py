"""Clips of a corpus with what sounds in them, heard twice: what ears learn from, and are measured on.

Each clip is heard as it was rendered and as the generator's codec plays it back, which sounds otherwise. What is kept of the
audio is its spectral statistics and its notes; of the truth, the families that sound and the mean pitch of the notes. Nothing
here has seen an activation. Lessons are kept in the cache under all that they depend on: to render the clips takes a minute.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from musae.activations.tokens import codec_revision
from musae.corpora.track import Clip, Corpus, Split, Truth
from musae.files import cache_root
from musae.generators.generator import Generator
from musae.steering import arrays, pitch, spectra

VERSION = 1
"""Raised when what is kept of audio changes: kept lessons are then made anew."""

KINDS = ("rendered", "codec")
"""The two ways in which a clip is heard, in the order of the rows."""

BATCH = 32

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Lesson:
    """n clips, heard twice: arrays of what was heard are ``[2, n, ...]``, in the order of `KINDS`."""

    statistics: NDArray[np.float64]
    """`spectra.statistics` ``[2, n, s]``"""
    notes: NDArray[np.float64]
    """`Pitches.notes` ``[2, n, p]``"""
    tonality: NDArray[np.float64]
    """``[2, n]``"""
    families: tuple[str, ...]
    """All that sound in some clip."""
    sounding: NDArray[np.bool_]
    """``[n, families]``"""
    labelled: NDArray[np.bool_]
    """Whether it is known, better than by estimate, which families sound ``[n]``."""
    pitch: NDArray[np.float64]
    """Mean MIDI pitch of the notes ``[n]``; NaN where no pitched note is known."""


@dataclass(frozen=True, eq=False)
class Lessons:
    """Clips to learn from, and clips of other pieces to measure on."""

    corpus: str
    train: Lesson
    heldout: Lesson
    revision: str
    """Ten hex digits of what they depend on."""


def give(
    corpus: Corpus,
    generator: Generator,
    *,
    seconds: float,
    clips: int = 600,
    heldout: int = 160,
    progress: Progress = lambda what, done, total: None,
) -> Lessons:
    """The lessons of a corpus as this generator's codec plays it. `clips`, `heldout`: how many, of `seconds` each."""
    what = [VERSION, corpus.card.name, corpus.revision, codec_revision(generator), seconds, clips, heldout]
    revision = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:10]
    found = []
    for split, count in ((Split.TRAIN, clips), (Split.HELDOUT, heldout)):
        path = cache_root() / "lessons" / f"{corpus.card.name.replace('/', '~')}-{revision}-{split}.npz"
        if not path.is_file():
            arrays.save(path, _kept(_lesson(corpus, generator, split, seconds, count, progress)))
        kept = arrays.load(path)
        found.append(Lesson(families=tuple(kept.pop("families").tolist()), **kept))
    return Lessons(corpus.card.name, found[0], found[1], revision)


def mean_pitch(clip: Clip) -> float:
    """Mean MIDI pitch of a clip's notes, drums left out, weighted by how long each sounds in it; NaN where there is none."""
    total = weight = 0.0
    for note in clip.track.notes:
        sounds = min(note.onset + note.duration, clip.start + clip.duration) - max(note.onset, clip.start)
        if sounds > 0 and not clip.track.voices[note.voice].drums:
            total, weight = total + sounds * note.pitch, weight + sounds
    return total / weight if weight else float("nan")


def pitches_at(clip: Clip, moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean MIDI pitch of the notes that sound at moments of a clip, in seconds from its start ``[T]``, drums left out."""
    total, count = np.zeros(len(moments)), np.zeros(len(moments))
    for note in clip.track.notes:
        if not clip.track.voices[note.voice].drums:
            first, end = np.searchsorted(moments, (note.onset - clip.start, note.onset + note.duration - clip.start))
            total[first:end] += note.pitch
            count[first:end] += 1
    found: NDArray[np.float64] = np.divide(total, count, out=np.full(len(moments), np.nan), where=count > 0)
    return found


def _lesson(corpus: Corpus, generator: Generator, split: Split, seconds: float, count: int, progress: Progress) -> Lesson:
    clips = corpus.clips(split, seconds=seconds, per_track=1, limit=count)
    labels = [clip.annotations for clip in clips]
    names = sorted({family for a in labels for family in a.instruments})
    heard: tuple[list[_Heard], list[_Heard]] = ([], [])
    for start in range(0, len(clips), BATCH):
        some = clips[start : start + BATCH]
        audio = np.stack(list(corpus.audio(some, generator.card.rate)))
        coded = generator.decode(generator.encode(torch.from_numpy(audio))).numpy()
        for into, waves in zip(heard, (audio, coded), strict=True):
            into += [_heard(wave, generator.card.rate) for wave in waves]
        progress(f"ears: {split} clips of {corpus.card.name}", start + len(some), len(clips))
    statistics, notes, tonality = (np.array([[one[i] for one in kind] for kind in heard]) for i in range(3))
    return Lesson(
        statistics,
        notes,
        tonality,
        tuple(names),
        np.array([[family in a.instruments for family in names] for a in labels], bool).reshape(len(labels), len(names)),
        np.array([a.truth.get("instruments", Truth.ESTIMATED) != Truth.ESTIMATED for a in labels]),
        np.array([mean_pitch(clip) for clip in clips]),
    )


_Heard = tuple[NDArray[np.float64], NDArray[np.float64], float]


def _heard(wave: NDArray[np.float32], rate: int) -> _Heard:
    found = pitch.listen(wave, rate)
    return spectra.statistics(wave, rate), found.notes, found.tonality


def _kept(lesson: Lesson) -> dict[str, NDArray]:
    names = ("statistics", "notes", "tonality", "sounding", "labelled", "pitch")
    return {name: getattr(lesson, name) for name in names} | {"families": np.array(lesson.families, dtype=np.str_)}
