"""What a mirdata track's attributes say, in musae's terms.

- Keys: ``D:minor``, ``D minor`` and ``D`` (major) as mir_eval.key reads them; church modes are its ``other``; no key is no label.
- Chords: Harte syntax; a span that mir_eval.chord cannot read is left out, the others stay.
- Beats: without their positions in the bar where those are not annotated, or where some lie outside any bar (position 0).
- Tempo: one value, where it is constant: where the set has beats, nine of ten intervals between them lie within `STEADY` of their
  median, and the tempo within `AGREES` of it.
- Instruments: General MIDI families; those of which nothing is known are `Annotations.unobserved`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from musae.corpora.folder_labels import chord_problem, key_problem, usable
from musae.corpora.instruments import DRUMS, FAMILIES
from musae.corpora.mirdata_sets import Coverage, DataSet, Labels
from musae.corpora.track import Annotations, Span, Truth

STEADY = 0.1
"""Share of the median interval by which nine of ten intervals between beats may differ from it where the tempo is constant."""
AGREES = 0.08
"""Share by which a tempo may differ from that of the beats."""
OVERLAP = 0.05
"""Seconds by which a span may begin before the one before it ends: it is shortened."""
PRESENT = 0.5
"""Confidence above which a class is heard, and below which it is not (OpenMIC's aggregated labels)."""

MANIFOLD = ("ethnic",)
"""Families of which no set looks for enough instruments to say that none sounds: there are more than banjos."""
ENSEMBLE = "ensemble"
"""The family of General MIDI's choirs, in which a voice may be counted or not."""
MODES = {
    **dict.fromkeys(("major", "maj", "ionian"), "major"),
    **dict.fromkeys(("minor", "min", "m", "aeolian"), "minor"),
    **dict.fromkeys(("dorian", "phrygian", "lydian", "mixolydian", "locrian", "modal", "other"), "other"),
}
NO_KEY = ("", "n", "x", "-", "none", "unknown")


def read(entry: DataSet, track: Any, seconds: float, heldout: bool) -> tuple[Annotations, list[str]]:
    """Labels of a track, but for stems (`musae.corpora.mirdata_stems`), and what was left out or cut.

    heldout: which of the set's two coverages holds.
    """
    parts: dict[str, Any] = {}
    truth: dict[str, Truth] = {}
    remarks: list[str] = []
    readers: Mapping[str, Callable[[Any], dict[str, Any]]] = {
        "chords": lambda value: {"chords": _chords(value, remarks)},
        "key": lambda value: {"keys": _keys(value, seconds, remarks)},
        "beats": lambda value: _beats(value, _compound(track), remarks),
        "tempo": lambda value: {"tempo": _tempo(value)},
        "instruments": lambda value: _instruments(entry, value, entry.coverage[heldout]),
    }
    for concept, labels in entry.labels.items():
        if entry.stems or (labels.only and getattr(track, labels.only[0]) != labels.only[1]):
            continue
        try:
            value = _value(track, labels)
            if value is not None:
                parts |= readers[concept](value)
                truth[concept] = labels.truth
        except Exception as error:  # loaders raise whatever a damaged file makes them raise
            remarks.append(f"{concept} left out: {line(error)}")
    if entry.sounds:
        parts["instruments"], truth["instruments"] = frozenset(entry.sounds), Truth.EXACT
    found = usable(Annotations(**parts, truth=truth), seconds, remarks)
    return _constant(found, "beats" in entry.labels, remarks), remarks


def _value(track: Any, labels: Labels) -> Any:
    """A track's attribute; GTZAN's tempo, which mirdata 1.0 cannot read with numpy 2.4; Groove's only where it counts beats: it
    is in quarters."""
    names = labels.attribute.split()
    if names == ["tempo"] and not getattr(track, "time_signature", "4-4").endswith("-4"):
        return None
    if names == ["tempo"] and type(track).__module__.endswith("gtzan_genre"):
        path = track.get_path("tempo")
        return None if path is None else np.loadtxt(path, ndmin=1)[0]
    values = [getattr(track, name) for name in names]
    return values[0] if len(values) == 1 else " ".join(map(str, values))


def _chords(value: Any, remarks: list[str]) -> tuple[Span, ...]:
    spans = _tidy(zip(value.intervals, value.labels, strict=True))
    unreadable = [span for span in spans if chord_problem(span.label)]
    if unreadable:
        remarks.append(f"{len(unreadable)} of {len(spans)} chords left out: {chord_problem(unreadable[0].label)}")
    return tuple(span for span in spans if not chord_problem(span.label))


def _keys(value: Any, seconds: float, remarks: list[str]) -> tuple[Span, ...]:
    """Local keys, or one of the whole track: a string, or a list of strings that must name one key."""
    if not hasattr(value, "intervals"):
        several = [value] if isinstance(value, str) else list(value)
        if len({key(name) for name in several}) > 1:
            raise ValueError(f"several keys of the whole track: {', '.join(several)}")
        label = key(several[0]) if several else ""
        return (Span(0.0, seconds, label),) if label else ()
    spans: list[Span] = []
    for span in _tidy(zip(value.intervals, value.keys, strict=True)):
        try:
            label = key(span.label)
        except ValueError as error:
            remarks.append(f"a key left out: {error}")
            continue
        if label:
            spans.append(Span(span.start, span.end, label))
    return tuple(spans)


def key(text: str) -> str:
    """A key as mir_eval.key reads it; empty for "no key". Raises ValueError for what is none."""
    words = [word for word in text.replace(":", " ").split() if not re.fullmatch(r"[\d.]+", word)]
    if not words or words[0].lower() in NO_KEY:
        return ""
    label = f"{words[0][0].upper()}{words[0][1:]} {MODES.get((words[1:] or ['major'])[0].lower(), '?')}"
    if len(words) > 2 or key_problem(label):
        raise ValueError(f"{text.strip()!r} is no key")
    return label


def _compound(track: Any) -> bool:
    """Whether a Groove track is in a compound metre: pretty_midi gives its dotted beats, and mirdata counts them as eighths."""
    count = int(getattr(track, "time_signature", "4-4").split("-")[0])
    return count > 3 and count % 3 == 0


def _beats(value: Any, compound: bool, remarks: list[str]) -> dict[str, Any]:
    times = tuple(float(time) for time in value.times)
    positions = () if value.positions is None or compound else tuple(int(position) for position in value.positions)
    if 0 in positions:
        remarks.append("beats used, but not their positions: some lie outside any bar")
        positions = ()
    return {"beats": times, "beat_positions": positions}


def _tempo(value: Any) -> float | None:
    """A number of beats per minute, the most confident of several (`TempoData`), or that of steady beats (`BeatData`)."""
    if hasattr(value, "times"):
        return _rate([float(t) for t in value.times])
    if hasattr(value, "tempos"):
        best = int(np.argmax(value.confidence)) if value.confidence is not None else 0
        return float(value.tempos[best])
    return float(value)


def _rate(beats: Sequence[float]) -> float | None:
    """Beats per minute of steady beats; None where they are not, or too few."""
    intervals = np.diff(beats)
    if len(intervals) < 4:
        return None
    middle = float(np.median(intervals))
    steady = np.quantile(np.abs(intervals / middle - 1), 0.9) <= STEADY
    return round(60 / middle, 3) if steady else None


def _constant(a: Annotations, annotated: bool, remarks: list[str]) -> Annotations:
    """Annotations with their tempo only where the beats, if there are any, say that it is constant."""
    if a.tempo is None or not annotated or len(a.beats) < 5:
        return a
    rate = _rate(a.beats)
    if rate is not None and abs(rate / a.tempo - 1) <= AGREES:
        return a
    heard = "not steady" if rate is None else f"at {rate:.1f} a minute"
    remarks.append(f"tempo left out: {a.tempo:g} beats a minute, and the beats are {heard}")
    truth = {concept: level for concept, level in a.truth.items() if concept != "tempo"}
    return replace(a, tempo=None, truth=truth)


def _instruments(entry: DataSet, value: Any, coverage: Coverage) -> dict[str, Any]:
    """Families that sound and that may sound, from classes that were heard or, with their confidences, looked for."""
    if isinstance(value, Mapping):
        heard = {name for name, confidence in value.items() if confidence > PRESENT}
        looked = heard | {name for name, confidence in value.items() if confidence < PRESENT}
    else:
        heard = {value} if isinstance(value, str) else set(value)
        looked = heard if coverage == "named" else set(entry.classes)
    strange = sorted(map(str, heard - set(entry.classes)))
    if strange:
        raise ValueError(f"{strange[0]!r} is no class of instruments of this set")
    families = frozenset(of[0] for of in (entry.classes[name] for name in heard) if len(of) == 1)
    doubtful = {f for name in heard for f in entry.classes[name] or (ENSEMBLE,)}
    every = {*FAMILIES, DRUMS}
    if coverage == "whole":
        known = every
    elif coverage == "named":
        known = set()
    else:
        classes = {f: {name for name, of in entry.classes.items() if f in of} for f in every}
        known = {f for f, names in classes.items() if names and names <= looked and f not in MANIFOLD}
    return {"instruments": families, "unobserved": frozenset((every - known | doubtful) - families)}


def _tidy(rows: Iterable[tuple[Any, str]]) -> list[Span]:
    """Spans in order, those without length left out, small overlaps cut."""
    found: list[Span] = []
    end = 0.0
    for start, stop, label in sorted((float(interval[0]), float(interval[1]), str(label)) for interval, label in rows):
        begin = end if end - OVERLAP <= start < end else start
        if stop > begin:
            found.append(Span(begin, stop, label))
            end = stop
    return found


def line(error: BaseException) -> str:
    """The first line of an error's message; its kind where there is none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
