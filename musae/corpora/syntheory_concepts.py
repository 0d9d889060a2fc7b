"""SynTheory's seven concepts as exercises: what is played, in beats, and the classes that it shows.

Wei, Freeman, Donahue, Sun: "Do music generation models encode music theory?", ISMIR 2024, arXiv 2410.00872. Ranges, classes,
registers and their names are those of the paper's code (github.com/brown-palm/syntheory, ``dataset/``), from which the lists of
this module are taken; every class that is probed there is an attribute here, under the same name.

Conventions
-----------
- A tonal exercise (notes, intervals, scales, chords, chord progressions) lasts for `BEATS` = 8 beats, as there.
- Roots lie within half an octave of middle C; those of intervals from middle C up; notes are all of MIDI 0 to 107. An octave's
  number is the MIDI number // 12.
- A progression stacks its triads within one octave of the scale, as there: where a chord's third or fifth wraps round, it is an
  inversion, and its label says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from musae.corpora.harmony import SHARP, Key, Mode

BEATS = 8

MODES = {
    "ionian": (0, 2, 4, 5, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "aeolian": (0, 2, 3, 5, 7, 8, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10),
}
KEYS: dict[str, Mode] = {"ionian": "major", "aeolian": "minor"}
"""Modes that are a key's scale; mir_eval has no name for the others."""

INTERVALS = ("m2", "M2", "m3", "M3", "P4", "TT", "P5", "m6", "M6", "m7", "M7", "P8")
"""1 to 12 semitones."""

TRIADS = {
    (4, 7): ("major", "maj", ("1", "3", "5")),
    (3, 7): ("minor", "min", ("1", "b3", "5")),
    (4, 8): ("aug", "aug", ("1", "3", "#5")),
    (3, 6): ("dim", "dim", ("1", "b3", "b5")),
}
"""Semitones of third and fifth -> SynTheory's class, Harte's quality, and the degree that each tone is in the bass."""
INVERSIONS = ("5", "6", "64")
"""Figured bass of root position, first and second inversion, as the class is called."""

PROGRESSIONS = {
    "ionian": ("1451", "1465", "1564", "1645", "2516", "4156", "4536", "5415", "5641", "6415"),
    "aeolian": ("1251", "1341", "1451", "1637", "1671", "1673", "1764", "4711", "7671"),
}
"""Mode -> scale degrees of the four chords."""

SIGNATURES = ((2, 2), (2, 4), (3, 4), (3, 8), (4, 4), (6, 8), (9, 8), (12, 8))
TEMPI = range(50, 211)
"""Beats per minute."""
TAKES = 4
"""Tracks of a signature in one sound, which begin at different places in the bar."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A metronome: pitches of the downbeat and of the other beats, on a General MIDI program, or on the drum kit (None)."""

    name: str
    program: int | None
    downbeat: int
    other: int


SOUNDS = (
    Sound("default", None, 37, 31),
    Sound("woodblock_dark", 115, 37, 31),
    Sound("woodblock_light", 115, 52, 48),
    Sound("taiko", 116, 52, 48),
    Sound("synth_drum", 118, 52, 48),
)
"""SynTheory's five."""
MORE_SOUNDS = (
    Sound("kit_wood_block", None, 76, 77),
    Sound("kit_bongo", None, 60, 61),
    Sound("kit_conga", None, 63, 64),
    Sound("kit_timbale", None, 65, 66),
    Sound("kit_agogo", None, 67, 68),
    Sound("kit_kick_hat", None, 36, 42),
    Sound("kit_snare_hat", None, 38, 42),
)
"""Ours, for time signatures: a signature's classes must be found in sounds that the probe has not heard it with."""


@dataclass(frozen=True)
class Exercise:
    """What a track plays, apart from its timbre. Its `row` and `unit` decide its split (`musae.corpora.syntheory.split`)."""

    concept: str
    name: str
    """Unique in its concept, safe in a path."""
    group: str
    """Exercises of one group are twins, of which none may be trained on where another is scored."""
    row: int
    """Number of its class."""
    unit: int
    """Number of its root; of the octave for notes, of the sound for time signatures, of the tempo for tempos."""
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Tonal(Exercise):
    """Notes on a melodic instrument, at 120 beats per minute."""

    events: tuple[tuple[int, int, tuple[int, ...]], ...]
    """Beat, length in beats, MIDI pitches."""
    chords: tuple[tuple[int, int, str], ...] = ()
    """First beat, end, Harte label."""
    key: str = ""


@dataclass(frozen=True)
class Clicks(Exercise):
    """A metronome with an accent on each bar's first beat."""

    sound: Sound
    bpm: int
    """Clicks per minute."""
    beats: int
    """Clicks in a bar."""


def exercises() -> Iterator[Tonal | Clicks]:
    """Every exercise, in a fixed order."""
    yield from _notes()
    yield from _intervals()
    yield from _scales()
    yield from _chords()
    yield from _progressions()
    yield from _tempos()
    yield from _time_signatures()


def _notes() -> Iterator[Tonal]:
    for pitch in range(108):
        name, octave = SHARP[pitch % 12], pitch // 12
        yield Tonal(
            concept="notes",
            name=f"{pitch:03d}",
            group=f"{pitch:03d}",
            row=pitch % 12,
            unit=octave,
            attributes={"root_note_pitch_class": name, "octave": str(octave)},
            events=tuple((beat, 2, (pitch,)) for beat in range(0, BEATS, 2)),
        )


