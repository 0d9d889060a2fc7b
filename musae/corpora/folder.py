"""`folder`: a folder of recordings, ``folder:path/to/folder``, with what is known of them.

Every audio file below the folder is a track. Annotations come from a JAMS file of the same name beside it, and from
``annotations.csv`` in the folder, which wins. Its columns, of which only ``file`` must be there:

==============  ==========================================================================================================
file            path within the folder
group           the piece, for splits and bootstraps; by default the file by itself
split           ``train`` or ``heldout``; by default a fifth of the groups is held out, by a hash of their names
licence         of the recording
key             ``C major``, ``F# minor``
tempo           beats per minute, constant
instruments     General MIDI families, separated by ``;``
chords          a file of lines ``start end label`` (Harte syntax), within the folder
beats           a file of lines ``time position`` (1 on the downbeat) or ``time``, within the folder
truth           ``exact``, ``annotated`` (the default), ``derived`` or ``estimated``: how the row's labels are known
==============  ==========================================================================================================

Files that cannot be used, and labels that cannot be read, are left out, with their reason (`FolderCorpus.left_out`); what lies
beyond a file's end is cut. Files are inspected once: the cache knows them by size and time of change.
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
from musae.corpora import folder_labels, jams_files, sound
from musae.corpora.folder_labels import SHEET, Row
from musae.corpora.notes import NoteCorpus
from musae.corpora.sound import Sound
from musae.corpora.track import Clip, Split, Track
from musae.errors import UserError
from musae.files import atomic_path, cache_root

CARD = CorpusCard(
    name="folder",
    summary="Recordings below a folder, folder:PATH, with annotations.csv or JAMS files, where there are any.",
    licence="as the recordings' owners say",
    source="the user's own files",
    truth={
        "chords": ("exact", "annotated", "derived", "estimated"),
        "key": ("exact", "annotated", "derived", "estimated"),
        "tempo": ("exact", "annotated", "derived", "estimated"),
        "beats": ("exact", "annotated", "derived", "estimated"),
        "instruments": ("exact", "annotated", "derived", "estimated"),
    },
    argument="the path of a folder",
)

HELDOUT = 0.2
"""Share of the groups that is held out where nothing says otherwise."""
PORTION = 256
"""Files inspected between two saves of the cache: an interrupted scan repeats no more."""


class LeftOut(NamedTuple):
    """A file, or labels of it, that are not used."""

    file: str
    reason: str


def card(argument: str) -> CorpusCard:
    """The card of one folder, named after it."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", Path(argument).expanduser().resolve().name) or "root"
    return CARD.model_copy(update={"name": f"folder-{name}", "argument": ""})


def load(argument: str = "") -> FolderCorpus:
    """The corpus of a folder. Raises UserError where there is none, it has no usable audio, or its sheet cannot be read."""
    if not argument:
        raise UserError("folder: name a folder of recordings, as in folder:path/to/folder.")
    return FolderCorpus(Path(argument).expanduser())


class FolderCorpus:
    """The recordings below a folder; see the module's header."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"folder:{root}: there is no such folder; give {CARD.argument}.")
        self.root, self.card = root.resolve(), card(str(root))
        files = sorted(p for p in self.root.rglob("*") if p.suffix.lower() in sound.SUFFIXES and p.is_file())
        self.paths: dict[str, Path] = {}
        self.left_out: list[LeftOut] = []
        rows = folder_labels.read_sheet(self.root)
        sounds = _inspected(self.root, files)
        found: list[Track] = []
        digest = hashlib.sha256()
        for path in files:
            name = path.relative_to(self.root).as_posix()
            heard = sounds[name]
            if heard.problem:
                self.left_out.append(LeftOut(name, heard.problem))
                continue
            self.left_out += [LeftOut(name, f"used, but {remark}") for remark in heard.remarks()]
            track = self._track(path, name, heard, rows.pop(name, None))
            self.paths[track.id] = path
            found.append(track)
            digest.update(f"{heard.sha256} {folder_labels.text(track)}\n".encode())
        self.left_out += [LeftOut(name, f"listed in {SHEET}, and there is no such audio file") for name in rows]
        if not found:
            raise UserError(f"folder:{root}: none of {len(files)} audio files can be used{self._first_reason()}; give another.")
        self.revision = digest.hexdigest()[:10]
        self._tracks = {split: [track for track in found if track.split is split] for split in Split}

    def _first_reason(self) -> str:
        return f" ({self.left_out[0].file}: {self.left_out[0].reason})" if self.left_out else ""

    def _track(self, path: Path, name: str, heard: Sound, row: Row | None) -> Track:
        """A track, its labels checked; what is wrong with them is left out."""
        sheet = jams_files.Sheet()
        if (beside := path.with_suffix(".jams")).is_file():
            try:
                sheet = jams_files.read(beside)
            except UserError as error:
                sheet.remarks.append(str(error))
        annotations, remarks = folder_labels.merged(self.root, sheet.annotations, row, heard.seconds)
        self.left_out += [LeftOut(name, remark) for remark in [*sheet.remarks, *remarks]]
        identity = _identity(name)
        group = (row and row.group) or str(sheet.sandbox.get("group") or identity)
        wanted = (row and row.split) or str(sheet.sandbox.get("split") or "")
        split = Split(wanted) if wanted in set(Split) else _split(group)
        licence = (row and row.licence) or str(sheet.sandbox.get("licence") or "not stated")
        return Track(identity, group, split, licence, heard.seconds, annotations, source=name)

    def tracks(self, split: Split) -> Sequence[Track]:
        """The tracks of a split, by their paths."""
        return self._tracks[split]

    clips = NoteCorpus.clips  # the same choice of clips, from `tracks` and `card` alone

    def audio(self, clips: Sequence[Clip], rate: int) -> Iterator[NDArray[np.float32]]:
        """Mono audio of each clip in order, `round(duration * rate)` samples in [-1, 1]."""
        return (sound.read(self.paths[clip.track.id], clip.start, clip.duration, rate) for clip in clips)

    def remarks(self) -> list[str]:
        """What was left out, for `musae corpus describe`."""
        return [f"{entry.file}: {entry.reason}" for entry in self.left_out]


def _identity(name: str) -> str:
    """A track's id from a path within the folder: safe, and unique where letters had to go."""
    stem = name.rpartition(".")[0]
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", stem)
    return f"{safe}.{name.rpartition('.')[2]}" if safe == stem else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _split(group: str) -> Split:
    number = int.from_bytes(hashlib.sha256(f"split {group}".encode()).digest()[:4], "big")
    return Split.HELDOUT if number < HELDOUT * 2**32 else Split.TRAIN


def _inspected(root: Path, files: Sequence[Path]) -> dict[str, Sound]:
    """Path within the folder -> what its audio is; from the cache where size and time of change are the same."""
    cache = cache_root() / "folders" / f"{hashlib.sha256(str(root).encode()).hexdigest()[:20]}.json"
    known = _cached(cache)
    stamps = {}
    for path in files:
        status = path.stat()
        stamps[path.relative_to(root).as_posix()] = f"{status.st_size} {status.st_mtime_ns}"
    missing = [name for name, stamp in stamps.items() if name not in known or known[name][0] != stamp]
    with ThreadPoolExecutor() as pool:  # libsndfile and hashlib work beside Python
        for start in range(0, len(missing), PORTION):
            some = missing[start : start + PORTION]
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
