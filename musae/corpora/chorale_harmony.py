"""Chords and keys of exact notes: the documented rules behind the chorales' truth level `derived`.

Conventions
-----------
- Times are in quarter notes; pitch classes 0-11 with C = 0; a chord's `bass` is in semitones above its root.
- Names are spelt from one table, whatever the key: scores compare pitch classes.

Chords: the best segmentation after Pardo & Birmingham, "Algorithms for chordal analysis" (Computer Music Journal 26(2), 2002).
The notes' onsets and ends cut the piece into slices. A segment of slices, read as a chord, earns the duration of its notes that
belong to the chord and pays for that of the others, for chord tones that are missing, for a bass that is not the root, for a
rare quality, and for beginning off the beat; dynamic programming finds the segmentation of highest total. Silence is ``N``; a
segment whose best chord holds less than `LEAST_FIT` of its notes is ``X``. Within a segment, a new inversion begins where another
chord tone becomes the bass for `LEAST_BASS` or more.

Keys: the most likely path (Viterbi) through the 24 keys, beat by beat. Notes are drawn from the key's profile (Temperley, "Music
and Probability", 2007: Kostka-Payne corpus), weighted by their duration; each change of key costs `KEY_CHANGE`. Tried and left:
one key a piece (agreement with people 0.62 and 0.55 on the two halves below), a path over the derived chords (0.87 and 0.72).

The chords' constants were chosen by random search on the human analyses Riemenschneider 1-10 alone, with a look at 11-20 but no
choice by it. The rule for keys and its constant were taken for agreeing on both halves: its figure on 11-20 flatters a bit.
`musae.corpora.chorales.Chorales.agreement` computes the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from musae.corpora.chorale_scores import ScoreNote

Array = NDArray[np.float64]

CHORDS: dict[str, tuple[int, ...]] = {
    "maj": (0, 4, 7),
    "min": (0, 3, 7),
    "dim": (0, 3, 6),
    "aug": (0, 4, 8),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "min7": (0, 3, 7, 10),
    "hdim7": (0, 3, 6, 10),
    "dim7": (0, 3, 6, 9),
    "minmaj7": (0, 3, 7, 11),
}
"""Harte shorthand -> semitones above the root."""

DEGREES = {3: "b3", 4: "3", 6: "b5", 7: "5", 8: "#5", 9: "bb7", 10: "b7", 11: "7"}
"""Semitones above the root -> Harte degree, of the tones of `CHORDS`."""

TONICS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MINOR_TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")

LONGEST = 24
"""Slices in a chord segment at most."""
FOREIGN = 1.7
"""Price of a quarter of a note outside the chord; one inside earns 1."""
HEARD = 0.65
"""A chord tone is missing where it sounds for less than this share of the segment."""
MISSING = {0: 0.6, 3: 1.2, 4: 1.2, 6: 1.2, 7: 0.6, 8: 1.2, 9: 10.0, 10: 10.0, 11: 10.0}
"""Price per quarter of a missing chord tone, by semitones above the root."""
BASS = {0: 0.0, 3: 0.0, 4: 0.0, 6: 1.6, 7: 1.6, 8: 1.6, 9: 1.4, 10: 1.4, 11: 1.4}
"""Price per quarter of a chord tone in the bass; 1 for a foreign one."""
RARITY = {
    "maj": 0.0,
    "min": 0.0,
    "dim": 0.1,
    "aug": 0.6,
    "7": 0.1,
    "maj7": 0.3,
    "min7": 2.0,
    "hdim7": 1.6,
    "dim7": 1.6,
    "minmaj7": 0.8,
}
"""Price per quarter of the rarer qualities."""
ON_BEAT, OFF_BEAT = 0.2, 1.2
"""Price of beginning a segment on a beat, or elsewhere."""
LEAST_FIT = 0.5
"""An X is a segment whose chord holds a smaller share of its notes."""
LEAST_BASS = 1.0
"""Quarters that a bass must last to be an inversion of its own."""

PROFILES: tuple[tuple[float, ...], ...] = (
    (0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400),
    (0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330),
)
"""Major and minor: how often each semitone above the tonic sounds."""
KEY_CHANGE = 3.0
"""Price of a change of key, in nats per quarter of a voice; the middle of a plateau from 2 to 4."""


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord over [start, end) quarters. `quality` is a key of `CHORDS`, or ``N`` (silence), or ``X`` (nothing fits)."""

    start: float
    end: float
    root: int
    quality: str
    bass: int = 0

    @property
    def triad(self) -> str:
        """The quality without its seventh: ``maj``, ``min``, ``dim``, ``aug``, ``N`` or ``X``."""
        intervals = CHORDS.get(self.quality)
        return next(name for name, triad in CHORDS.items() if triad == intervals[:3]) if intervals else self.quality

    def label(self, transposition: int = 0) -> str:
        """In Harte syntax, moved by so many semitones."""
        if self.quality not in CHORDS:
            return self.quality
        inversion = f"/{DEGREES[self.bass]}" if self.bass in CHORDS[self.quality][1:] else ""
        return f"{TONICS[(self.root + transposition) % 12]}:{self.quality}{inversion}"


