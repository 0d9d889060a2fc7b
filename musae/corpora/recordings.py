"""Corpora of recordings on the user's disk: which files can be used, what was left out, clips of them.

`folder`, `musicset` and `mirdata` find files and labels each in its own way; what they have in common is here. Files are
inspected once: the cache knows them by size and time of change. A group is held out by a hash of its name, so that its split
depends on nothing else.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from musae.card import CorpusCard
from musae.corpora import folder_labels, sound
from musae.corpora.notes import NoteCorpus
from musae.corpora.sound import Sound
from musae.corpora.track import Clip, Split, Track
from musae.files import atomic_path, cache_root

HELDOUT = 0.2
"""Share of the groups that is held out where nothing says otherwise."""
PORTION = 256
"""Files inspected between two saves of the cache, or a hundredth of all: an interrupted scan repeats no more."""

SHOWN = 20
"""Remarks that are shown of a corpus."""


class LeftOut(NamedTuple):
    """A file, or labels of it, that are not used."""

    file: str
    reason: str


class Recordings:
    """A corpus (`musae.corpora.track.Corpus`) of files.

    Parameters
    ----------
    card: what the corpus is.
    found: its tracks with their files, in order, and the files' SHA-256.
    left_out: what is not used, and why.
    """

    def __init__(self, card: CorpusCard, found: Sequence[tuple[Track, Path, str]], left_out: list[LeftOut]) -> None:
        self.card, self.left_out = card, left_out
        self.paths = {track.id: path for track, path, _ in found}
        digest = hashlib.sha256()
        for track, _, content in found:
            digest.update(f"{content} {folder_labels.text(track)}\n".encode())
        self.revision = digest.hexdigest()[:10]
        self._tracks = {split: [track for track, _, _ in found if track.split is split] for split in Split}

    def tracks(self, split: Split) -> Sequence[Track]:
        """The tracks of a split, in a fixed order."""
        return self._tracks[split]

    clips = NoteCorpus.clips  # the same choice of clips, from `tracks` and `card` alone

    def audio(self, clips: Sequence[Clip], rate: int) -> Iterator[NDArray[np.float32]]:
        """Mono audio of each clip in order, `round(duration * rate)` samples in [-1, 1]."""
        return (sound.read(self.paths[clip.track.id], clip.start, clip.duration, rate) for clip in clips)

    def remarks(self) -> list[str]:
        """The first of what was left out, for `musae corpus describe`; `musae corpus doctor` writes all of it."""
        more = len(self.left_out) - SHOWN
        shown = [f"{entry.file}: {entry.reason}" for entry in self.left_out[:SHOWN]]
        return shown + ([f"... and {more} more: `musae corpus doctor` with --reasons FILE writes them all"] if more > 0 else [])


def audio_files(root: Path) -> list[Path]:
    """Every file below a folder that is audio by its name."""
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in sound.SUFFIXES and p.is_file())


def identity(name: str) -> str:
    """A track's id from a path within the folder: safe, and unique where letters had to go."""
    stem = name.rpartition(".")[0]
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", stem)
    return f"{safe}.{name.rpartition('.')[2]}" if safe == stem else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def split_of(group: str) -> Split:
    """The split of a group, by a hash of its name."""
    number = int.from_bytes(hashlib.sha256(f"split {group}".encode()).digest()[:4], "big")
    return Split.HELDOUT if number < HELDOUT * 2**32 else Split.TRAIN


def inspected(root: Path, files: Sequence[Path]) -> dict[str, Sound]:
    """Path within the folder -> what its audio is; from the cache where size and time of change are the same."""
    cache = cache_root() / "folders" / f"{hashlib.sha256(str(root).encode()).hexdigest()[:20]}.json"
    known = _cached(cache)
    stamps = {}
    for path in files:
        status = path.stat()
        stamps[path.relative_to(root).as_posix()] = f"{status.st_size} {status.st_mtime_ns}"
    missing = [name for name, stamp in stamps.items() if name not in known or known[name][0] != stamp]
    portion = max(PORTION, len(files) // 100)
    with ThreadPoolExecutor() as pool:  # libsndfile and hashlib work beside Python
        for start in range(0, len(missing), portion):
            some = missing[start : start + portion]
            for name, heard in zip(some, pool.map(lambda name: sound.inspect(root / name), some), strict=True):
                known[name] = (stamps[name], heard)
            content = {name: [stamp, heard.model_dump()] for name, (stamp, heard) in known.items() if name in stamps}
            with atomic_path(cache) as temporary:
                temporary.write_text(json.dumps(content), encoding="utf-8")
    return {name: known[name][1] for name in stamps}


def _cached(path: Path) -> dict[str, tuple[str, Sound]]:
    """What an earlier scan found; nothing where the file is damaged, which costs a scan."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: (str(stamp), Sound(**heard)) for name, (stamp, heard) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, ValidationError):
        return {}


def write_reasons(left_out: Sequence[LeftOut], path: Path) -> None:
    """A CSV of what was left out."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(LeftOut._fields)
        writer.writerows(left_out)
