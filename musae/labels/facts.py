"""What is true at each frame and of each clip, in the terms of `musae.labels.claims`, by level of truth.

A `Facts` table has one column for each fact: an index into the fact's distinct values, so that a claim is evaluated once for
each value and not once for each frame. Levels of truth are never mixed (`musae.scores.truth`): a table is of one level, and
what is not known at that level is None. Facts of notes (register, dynamics, programs) are exact wherever a track has notes: the
audio was made from them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from musae.corpora.track import Clip, Span, Truth
from musae.labels.claims import Claim
from musae.scores import mir, truth
from musae.scores.heldout import HeldOut

Unit = Literal["frames", "clips"]

FRAME_FACTS = {"chord": "chords", "beat": "beats", "pitch": "notes", "velocity": "notes"}
"""Fact of a frame -> the concept whose level of truth it has."""

CLIP_FACTS = {
    "key": "key",
    "mode": "key",
    "tempo": "tempo",
    "meter": "beats",
    "families": "instruments",
    "programs": "notes",
}
"""Fact of a clip -> the same."""

FACTS: dict[Unit, dict[str, str]] = {"frames": FRAME_FACTS, "clips": CLIP_FACTS}

CONCEPTS = sorted({*FRAME_FACTS.values(), *CLIP_FACTS.values()})

SHARE = 0.8
"""A clip has a key when one holds over more than this share of it, as in the task `key`."""

MELODIC = 12
"""Seconds before a moment in which a note that still sounds may have begun: longer notes than any corpus has."""


@dataclass(frozen=True, eq=False)
class Facts:
    """Facts of m frames or clips. Compared by identity."""

    unit: Unit
    values: Mapping[str, Sequence[Any]]
    """Fact -> its distinct values; the first is None, not annotated."""
    index: Mapping[str, NDArray[np.int64]]
    """Fact -> which of them is true of each row ``[m]``."""

    def at(self, row: int) -> dict[str, Any]:
        """What is known of one row: fact -> its value."""
        found = {fact: self.values[fact][ids[row]] for fact, ids in self.index.items()}
        return {fact: value for fact, value in found.items() if value is not None}

    def holds(self, claim: Claim) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether a claim is true of each row, and whether that is known, both ``[m]``; one of another unit never is."""
        if claim.fact not in self.index:
            nothing = np.zeros(len(next(iter(self.index.values()))), bool)
            return nothing, nothing
        answers = [claim.holds(value) for value in self.values[claim.fact]]
        true, known = np.array([a is True for a in answers]), np.array([a is not None for a in answers])
        return true[self.index[claim.fact]], known[self.index[claim.fact]]


def levels(data: HeldOut) -> tuple[str, ...]:
    """The levels of truth at which anything is known, in order."""
    return tuple(sorted(set().union(*(_levels(data, c).tolist() for c in CONCEPTS)) - {""}))


def annotated(data: HeldOut, level: str) -> NDArray[np.bool_]:
    """Which clips have a fact of a level of truth ``[n]``."""
    found: NDArray[np.bool_] = np.any([_levels(data, c) == level for c in CONCEPTS], axis=0)
    return found


def unit(claim: Claim) -> Unit:
    """Where a claim is judged."""
    return "frames" if claim.fact in FRAME_FACTS else "clips"


def facts(data: HeldOut, unit: Unit, level: str, permuted: bool = False) -> Facts:
    """Facts of `HeldOut.probe_rows` or of all clips; `permuted`: each clip with those of a clip of another piece."""

    def make() -> Facts:
        raw = data.once(f"facts of {unit}", lambda: of_clips(data, unit, data.clips))
        at = {concept: _levels(data, concept) for concept in CONCEPTS}
        known = FACTS[unit]
        return _table(
            unit,
            {fact: at[concept] == level for fact, concept in known.items()},
            {fact: truth.permuted(data, at[concept]) if permuted else np.arange(len(raw)) for fact, concept in known.items()},
            raw,
        )

    return data.once(f"facts {unit} {level} {permuted}", make)


