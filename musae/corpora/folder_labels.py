"""Labels of a folder of recordings: ``annotations.csv``, the files that it names, and what of them can be used."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import mir_eval

from musae.corpora.instruments import DRUMS, FAMILIES
from musae.corpora.track import Annotations, Span, Split, Track, Truth
from musae.errors import UserError

SHEET = "annotations.csv"
COLUMNS = ("file", "group", "split", "licence", "key", "tempo", "instruments", "chords", "beats", "truth")
SLACK = 0.05
"""Seconds by which labels may go beyond a file's end without a remark."""


@dataclass(frozen=True)
class Row:
    """A line of the sheet."""

    file: str
    group: str = ""
    split: str = ""
    licence: str = ""
    key: str = ""
    tempo: str = ""
    instruments: str = ""
    chords: str = ""
    beats: str = ""
    truth: str = ""


def read_sheet(root: Path) -> dict[str, Row]:
    """File -> its line. Raises UserError, with the line, for a sheet that cannot be meant so."""
    path = root / SHEET
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            strange = [name for name in names if name not in COLUMNS]
            if strange or "file" not in names:
                raise UserError(
                    f"{path}: " + (f"unknown column {strange[0]!r}" if strange else "no column 'file'") + "; it may have "
                    f"{', '.join(COLUMNS)}."
                )
            rows: dict[str, Row] = {}
            for line, values in enumerate(reader, start=2):
                if None in values:
                    raise UserError(f"{path}:{line}: more values than columns; quote values that hold commas.")
                row = Row(**{name: (value or "").strip() for name, value in values.items()})
                _check(path, line, row, rows)
                rows[Path(row.file).as_posix()] = row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 CSV ({error}); save it anew.") from error
    return rows


def _check(path: Path, line: int, row: Row, rows: dict[str, Row]) -> None:
    if not row.file:
        raise UserError(f"{path}:{line}: file is empty; name an audio file within the folder.")
    if Path(row.file).as_posix() in rows:
        raise UserError(f"{path}:{line}: {row.file} stands on two lines; leave one out.")
    if row.split and row.split not in set(Split):
        raise UserError(f"{path}:{line}: split is {row.split!r}; write train, heldout, or nothing.")
    if row.truth and row.truth not in set(Truth):
        raise UserError(f"{path}:{line}: truth is {row.truth!r}; write one of {', '.join(Truth)}, or nothing.")


def merged(root: Path, own: Annotations, row: Row | None, seconds: float) -> tuple[Annotations, list[str]]:
    """Annotations of a file of so many seconds, the sheet's over its own, and what of them was left out or cut."""
    remarks: list[str] = []
    parts: dict[str, Any] = {}
    truth = dict(own.truth)
    if row is not None:
        level = Truth(row.truth or Truth.ANNOTATED)
        readers: dict[str, Callable[[Row], dict[str, Any]]] = {
            "key": lambda row: {"keys": (Span(0.0, seconds, row.key),)},
            "tempo": lambda row: {"tempo": float(row.tempo)},
            "instruments": lambda row: {
                "instruments": frozenset(t.strip() for t in row.instruments.split(";") if t.strip()),
                "unobserved": frozenset(),
            },
            "chords": lambda row: {"chords": _spans(_lines(root, row.chords))},
            "beats": lambda row: _beats(_lines(root, row.beats)),
        }
        for concept, read in readers.items():
            if getattr(row, concept):
                try:
                    parts |= read(row)
                    truth[concept] = level
                except (ValueError, OSError) as error:
                    remarks.append(f"{concept} left out: {error}")
    return usable(replace(own, **parts, truth=truth), seconds, remarks), remarks


