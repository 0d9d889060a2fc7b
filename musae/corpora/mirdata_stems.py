"""Which instruments of a multitrack sound when: the notes of its stems, from their MIDI files.

pretty_midi takes about 0.15 s for a mix of ten stems and 10,000 notes, so that all of Slakh would cost minutes at each load:
notes are kept in the cache, under a digest of the files that they come from.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.corpora.instruments import family
from musae.corpora.track import Note, Voice
from musae.files import atomic_path, cache_root


def read(mix: Any, seconds: float, digest: str) -> tuple[tuple[Voice, ...], tuple[Note, ...]]:
    """The stems of a mix that are heard in it, and their notes by onset, those that begin within so many seconds.

    mix: mirdata's multitrack; digest: of its audio, MIDI files and metadata. Raises what reading the files raises.
    """
    cache = cache_root() / "mirdata" / f"{digest}.npz"
    kept = _cached(cache)
    if kept is None:
        kept = _parsed(mix)
        with atomic_path(cache) as temporary, temporary.open("wb") as file:
            np.savez(file, programs=kept[0], notes=kept[1])
    programs, rows = kept
    voices = tuple(Voice(p, family(p, drums=bool(drums)), bool(drums)) for p, drums in programs.tolist())
    return voices, tuple(
        Note(onset, duration, int(pitch), int(velocity), int(voice))
        for onset, duration, pitch, velocity, voice in rows[rows[:, 0] < seconds].tolist()
    )


def _parsed(mix: Any) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Program, and whether it is drums, of each stem that has audio ``[V, 2]``; onset, duration, pitch, velocity and stem of its
    notes ``[N, 5]``."""
    programs: list[tuple[int, bool]] = []
    notes: list[tuple[float, float, int, int, int]] = []
    for _, stem in sorted(mix.tracks.items()):
        if stem.audio_path is None:
            continue
        notes += [
            (note.start, note.end - note.start, note.pitch, note.velocity, len(programs))
            for part in stem.midi.instruments
            for note in part.notes
            if 0 <= note.start < note.end and note.velocity
        ]
        drums = bool(stem.is_drum)
        programs.append((0 if drums else int(stem.program_number), drums))
    notes.sort(key=lambda note: (note[0], note[4], note[2]))
    return np.array(programs, np.int64).reshape(-1, 2), np.array(notes, np.float64).reshape(-1, 5)


def _cached(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """What an earlier load found; None where there is nothing, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["programs"], file["notes"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
