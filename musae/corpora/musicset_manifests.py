"""The published manifests of MusicSet's parts: which clips there are, of what source, under which licence.

=============  ============================================  ==================================================================
part           manifest                                      audio, anywhere below the folder
=============  ============================================  ==================================================================
MTG-Jamendo    ``*.tsv`` with columns TRACK_ID, ARTIST_ID,   PATH's last two parts, ``48/948.mp3``, or ``48/948.low.mp3`` of the
               ALBUM_ID, PATH, DURATION, TAGS (a column a    set's ``audio-low``
               tag); ``audio_licenses.txt``, if there
MusicCaps      ``musiccaps-public.csv``                      ``<ytid>.wav`` or ``[<ytid>]-[<start_s>-<end_s>].wav``
MusicBench     ``MusicBench_*.json``, a JSON object a line   ``location``'s last two parts: ``data/<ytid>.wav``, and
                                                             ``data_aug2/<ytid>_<n>.wav`` for augmented ones
=============  ============================================  ==================================================================

Any suffix of audio will do. Checked against the published files' own text: Jamendo's TSV, its readme and reader
(MTG/mtg-jamendo-dataset), the columns and lines of MusicBench that the hub shows (amaai-lab/MusicBench), and MusicCaps' columns.
Only by programs that read them: the layout of ``audio_licenses.txt`` and the two ways of naming MusicCaps' audio. Not seen by
anyone here: the audio itself.

A group is what is split and bootstrapped: for the two sets from YouTube the video, of which MusicBench has about ten
augmentations (its file names begin with the video's id, 11 characters); for Jamendo the artist, whose tracks share a voice, a
sound and often an album's recording, which is known to inflate scores (Flexer, "A closer look on artist filters", ISMIR 2007).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from musae.corpora import musicset_labels
from musae.corpora.recordings import LeftOut
from musae.corpora.track import Annotations
from musae.errors import UserError

PARTS = {"jamendo": "MTG-Jamendo", "musiccaps": "MusicCaps", "musicbench": "MusicBench"}
MANIFESTS = {"jamendo": "*.tsv", "musiccaps": "musiccaps-public.csv", "musicbench": "MusicBench_*.json"}
"""Part -> how its manifests are called."""

JAMENDO_COLUMNS = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
YOUTUBE = re.compile(r"[A-Za-z0-9_-]{11}")
CAPS = re.compile(r"\[(?P<ytid>[A-Za-z0-9_-]{11})\]-\[\d+-\d+\]")
"""How MusicCaps' audio is called by the downloaders in use, beside the plain id."""
SLACK = 1.0
"""Seconds by which MusicCaps' audio may be longer than its clip."""

Label = Callable[[float], tuple[Annotations, list[str]]]


@dataclass(frozen=True)
class Entry:
    """A clip that a manifest lists."""

    part: str
    name: str
    """Unique in its part, safe in a path."""
    audio: str
    """What its file is found by (`keys`)."""
    group: str
    licence: str
    label: Label = field(repr=False)
    """Seconds of its audio -> its annotations, and what of them was left out."""
    longest: float | None = None
    """Seconds, where the manifest says how long it is."""


def keys(path: Path) -> list[str]:
    """What an audio file may be found by: its folder and name, and for MusicCaps its name alone."""
    stem = path.stem.removesuffix(".low")
    caps = CAPS.fullmatch(stem)
    return [f"{path.parent.name}/{stem}", caps["ytid"] if caps else stem]


def read(root: Path, left_out: list[LeftOut]) -> dict[str, list[Entry]]:
    """Part -> its entries in the manifests' order; parts without a manifest are not in it, and in `left_out`.

    Raises UserError where there is no manifest at all, or one is not what its name says.
    """
    readers = {"jamendo": _jamendo, "musiccaps": _musiccaps, "musicbench": _musicbench}
    found: dict[str, list[Entry]] = {}
    for part, reader in readers.items():
        files = sorted(path for path in root.rglob(MANIFESTS[part]) if path.is_file())
        files = [path for path in files if part != "jamendo" or _is_jamendo(path)]
        if files:
            found[part] = list(reader(root, files, left_out).values())
        else:
            left_out.append(LeftOut(PARTS[part], f"no {MANIFESTS[part]} of it below the folder: this part is missing"))
    if not found:
        names = ", ".join(f"{PARTS[part]}: {name}" for part, name in MANIFESTS.items())
        raise UserError(f"musicset:{root}: no manifest of any part below the folder; put one there ({names}).")
    return found


def _is_jamendo(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return file.readline().rstrip("\n").split("\t") == JAMENDO_COLUMNS
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error}); give it to your user, or move it away.") from error