@dataclass(frozen=True, slots=True)
class Key:
    """A key over [start, end) quarters."""

    start: float
    end: float
    tonic: int
    minor: bool

    def label(self, transposition: int = 0) -> str:
        """``"F# minor"``, moved by so many semitones."""
        names, mode = (MINOR_TONICS, "minor") if self.minor else (TONICS, "major")
        return f"{names[(self.tonic + transposition) % 12]} {mode}"


Timed = TypeVar("Timed", Chord, Key)

SHAPES = tuple((root, quality) for quality in CHORDS for root in range(12))


def _table(value: dict[int, float] | None) -> Array:
    """[12 pitch classes, chords]: 1, or the value of the interval above the root, where the pitch class is a chord tone."""
    table = np.zeros((12, len(SHAPES)))
    for column, (root, quality) in enumerate(SHAPES):
        for interval in CHORDS[quality]:
            table[(root + interval) % 12, column] = value[interval] if value else 1.0
    return table


_INSIDE, _MISSING = _table(None), _table(MISSING)
_BASS = np.where(_INSIDE > 0, _table(BASS), 1.0)
_RARITY = np.array([RARITY.get(quality, 0.0) for _, quality in SHAPES])


def derive_chords(notes: Sequence[ScoreNote], beats: Iterable[float], end: float) -> list[Chord]:
    """Chord segments that cover [0, end); `beats` are the beats' times."""
    if not notes:
        return [Chord(0.0, end, 0, "N")]
    edges = np.unique(np.round([0.0, end, *(n.onset for n in notes), *(n.onset + n.duration for n in notes)], 6))
    sounding, lowest = _slices(notes, edges)
    prices = _prices(edges[:-1], np.asarray(sorted(beats)))
    total, basses = (np.concatenate([np.zeros((1, 12)), np.cumsum(table, axis=0)]) for table in (sounding, lowest))
    silent = sounding.sum(1) == 0
    best, came, read = np.zeros(len(edges)), np.zeros(len(edges), int), np.zeros(len(edges), int)
    for j in range(1, len(edges)):
        first = j - 1 if silent[j - 1] else max(0, j - LONGEST)
        first += int(np.flatnonzero(silent[first : j - 1])[-1]) + 1 if silent[first : j - 1].any() else 0
        span = (edges[j] - edges[first:j])[:, None]
        held, bass = total[j] - total[first:j], basses[j] - basses[first:j]
        inside = held @ _INSIDE
        outside = held.sum(1, keepdims=True) - inside
        score = inside - FOREIGN * outside - span * ((held < HEARD * span) @ _MISSING + _RARITY) - bass @ _BASS
        choice = score.argmax(1)
        value = best[first:j] - prices[first:j] + score[np.arange(j - first), choice]
        k = int(value.argmax())
        best[j], came[j], read[j] = value[k], first + k, choice[k]
    chords: list[Chord] = []
    j = len(edges) - 1
    while j > 0:
        i = int(came[j])
        chords += reversed(_inversions(edges[i : j + 1], sounding[i:j], lowest[i:j], int(read[j])))
        j = i
    merged: list[Chord] = []
    for c in reversed(chords):
        if merged and (merged[-1].root, merged[-1].quality, merged[-1].bass) == (c.root, c.quality, c.bass):
            merged[-1] = replace(merged[-1], end=c.end)
        else:
            merged.append(c)
    return merged


def _slices(notes: Sequence[ScoreNote], edges: Array) -> tuple[Array, Array]:
    """For each slice and pitch class: quarters that sound, summed over the voices; quarters as the lowest note."""
    lengths = np.diff(edges)
    sounding, low = np.zeros((len(lengths), 12)), np.zeros((len(lengths), 12))
    lowest = np.full(len(lengths), 128)
    for n in notes:
        first, last = np.searchsorted(edges, np.round([n.onset, n.onset + n.duration], 6))
        sounding[first:last, n.pitch % 12] += lengths[first:last]
        lowest[first:last] = np.minimum(lowest[first:last], n.pitch)
    heard = np.flatnonzero(lowest < 128)
    low[heard, lowest[heard] % 12] = lengths[heard]
    return sounding, low


def _prices(starts: Array, beats: Array) -> Array:
    """What it costs to begin a segment at each time."""
    on_beat = np.isclose(starts[:, None], beats, atol=1e-4).any(1)
    return np.where(on_beat, ON_BEAT, OFF_BEAT)


