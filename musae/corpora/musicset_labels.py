"""What the parts of MusicSet say of their music, in musae's terms. All of it is estimated, and so never ground truth.

- MusicBench's chords, beats, tempo and key were extracted from the audio by machine (Melechovsky et al., "Mustango", NAACL 2024,
  arXiv 2311.08355). Its chords are written as Chordino does (``Bm7b5/A``; the vocabulary is in ``chromamethods.cpp`` of
  c4dm/nnls-chroma): each holds from its time to the next one's.
- MTG-Jamendo's instrument tags were given by uploaders, for whole tracks, and only where they chose to: a tag that is absent
  says nothing, and what one names may be silent in a clip. So the families are marked as estimated too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from musae.corpora import folder_labels
from musae.corpora.instruments import DRUMS
from musae.corpora.track import Annotations, Span, Truth

QUALITIES = {
    "": "maj",
    "m": "min",
    "dim": "dim",
    "aug": "aug",
    "6": "maj6",
    "m6": "min6",
    "7": "7",
    "maj7": "maj7",
    "m7": "min7",
    "dim7": "dim7",
    "m7b5": "hdim7",
}
"""Chordino's qualities -> Harte's."""
DEGREES = ("1", "b2", "2", "b3", "3", "4", "b5", "5", "b6", "6", "b7", "7")
"""Semitones above the root -> the bass in Harte syntax."""
LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}

FAMILIES = {
    "accordion": "organ",
    "acousticbassguitar": "bass",
    "acousticguitar": "guitar",
    "bass": "bass",
    "bell": "chromatic percussion",
    "bongo": DRUMS,
    "brass": "brass",
    "cello": "strings",
    "clarinet": "reed",
    "classicalguitar": "guitar",
    "drummachine": DRUMS,
    "drums": DRUMS,
    "electricguitar": "guitar",
    "electricpiano": "piano",
    "flute": "pipe",
    "guitar": "guitar",
    "harmonica": "organ",
    "harp": "strings",
    "horn": "brass",
    "oboe": "reed",
    "orchestra": "ensemble",
    "organ": "organ",
    "pad": "synth pad",
    "percussion": DRUMS,
    "piano": "piano",
    "pipeorgan": "organ",
    "rhodes": "piano",
    "saxophone": "reed",
    "strings": "ensemble",
    "trombone": "brass",
    "trumpet": "brass",
    "ukulele": "guitar",
    "viola": "strings",
    "violin": "strings",
}
"""Jamendo's instrument tags -> the family of the General MIDI program nearest to them. Left out, since they may be of several
families or of none: beat, computer, doublebass (bowed or plucked), keyboard, sampler, synthesizer (lead or pad), voice."""


def jamendo(tags: Iterable[str]) -> Annotations:
    """Families of a track's tags (``instrument---piano``)."""
    instruments = (tag.partition("---")[2] for tag in tags if tag.startswith("instrument---"))
    families = frozenset(FAMILIES[name] for name in instruments if name in FAMILIES)
    return Annotations(instruments=families, truth={"instruments": Truth.ESTIMATED} if families else {})


def musicbench(row: Mapping[str, Any], seconds: float) -> tuple[Annotations, list[str]]:
    """Labels of a line of MusicBench for audio of so many seconds, and what of them was left out, with the reason."""
    parts: dict[str, Any] = {}
    remarks = []
    for concept, read in (("chords", _chords), ("key", _key), ("tempo", _tempo), ("beats", _beats)):
        try:
            parts |= read(row, seconds)
        except (ValueError, TypeError) as error:
            remarks.append(f"{concept} left out: {error}")
    estimated = dict.fromkeys(("chords", "key", "tempo", "beats"), Truth.ESTIMATED)
    annotations = folder_labels.usable(Annotations(**parts, truth=estimated), seconds, remarks)
    return annotations, remarks


def _chords(row: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    names, times = row.get("chords") or [], row.get("chords_time") or []
    if len(names) != len(times):
        raise ValueError(f"{len(names)} chords at {len(times)} times")
    starts = [float(time) for time in times]
    ends = [*starts[1:], seconds]
    spans = [Span(s, e, harte(str(n))) for s, e, n in zip(starts, ends, names, strict=True) if s < seconds]
    return {"chords": tuple(spans)}


def _key(row: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    key = row.get("key") or []
    if not key:
        return {}
    tonic, mode = key
    return {"keys": (Span(0.0, seconds, f"{tonic} {mode}"),)}


def _tempo(row: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    return {"tempo": float(row["bpm"])} if row.get("bpm") is not None else {}


def _beats(row: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    if not row.get("beats"):
        return {}
    times, positions = row["beats"]
    if len(times) != len(positions):
        raise ValueError(f"{len(times)} beats with {len(positions)} positions")
    return {"beats": tuple(float(t) for t in times), "beat_positions": tuple(int(p) for p in positions)}


@cache
def harte(chord: str) -> str:
    """A chord of Chordino's in Harte syntax: ``Bm7b5/A`` -> ``B:hdim7/b7``. Raises ValueError for what it does not write."""
    if chord == "N":
        return chord
    match = re.fullmatch(r"([A-G][#b]?)([a-z0-9]*?)(?:/([A-G][#b]?))?", chord)
    if match is None or match[2] not in QUALITIES:
        raise ValueError(f"{chord!r} is no chord of Chordino's")
    root, quality, bass = match.groups()
    degree = DEGREES[(_pitch_class(bass) - _pitch_class(root)) % 12] if bass else "1"
    return f"{root}:{QUALITIES[quality]}" + (f"/{degree}" if degree != "1" else "")


def _pitch_class(name: str) -> int:
    return (LETTERS[name[0]] + name.count("#") - name.count("b")) % 12