def _lines(root: Path, name: str) -> list[list[str]]:
    """The words of each line of a file within the folder."""
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise ValueError(f"{name} lies outside the folder")
    text = path.read_text(encoding="utf-8")
    return [line.replace(",", " ").split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _spans(lines: Iterable[list[str]]) -> tuple[Span, ...]:
    return tuple(Span(float(start), float(end), " ".join(label)) for start, end, *label in lines)


def _beats(lines: Iterable[list[str]]) -> dict[str, Any]:
    lines = list(lines)
    positions = [int(float(words[1])) for words in lines if len(words) > 1]
    if positions and len(positions) < len(lines):
        raise ValueError(f"{len(positions)} of {len(lines)} beats have a position in the bar; give all of them one, or none")
    return {"beats": tuple(float(words[0]) for words in lines), "beat_positions": tuple(positions)}


def usable(a: Annotations, seconds: float, remarks: list[str]) -> Annotations:
    """What of annotations is valid and lies within the file; the rest is remarked."""
    found: dict[str, Any] = {}
    for concept, name, readable in (("chords", "chords", chord_problem), ("key", "keys", key_problem)):
        spans: tuple[Span, ...] = getattr(a, name)
        problem = _problem(spans, readable)
        if problem:
            remarks.append(f"{concept} left out: {problem}")
            spans = ()
        elif spans and spans[-1].end > seconds + SLACK:
            remarks.append(f"{concept} go on to {spans[-1].end:.2f} s, and the audio ends at {seconds:.2f} s: they are cut")
        found[name] = tuple(Span(s.start, min(s.end, seconds), s.label) for s in spans if s.start < seconds)
    beats = a.beats
    if list(beats) != sorted(set(beats)) or any(time < 0 for time in beats) or any(p < 1 for p in a.beat_positions):
        remarks.append("beats left out: times must ascend from 0, and positions count from 1")
        beats = ()
    if beats and beats[-1] > seconds + SLACK:
        remarks.append(f"beats go on to {beats[-1]:.2f} s, and the audio ends at {seconds:.2f} s: they are cut")
    beats = tuple(time for time in beats if time < seconds)
    tempo = a.tempo
    if tempo is not None and not 0 < tempo < 1000:
        remarks.append(f"tempo left out: {tempo} beats a minute")
        tempo = None
    strange = sorted(a.instruments - {*FAMILIES, DRUMS})
    if strange:
        remarks.append(f"instruments left out: {strange[0]!r} is no General MIDI family")
    found |= {
        "beats": beats,
        "beat_positions": a.beat_positions[: len(beats)],
        "tempo": tempo,
        "instruments": frozenset() if strange else a.instruments,
        "unobserved": frozenset() if strange else a.unobserved,
    }
    present = found | {"key": found["keys"], "instruments": found["instruments"] or found["unobserved"]}
    return Annotations(**found, truth={concept: level for concept, level in a.truth.items() if present.get(concept)})


def _problem(spans: tuple[Span, ...], readable: Callable[[str], str]) -> str:
    """What is wrong with spans: their order, or a label that mir_eval cannot read; empty where nothing is."""
    end = 0.0
    for span in spans:
        if not end - 1e-6 <= span.start < span.end:
            return f"the span of {span.label!r}, {span.start} to {span.end} s, overlaps another or has no length"
        end = span.end
    for label in sorted({span.label for span in spans}):
        if problem := readable(label):
            return problem
    return ""


@cache
def chord_problem(label: str) -> str:
    """Why mir_eval cannot read a chord; empty where it can."""
    try:
        mir_eval.chord.encode(label)
    except Exception as error:  # mir_eval's own
        return f"the chord {label!r} is not in Harte syntax ({error})"
    return ""


@cache
def key_problem(label: str) -> str:
    """Why mir_eval cannot read a key; empty where it can."""
    try:
        mir_eval.key.validate_key(label)
    except Exception as error:  # mir_eval raises ValueError, and KeyError for some
        return f"mir_eval cannot read the key {label!r} ({error})"
    return ""


def text(track: Track) -> str:
    """All that a track says, in words that do not depend on the order in which they were found."""
    a = track.annotations
    sets = sorted(a.instruments), sorted((concept, str(level)) for concept, level in a.truth.items())
    spans = a.chords, a.keys, a.tempo, a.beats, a.beat_positions
    said = (track.id, track.group, str(track.split), track.licence, track.duration, spans, sets)
    return repr((*said, sorted(a.unobserved)) if a.unobserved else said)
