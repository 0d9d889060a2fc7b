"""Functional harmony: chords by scale degree, a grammar of phrases, and the split of their progressions.

Conventions
-----------
- A chord is written by function (``V``, ``ii``, ``V/V``), free of key *and* of mode: one progression is realised in either
  mode, so that a piece and its twin in the other mode have the same functions, note for note.
- Pitches are *steps*: 7 to the octave, 0 the tonic, so that lines are composed without knowing key or mode; `Chord.semitones`
  turns a step into semitones above the tonic. A chord's own tones win over the scale's; over dominants, minor is melodic.
- A phrase says tonic - subdominant - dominant - tonic (or a half, deceptive or plagal close). What its *degrees* are, sevenths,
  suspensions and inversions aside, decides by a hash whether it is kept for held-out pieces (`held_out`).
- Labels follow Harte et al., "Symbolic representation of musical chords", ISMIR 2005.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from random import Random
from typing import Literal

Mode = Literal["major", "minor"]

SCALES: dict[str, tuple[int, ...]] = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
MELODIC_MINOR = (0, 2, 3, 5, 7, 9, 11)

QUALITIES: dict[str, tuple[tuple[int, int, str], ...]] = {
    "maj": ((0, 0, "1"), (2, 4, "3"), (4, 7, "5")),
    "min": ((0, 0, "1"), (2, 3, "b3"), (4, 7, "5")),
    "dim": ((0, 0, "1"), (2, 3, "b3"), (4, 6, "b5")),
    "sus4": ((0, 0, "1"), (3, 5, "4"), (4, 7, "5")),
    "7": ((0, 0, "1"), (2, 4, "3"), (4, 7, "5"), (6, 10, "b7")),
    "maj7": ((0, 0, "1"), (2, 4, "3"), (4, 7, "5"), (6, 11, "7")),
    "min7": ((0, 0, "1"), (2, 3, "b3"), (4, 7, "5"), (6, 10, "b7")),
    "hdim7": ((0, 0, "1"), (2, 3, "b3"), (4, 6, "b5"), (6, 10, "b7")),
    "dim7": ((0, 0, "1"), (2, 3, "b3"), (4, 6, "b5"), (6, 9, "bb7")),
}
"""Harte quality -> its tones: steps and semitones above the root, and the degree that names it in the bass."""

FUNCTIONS: dict[str, tuple[int, dict[str, tuple[int, str]]]] = {
    "I": (0, {"major": (0, "maj"), "minor": (0, "min")}),
    "I7": (0, {"major": (0, "maj7"), "minor": (0, "min7")}),
    "ii": (1, {"major": (2, "min"), "minor": (2, "dim")}),
    "ii7": (1, {"major": (2, "min7"), "minor": (2, "hdim7")}),
    "iii": (2, {"major": (4, "min"), "minor": (3, "maj")}),
    "IV": (3, {"major": (5, "maj"), "minor": (5, "min")}),
    "IV7": (3, {"major": (5, "maj7"), "minor": (5, "min7")}),
    "V": (4, {"major": (7, "maj"), "minor": (7, "maj")}),
    "V7": (4, {"major": (7, "7"), "minor": (7, "7")}),
    "Vsus": (4, {"major": (7, "sus4"), "minor": (7, "sus4")}),
    "vi": (5, {"major": (9, "min"), "minor": (8, "maj")}),
    "vi7": (5, {"major": (9, "min7"), "minor": (8, "maj7")}),
    "vii": (6, {"major": (11, "dim"), "minor": (11, "dim")}),
    "vii7": (6, {"major": (11, "hdim7"), "minor": (11, "dim7")}),
    # Borrowed from the parallel mode
    "iv": (3, {"major": (5, "min"), "minor": (5, "maj")}),
    "bVI": (5, {"major": (8, "maj"), "minor": (9, "min")}),
    "bVII": (6, {"major": (10, "maj"), "minor": (10, "maj")}),
    "N": (1, {"major": (1, "maj"), "minor": (1, "maj")}),
    # Secondary dominants
    "V/V": (1, {"major": (2, "7"), "minor": (2, "7")}),
    "V/IV": (0, {"major": (0, "7"), "minor": (0, "7")}),
    "V/vi": (2, {"major": (4, "7"), "minor": (3, "7")}),
    "vii/V": (3, {"major": (6, "dim7"), "minor": (6, "dim7")}),
}
"""Function -> step of its root, and in each mode the root in semitones above the tonic and the quality."""

DEGREE = {"I7": "I", "ii7": "ii", "IV7": "IV", "V7": "V", "Vsus": "V", "vi7": "vi", "vii7": "vii"}
"""Function -> its plain form, where it has one."""
SEVENTH = {plain: full for full, plain in DEGREE.items() if full.endswith("7")}
DOMINANTS = frozenset({"V", "V7", "Vsus", "vii", "vii7"})

SHARP = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
FLAT = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
FLAT_KEYS = {"major": {0, 1, 3, 5, 8, 10}, "minor": {0, 2, 3, 5, 7, 10}}
"""Tonics of the keys that are spelt with flats."""


@dataclass(frozen=True, slots=True)
class Key:
    """A tonic (pitch class, 0 = C) and a mode."""

    tonic: int
    mode: Mode

    def name(self, pitch_class: int) -> str:
        """How a pitch class is spelt in this key: with flats or with sharps."""
        return (FLAT if self.tonic in FLAT_KEYS[self.mode] else SHARP)[pitch_class % 12]

    def __str__(self) -> str:
        return f"{self.name(self.tonic)} {self.mode}"

    @property
    def parallel(self) -> Key:
        """The other mode on the same tonic."""
        return Key(self.tonic, "minor" if self.mode == "major" else "major")

    def on(self, step: int) -> Key:
        """The key on a step of the scale whose tonic chord is this key's chord there: on 5 of C major, A minor."""
        minor_steps = (1, 2, 5) if self.mode == "major" else (0, 1, 3, 4)
        return Key((self.tonic + SCALES[self.mode][step]) % 12, "minor" if step in minor_steps else "major")


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord by function, with its inversion (0: root in the bass, 1: third, ...) and length in beats."""

    function: str
    inversion: int
    beats: int

    @property
    def degree(self) -> str:
        """The function without its seventh or suspension."""
        return DEGREE.get(self.function, self.function)

    @property
    def is_tonic(self) -> bool:
        """Whether it establishes the key: the tonic, but not as a six-four, which sounds as a dominant's suspension."""
        return self.degree == "I" and self.inversion != 2

    def tones(self) -> list[int]:
        """Steps (0-6) of its tones, the root first: the same in both modes."""
        root, realised = FUNCTIONS[self.function]
        return [(root + step) % 7 for step, _, _ in QUALITIES[realised["major"][1]]]

    def label(self, key: Key) -> str:
        """In Harte syntax, in a key: ``G:7/3``."""
        root, quality = FUNCTIONS[self.function][1][key.mode]
        bass = QUALITIES[quality][self.inversion][2]
        return f"{key.name(key.tonic + root)}:{quality}" + (f"/{bass}" if self.inversion else "")

    def semitones(self, step: int, mode: Mode) -> int:
        """Semitones above the tonic of a step (7 to the octave) while this chord sounds."""
        return _semitones(self.function, step % 7, mode) + 12 * (step // 7)


@cache
def _semitones(function: str, step: int, mode: Mode) -> int:
    root_step, realised = FUNCTIONS[function]
    root, quality = realised[mode]
    for above, semitones, _ in QUALITIES[quality]:
        octave, degree = divmod(root_step + above, 7)
        if degree == step:
            return root + semitones - 12 * octave
    return (MELODIC_MINOR if mode == "minor" and function in DOMINANTS else SCALES[mode])[step]


Weighted = tuple[tuple[float, tuple[str, ...]], ...]

OPENINGS: Weighted = (
    (6, ("I",)), (3, ("I", "vi")), (1, ("I", "iii")), (2, ("I", "V", "I")), (2, ("I", "IV", "I")), (1, ("I", "vii", "I")),
    (1, ("I", "iii", "vi")), (1.5, ("I", "V", "vi")), (1, ("I", "V/vi", "vi")), (0.8, ("I", "bVII")), (1, ("I", "V/IV", "IV")),
    (0.7, ("I", "iv", "I")), (1, ("I", "ii", "V", "I")), (1, ("I", "vi", "I")), (0.7, ("I", "bVII", "IV", "I")),
)  # fmt: skip
SUBDOMINANTS: Weighted = (
    (4, ("IV",)), (4, ("ii",)), (2, ("IV", "ii")), (2, ("vi", "ii")), (1.5, ("vi", "IV")), (1, ("iv",)), (1, ("IV", "iv")),
    (0.8, ("bVI",)), (0.8, ("N",)), (1.2, ("V/V",)), (0.7, ("ii", "V/V")), (0.7, ("IV", "vii/V")), (0.5, ("bVI", "iv")),
    (1, ("iii", "vi", "ii")), (0.6, ("bVI", "bVII")), (0.8, ("vi", "V/V")), (0.6, ("iii", "IV")), (0.6, ("vi", "N")),
    (0.6, ("vi", "IV", "ii")), (0.5, ("IV", "N")),
)  # fmt: skip
DOMINANT_PARTS: Weighted = (
    (6, ("V",)), (1.2, ("vii",)), (1.5, ("I64", "V")), (0.6, ("vii", "V")), (1, ("Vsus", "V")), (0.5, ("V", "vii")),
)  # fmt: skip
CLOSES: Weighted = ((7, ("I",)), (1.2, ()), (1, ("vi",)), (0.5, ("I", "IV", "I")), (0.5, ("I", "iv", "I")))
"""Authentic, half, deceptive, and two plagal extensions."""

LONGEST = 12
"""No phrase has more degrees."""
HELD_OUT_SHARE = 0.15
"""Share of all progressions that is kept for held-out pieces."""


def held_out(degrees: Sequence[str]) -> bool:
    """Whether this progression, a phrase's degrees, is kept for held-out pieces: by a hash, so without a list."""
    digest = hashlib.sha256("-".join(degrees).encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def degrees(chords: Sequence[Chord]) -> tuple[str, ...]:
    """The degrees of a progression, each named once while it lasts."""
    return tuple(degree for degree, _ in groupby(c.degree for c in chords))


def spoils(before: Sequence[str], phrase: Sequence[str]) -> bool:
    """Whether a training piece that says `before`, then `phrase`, would contain a held-out phrase, even across phrases.

    The tonic that begins whatever comes next is looked at too, so that some next phrase is always possible.
    """
    heard = [degree for degree, _ in groupby((*before, *phrase, "I"))]
    first_new = len(heard) - len(phrase) - 1
    for end in range(max(first_new, 2), len(heard)):
        if heard[end] in ("I", "V", "vi", "vii"):
            for start in range(max(0, end + 1 - LONGEST), end - 1):
                if heard[start] == "I" and held_out(heard[start : end + 1]):
                    return True
    return False


def draw_functions(rng: Random, sevenths: float) -> Iterator[tuple[str, int]]:
    """Draw a phrase: functions with inversions. `sevenths` is the chance of a seventh where one is idiomatic."""
    parts = [
        rng.choices([p for _, p in table], [w for w, _ in table])[0] for table in (OPENINGS, SUBDOMINANTS, DOMINANT_PARTS, CLOSES)
    ]
    plain = [function for function, _ in groupby(f for part in parts for f in part)]
    for place, function in enumerate(plain):
        last = place == len(plain) - 1
        if function == "I64":
            yield "I", 2
            continue
        full = SEVENTH.get(function, function)
        chance = sevenths if function != "V" else max(0.5, sevenths)
        chance *= 0.5 if function == "I" or last else 1.0
        seventh, turned, which = rng.random() < chance, rng.random(), rng.random()
        function = full if seventh else function
        if last or place == 0 or function == "Vsus" or turned > 0.35:
            inversion = 1 if function == "N" else 0
        elif function in ("V7", "ii7", "vii7") and which > 0.75:
            inversion = 3
        else:
            inversion = 2 if which > 0.6 and function in ("V", "V7", "IV", "ii7", "vii7") else 1
        yield function, inversion