def of_clips(data: HeldOut, unit: Unit, clips: Sequence[Clip]) -> list[dict[str, list[Any]]]:
    """Of each clip what its annotations say: fact -> a value for each of its probe rows, or one for the clip."""
    if unit == "clips":
        return [_of_clip(clip) for clip in clips]
    frames = data.x.shape[1]
    moments = data.times[data.probe_rows[: len(data.probe_rows) // len(data.clips)] % frames] - data.period / 2
    return [_of_moments(clip, moments) for clip in clips]


def table(data: HeldOut, unit: Unit, raw: Sequence[Mapping[str, list[Any]]]) -> Facts:
    """The facts that `of_clips` found of all clips, whatever level of truth they have."""
    every = np.ones(len(raw), bool)
    return _table(unit, dict.fromkeys(FACTS[unit], every), dict.fromkeys(FACTS[unit], np.arange(len(raw))), raw)


def _table(
    unit: Unit,
    taken: Mapping[str, NDArray[np.bool_]],
    donors: Mapping[str, NDArray[np.int64]],
    raw: Sequence[Mapping[str, list[Any]]],
) -> Facts:
    """Values numbered: of each fact, those of the clips that are `taken`, each clip's from its donor."""
    values, index = {}, {}
    for fact in FACTS[unit]:
        numbers: dict[Hashable, int] = {None: 0}
        found = [
            [numbers.setdefault(v if taken[fact][c] else None, len(numbers)) for v in raw[donors[fact][c]][fact]]
            for c in range(len(raw))
        ]
        values[fact], index[fact] = tuple(numbers), np.array(found, np.int64).ravel()
    return Facts(unit, values, index)


def _levels(data: HeldOut, concept: str) -> NDArray[np.str_]:
    if concept == "notes":
        return np.array([str(Truth.EXACT) if clip.track.notes else "" for clip in data.clips], dtype=str)
    return truth.levels(data, concept)


def _of_moments(clip: Clip, moments: NDArray[np.float64]) -> dict[str, list[Any]]:
    """Facts at moments, in seconds from the clip's start."""
    a, at = clip.track.annotations, (moments + clip.start).tolist()
    positions = a.beat_positions or (None,) * len(a.beats)
    beats: list[Any] = [None, *positions]
    sounding = _sounding(clip, at)
    return {
        "chord": [_label_at(a.chords, t) for t in at],
        "beat": [beats[bisect_right(a.beats, t)] for t in at],
        "pitch": [
            round(float(np.mean(s)), 1) if (s := [p for p, _, drums in notes if not drums]) else None for notes in sounding
        ],
        "velocity": [max((v for _, v, _ in notes), default=None) for notes in sounding],
    }


def _label_at(spans: tuple[Span, ...], time: float) -> str | None:
    """The label of the span that holds at a time; spans are in order."""
    i = bisect_right(spans, time, key=lambda s: s.start) - 1
    return spans[i].label if i >= 0 and time < spans[i].end else None


def _sounding(clip: Clip, at: list[float]) -> list[list[tuple[int, int, bool]]]:
    """Pitch, velocity and whether it is a drum, of each note that sounds at each time."""
    notes, onsets = clip.track.notes, [n.onset for n in clip.track.notes]
    drums = [voice.drums for voice in clip.track.voices]
    out = []
    for t in at:
        near = notes[bisect_right(onsets, t - MELODIC) : bisect_right(onsets, t)]
        out.append([(n.pitch, n.velocity, drums[n.voice]) for n in near if t < n.onset + n.duration])
    return out


def _of_clip(clip: Clip) -> dict[str, list[Any]]:
    a, track = clip.annotations, clip.track
    seconds = {"": 0.0}
    for span in a.keys:
        key = mir.key_index(span.label)
        name = mir.KEYS[key] if key >= 0 else ""
        seconds[name] = seconds.get(name, 0.0) + span.end - span.start
    enough = SHARE * clip.duration
    modes = {mode: sum(s for k, s in seconds.items() if k.endswith(mode)) for mode in ("major", "minor")}
    end = clip.start + clip.duration
    voices = {track.voices[n.voice] for n in track.notes if n.onset < end and n.onset + n.duration > clip.start}
    positions = track.annotations.beat_positions
    return {
        "key": [next((k for k, s in seconds.items() if k and s > enough), None)],
        "mode": [next((m for m, s in modes.items() if s > enough), None)],
        "tempo": [a.tempo],
        "meter": [max(positions) if positions else None],
        "families": [(a.instruments, a.unobserved)],
        "programs": [frozenset(v.program for v in voices if not v.drums) if track.notes else None],
    }