def _jamendo(root: Path, files: list[Path], left_out: list[LeftOut]) -> dict[str, Entry]:
    """Tracks of all the TSV files; one that is in several has the tags of all."""
    rows: dict[str, list[str]] = {}
    tags: dict[str, set[str]] = {}
    for path in files:
        for number, line in enumerate(_lines(path), start=1):
            row = line.rstrip("\r\n").split("\t")
            if number == 1 or not line.strip():
                continue
            if len(row) < 5 or not (row[0].startswith("track_") and row[1].startswith("artist_") and PurePosixPath(row[3]).name):
                left_out.append(
                    LeftOut(_where(root, path, number), "not a track, an artist, an album, a path, a duration and tags")
                )
                continue
            rows.setdefault(row[0], row)
            tags.setdefault(row[0], set()).update(row[5:])
    licences = _jamendo_licences(root)
    return {
        track: Entry(
            part="jamendo",
            name=_safe(track),
            audio="/".join(PurePosixPath(row[3]).with_suffix("").parts[-2:]),
            group=row[1],
            licence=licences.get(row[3], "Creative Commons, by the track: audio_licenses.txt of MTG-Jamendo"),
            label=_always(musicset_labels.jamendo(tags[track])),
        )
        for track, row in rows.items()
    }


def _jamendo_licences(root: Path) -> dict[str, str]:
    """Path -> address of its licence, from ``audio_licenses.txt``: blocks of path, title and licence; nothing without it."""
    licences: dict[str, str] = {}
    for path in sorted(root.rglob("audio_licenses.txt"))[:1]:
        track = ""
        for line in _lines(path):
            address = re.search(r"https?://creativecommons\.org/\S+", line)
            if re.fullmatch(r"\d\d/\d+\.mp3", line.strip()):
                track = line.strip()
            elif address and track:
                licences[track] = address[0]
    return licences


def _musiccaps(root: Path, files: list[Path], left_out: list[LeftOut]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for path in files:
        for number, row in _table(path, ("ytid", "start_s", "end_s")):
            try:
                seconds = float(row["end_s"]) - float(row["start_s"])
                video = _youtube(row["ytid"])
            except (ValueError, TypeError) as error:
                left_out.append(LeftOut(_where(root, path, number), f"skipped: {error}"))
                continue
            entries[video] = Entry(
                part="musiccaps",
                name=video,
                audio=video,
                group=video,
                licence="captions CC-BY-SA-4.0; audio: the YouTube uploader's",
                label=_always(Annotations()),
                longest=seconds,
            )
    return entries


def _musicbench(root: Path, files: list[Path], left_out: list[LeftOut]) -> dict[str, Entry]:
    """Lines of all files; test A and test B have the same audio, which is one entry."""
    entries: dict[str, Entry] = {}
    for path in files:
        for number, line in enumerate(_lines(path), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("no JSON object")
                location = PurePosixPath(row["location"])
                video = _youtube(location.stem[:11])
            except (ValueError, TypeError, LookupError) as error:
                reason = f"no {error} in it" if isinstance(error, KeyError) else error
                left_out.append(LeftOut(_where(root, path, number), f"skipped: {reason}"))
                continue
            audio = "/".join(location.with_suffix("").parts[-2:])
            entries[audio] = Entry(
                part="musicbench",
                name=_safe(audio),
                audio=audio,
                group=video,
                licence="CC-BY-SA-3.0; audio: the YouTube uploader's",
                label=_labeller(row),
            )
    return entries


def _table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file with these columns, and the lines on which they end."""
    reader = csv.DictReader(_lines(path))
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise UserError(f"{path}: no column {missing[0]!r}; fetch the published file, and leave its header.")
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{path}: no CSV after line {reader.line_num} ({error}); fetch it again.") from error


def _always(annotations: Annotations) -> Label:
    return lambda seconds: (annotations, [])


def _labeller(row: Mapping[str, Any]) -> Label:
    kept = {name: row.get(name) for name in ("chords", "chords_time", "key", "bpm", "beats")}  # captions would fill memory
    return lambda seconds: musicset_labels.musicbench(kept, seconds)


def _youtube(name: str | None) -> str:
    if not YOUTUBE.fullmatch(name or ""):
        raise ValueError(f"{name!r} is no id of a YouTube video")
    return str(name)


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _where(root: Path, path: Path, line: int) -> str:
    return f"{path.relative_to(root).as_posix()}:{line}"


def _lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file. Raises UserError for one that cannot be read as such."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error}); fetch it again.") from error