def _intervals() -> Iterator[Tonal]:
    for root in range(12):
        for size, name in enumerate(INTERVALS, start=1):
            low, high = 60 + root, 60 + root + size
            for style in ("up", "down", "unison"):
                pair = (low, high) if style == "up" else (high, low)
                played = ((low, high),) if style == "unison" else ((pair[0],), (pair[1],))
                yield Tonal(
                    concept="intervals",
                    name=f"{_safe(root)}-{name}-{style}",
                    group=f"{_safe(root)}-{name}",
                    row=size - 1,
                    unit=root,
                    attributes={"interval": name, "root_note_name": SHARP[root], "play_style": style},
                    events=tuple((beat, 1, played[beat % len(played)]) for beat in range(BEATS)),
                )


def _scales() -> Iterator[Tonal]:
    for row, (mode, steps) in enumerate(MODES.items()):
        for root in range(12):
            for style in ("up", "down"):
                pitches = [_tonic(root) + step for step in (*steps, 12)]
                pitches = pitches if style == "up" else pitches[::-1]
                yield Tonal(
                    concept="scales",
                    name=f"{_safe(root)}-{mode}-{style}",
                    group=f"{_safe(root)}-{mode}",
                    row=row,
                    unit=root,
                    attributes={"mode": mode, "root_note_name": SHARP[root], "play_style": style},
                    events=tuple((beat, 1, (pitch,)) for beat, pitch in enumerate(pitches)),
                    key=str(Key(root, KEYS[mode])) if mode in KEYS else "",
                )


def _chords() -> Iterator[Tonal]:
    for row, ((third, fifth), (kind, _, _)) in enumerate(TRIADS.items()):
        for root in range(12):
            tones = [0, third, fifth, 12, 12 + third]
            for inversion, figures in enumerate(INVERSIONS):
                pitches = tuple(_tonic(root) + tone for tone in tones[inversion : inversion + 3])
                yield Tonal(
                    concept="chords",
                    name=f"{_safe(root)}-{kind}-{figures}",
                    group=f"{_safe(root % 4 if kind == 'aug' else root)}-{kind}",  # C:aug/3 and E:aug are the same notes
                    row=row,
                    unit=root,
                    attributes={"chord_type": kind, "root_note_name": SHARP[root], "inversion": figures},
                    events=tuple((beat, 2, pitches) for beat in range(0, BEATS, 2)),
                    chords=((0, BEATS, _label(SHARP[root], third, fifth, inversion)),),
                )


def _progressions() -> Iterator[Tonal]:
    every = [(mode, degrees) for mode, members in PROGRESSIONS.items() for degrees in members]
    for row, (mode, degrees) in enumerate(every):
        for root in range(12):
            key, events, chords = Key(root, KEYS[mode]), [], []
            for number, degree in enumerate(degrees):
                pitches, label = _triad(key, MODES[mode], int(degree) - 1)
                events.append((2 * number, 2, pitches))
                chords.append((2 * number, 2 * number + 2, label))
            name = f"{mode}-{'-'.join(degrees)}"
            yield Tonal(
                concept="chord_progressions",
                name=f"{_safe(root)}-{name}",
                group=f"{_safe(root)}-{name}",
                row=row,
                unit=root,
                attributes={"chord_progression": name, "key_note_name": SHARP[root]},
                events=tuple(events),
                chords=tuple(chords),
                key=str(key),
            )


def _tempos() -> Iterator[Clicks]:
    for bpm in TEMPI:
        for sound in SOUNDS:
            yield Clicks(
                concept="tempos",
                name=f"{bpm:03d}-{sound.name}",
                group=f"{bpm:03d}",
                row=0,
                unit=bpm,
                attributes={"bpm": str(bpm)},
                sound=sound,
                bpm=bpm,
                beats=4,
            )


def _time_signatures() -> Iterator[Clicks]:
    for row, (beats, value) in enumerate(SIGNATURES):
        for unit, sound in enumerate((*SOUNDS, *MORE_SOUNDS)):
            for take in range(TAKES):
                yield Clicks(
                    concept="time_signatures",
                    name=f"{beats}-{value}-{sound.name}-{take}",
                    group=f"{beats}-{value}-{sound.name}",
                    row=row,
                    unit=unit,
                    attributes={
                        "time_signature": f"{beats}/{value}",
                        "time_signature_beats": str(beats),
                        "time_signature_subdivision": str(value),
                    },
                    sound=sound,
                    bpm=30 * value,
                    beats=beats,
                )


def _triad(key: Key, scale: tuple[int, ...], step: int) -> tuple[tuple[int, ...], str]:
    """Pitches and label of the triad on a step (0-6) of a key's scale, all its tones within the octave above the tonic."""
    above = [scale[(step + n) % 7] for n in (0, 2, 4)]
    third, fifth = ((tone - above[0]) % 12 for tone in above[1:])
    pitches = tuple(sorted(_tonic(key.tonic) + tone for tone in above))
    return pitches, _label(key.name(key.tonic + above[0]), third, fifth, above.index(min(above)))


def _label(root: str, third: int, fifth: int, inversion: int) -> str:
    _, quality, degrees = TRIADS[third, fifth]
    return f"{root}:{quality}" + (f"/{degrees[inversion]}" if inversion else "")


def _tonic(root: int) -> int:
    """The MIDI pitch of a root: 54 to 65."""
    return 60 + (root + 6) % 12 - 6


def _safe(root: int) -> str:
    """A root's name for ids, which hold no ``#``."""
    return SHARP[root].replace("#", "s")