def _inversions(edges: Array, sounding: Array, lowest: Array, shape: int) -> list[Chord]:
    """The chords of a segment that was read as `shape`: one for each chord tone that is the bass for `LEAST_BASS` or more."""
    start, end = float(edges[0]), float(edges[-1])
    held = sounding.sum()
    if held == 0:
        return [Chord(start, end, 0, "N")]
    if (sounding @ _INSIDE[:, shape]).sum() < LEAST_FIT * held:
        return [Chord(start, end, 0, "X")]
    root, quality = SHAPES[shape]
    tones = CHORDS[quality]
    bass = lowest[:, [(root + interval) % 12 for interval in tones]]
    main = tones[int(bass.sum(0).argmax())]
    runs: list[Chord] = []
    for time, until, row in zip(edges[:-1].tolist(), edges[1:].tolist(), bass, strict=True):
        low = tones[int(row.argmax())] if row.any() else runs[-1].bass if runs else main
        if runs and runs[-1].bass == low:
            runs[-1] = replace(runs[-1], end=until)
        else:
            runs.append(Chord(time, until, root, quality, low))
    kept = [run for run in runs if run.end - run.start >= LEAST_BASS]
    if not kept:
        return [Chord(start, end, root, quality, main)]
    ends = [run.start for run in kept[1:]] + [end]
    return [replace(run, start=begin, end=stop) for run, begin, stop in zip(kept, [start, *ends], ends, strict=False)]


def derive_keys(notes: Sequence[ScoreNote], beats: Iterable[float], end: float) -> list[Key]:
    """Key spans that cover [0, end); `beats` are the beats' times, at which keys may change."""
    edges = np.unique(np.round([0.0, *(b for b in beats if 0 < b < end), end], 6))
    held = np.zeros((len(edges) - 1, 12))
    for n in notes:
        held[:, n.pitch % 12] += np.clip(np.minimum(n.onset + n.duration, edges[1:]) - np.maximum(n.onset, edges[:-1]), 0, None)
    odds = [np.log(np.array(profile) / sum(profile)) for profile in PROFILES]
    likelihood = held @ np.stack([np.roll(p, tonic) for p in odds for tonic in range(12)], axis=1)
    change = KEY_CHANGE * (1 - np.eye(24))
    score, came = likelihood[0], []
    for row in likelihood[1:]:
        options = score[:, None] - change
        came.append(options.argmax(0))
        score = options.max(0) + row
    path = [int(score.argmax())]
    for back in reversed(came):
        path.append(int(back[path[-1]]))
    keys: list[Key] = []
    for state, start, stop in zip(reversed(path), edges[:-1], edges[1:], strict=True):
        minor, tonic = divmod(state, 12)
        if keys and (keys[-1].tonic, keys[-1].minor) == (tonic, bool(minor)):
            keys[-1] = Key(keys[-1].start, float(stop), tonic, bool(minor))
        else:
            keys.append(Key(float(start), float(stop), tonic, bool(minor)))
    return keys


def agreement(
    chords: Sequence[Chord], other_chords: Sequence[Chord], keys: Sequence[Key], other_keys: Sequence[Key]
) -> dict[str, tuple[float, float]]:
    """How much of a reference's chords and keys another reading shares: metric -> (quarters that agree, quarters compared).

    ``root`` and ``majmin`` compare as `mir_eval.chord.root` and `majmin` do: where the reference is ``X`` nothing is compared,
    and ``majmin`` compares chords with a major or minor triad only, whatever their sevenths. ``key`` wants tonic and mode.
    """
    found = {"root": [0.0, 0.0], "majmin": [0.0, 0.0], "key": [0.0, 0.0]}

    def count(metric: str, agree: bool, quarters: float) -> None:
        found[metric][0] += agree * quarters
        found[metric][1] += quarters

    for a, b, quarters in _common(chords, other_chords):
        if a.quality != "X":
            count("root", (a.root, a.quality == "N") == (b.root, b.quality == "N") and b.quality != "X", quarters)
        if a.triad in ("maj", "min", "N"):
            count("majmin", (a.root, a.triad) == (b.root, b.triad), quarters)
    for p, q, quarters in _common(keys, other_keys):
        count("key", (p.tonic, p.minor) == (q.tonic, q.minor), quarters)
    return {metric: (agree, compared) for metric, (agree, compared) in found.items()}


def _common(left: Sequence[Timed], right: Sequence[Timed]) -> Iterator[tuple[Timed, Timed, float]]:
    """Each pair of spans that overlap, and for how long."""
    for a in left:
        for b in right:
            length = min(a.end, b.end) - max(a.start, b.start)
            if length > 0:
                yield a, b, length
