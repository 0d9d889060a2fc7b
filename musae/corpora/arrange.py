"""Progression -> parts: comping, bass, melody and drums of a procedural piece, in beats.

Lines are composed in steps of the scale and realised in key and mode at the very end, and each part draws from a random stream
of its own: so a change of key, mode, tempo or program changes nothing else. Comping holds chord tones only and the bass, always
the lowest part, holds the chord's bass (walking basses pass on weak beats), so that chord labels are true by construction.
The melody puts chord tones on the beats, but for appoggiaturas, and joins them by passing and neighbour tones of the scale: what
comes next follows from key and metre.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from musae.corpora.harmony import Chord, Key


@dataclass(frozen=True, slots=True)
class Meter:
    """Annotated beats in a bar, and how a beat divides: 2, or 3 in compound metres."""

    beats: int
    division: int


METERS = {"4/4": Meter(4, 2), "3/4": Meter(3, 2), "2/4": Meter(2, 2), "6/8": Meter(2, 3), "12/8": Meter(4, 3)}

DRUM_PATTERNS: dict[str, tuple[dict[int, str], ...]] = {
    "4/4": (
        {36: "x...x...", 38: "..x...x.", 42: "xxxxxxxx"},
        {36: "x..x....", 38: "..x...x.", 42: "x.x.x.x.", 46: ".......x"},
        {36: "x.x.x.x.", 39: "..x...x.", 46: ".x.x.x.x"},
        {36: "x.....x.", 37: "...x..x.", 51: "x.xxx.xx"},
    ),
    "3/4": ({36: "x.....", 38: "..x.x.", 42: "x.x.x."}, {36: "x.....", 37: "....x.", 51: "x.xxx."}),
    "2/4": ({36: "x...", 38: "..x.", 42: "xxxx"}, {36: "x..x", 38: "..x.", 54: ".x.x"}),
    "6/8": ({36: "x.....", 38: "...x..", 42: "xxxxxx"}, {36: "x....x", 37: "...x..", 51: "x.xx.x"}),
    "12/8": (
        {36: "x.....x....x", 38: "...x.....x..", 42: "xxxxxxxxxxxx"},
        {36: "x.....x.....", 38: "...x.....x..", 51: "x.xx.xx.xx.x"},
    ),
}
"""Metre -> bars of drums: General MIDI drum -> one character per division of the beat, ``x`` where it is struck."""


@dataclass(frozen=True, slots=True)
class Event:
    """A note in beats from the piece's first downbeat; `step` counts scale steps (7 to the octave), or is a drum's MIDI pitch."""

    beat: float
    length: float
    step: int
    velocity: int
    chord: Chord
    key: Key


@dataclass(frozen=True, slots=True)
class Sounding:
    """A chord in its place: first and last beat, key, and the seed of its phrase."""

    chord: Chord
    key: Key
    start: int
    end: int
    phrase: int
    """Where its phrase begins, in beats."""
    seed: int
    """The phrase's own; a phrase that returns has the same."""


def comping(timeline: Sequence[Sounding], meter: Meter, pattern: str, divisions: int, rng: Random) -> Iterator[Event]:
    """The chords, in one of `PATTERNS`; `divisions` notes a beat where the pattern runs. Voicings move as little as they can."""
    centre = rng.choices((0, 1, 2, 3))[0]
    voicing: list[int] = []
    for sounding in timeline:
        voicing = _voicing(sounding.chord, voicing, centre)
        for offset, length, members in PATTERNS[pattern](sounding, meter, divisions, len(voicing)):
            velocity = _velocity(70, offset, meter, rng)
            for member in members:
                yield Event(offset, length, voicing[member], velocity, sounding.chord, sounding.key)


def _voicing(chord: Chord, previous: Sequence[int], centre: int) -> list[int]:
    """The chord in close position, above any bass: the one nearest to the previous voicing and to the centre."""
    tones = chord.tones()

    def stack(lowest: int) -> list[int]:
        return sorted(lowest + (tone - lowest) % 7 for tone in tones)

    def distance(voicing: list[int]) -> float:
        mean = sum(voicing) / len(voicing)
        before = sum(previous) / len(previous) if previous else centre
        return abs(mean - before) + 0.5 * abs(mean - centre)

    return min((stack(lowest) for lowest in range(centre - 6, centre + 3) if lowest % 7 in tones), key=distance)


Hit = tuple[float, float, Sequence[int]]
"""Beat, length in beats, and which of the voicing's tones are struck."""


def _block(s: Sounding, meter: Meter, divisions: int, size: int) -> Iterator[Hit]:
    return ((beat, 0.9, range(size)) for beat in range(s.start, s.end))


def _sustained(s: Sounding, meter: Meter, divisions: int, size: int) -> Iterator[Hit]:
    starts = [b for b in range(s.start, s.end) if b == s.start or b % meter.beats == 0]
    for start, end in zip(starts, [*starts[1:], s.end], strict=True):
        yield start, end - start - 0.05, range(size)


def _repeated(s: Sounding, meter: Meter, divisions: int, size: int) -> Iterator[Hit]:
    for n in range((s.end - s.start) * divisions):
        yield s.start + n / divisions, 0.6 / divisions, range(size)


def _offbeat(s: Sounding, meter: Meter, divisions: int, size: int) -> Iterator[Hit]:
    """Oom-pah: after the bass; on beats two and three of a waltz, else on each beat's last division."""
    for beat in range(s.start, s.end):
        if meter.beats == 3 and s.end - s.start > 1:
            if beat % 3:
                yield beat, 0.5, range(size)
        else:
            yield beat + 1 - 1 / meter.division, 0.8 / meter.division, range(size)


def _syncopated(s: Sounding, meter: Meter, divisions: int, size: int) -> Iterator[Hit]:
    for beat in range(s.start, s.end):
        late = 0.0 if beat == s.start else 1 - 1 / meter.division
        yield beat + late, 0.9 / meter.division, range(size)


def _running(order: Sequence[int], s: Sounding, divisions: int) -> Iterator[Hit]:
    for n in range((s.end - s.start) * divisions):
        yield s.start + n / divisions, 1.1 / divisions, (order[n % len(order)],)


def _arpeggio(s: Sounding, meter: Meter, divisions: int, size: int) -> Iterator[Hit]:
    return _running(range(size), s, divisions)


def _up_and_down(s: Sounding, meter: Meter, divisions: int, size: int) -> Iterator[Hit]:
    return _running([*range(size), *range(size - 2, 0, -1)], s, divisions)


def _alberti(s: Sounding, meter: Meter, divisions: int, size: int) -> Iterator[Hit]:
    return _running([0, size - 1, *range(1, size - 1), size - 1], s, divisions)


PATTERNS = {
    "block": _block,
    "sustained": _sustained,
    "repeated": _repeated,
    "offbeat": _offbeat,
    "syncopated": _syncopated,
    "arpeggio": _arpeggio,
    "up and down": _up_and_down,
    "alberti": _alberti,
}
BASSES = ("held", "beats", "octaves", "walking")


def bass(timeline: Sequence[Sounding], meter: Meter, style: str, rng: Random) -> Iterator[Event]:
    """The chord's bass note: held, on the beats, in octaves, or walking towards the next chord's."""
    lowest = rng.choices((-16, -15, -14))[0]

    def bass_of(s: Sounding) -> int:
        return lowest + (s.chord.tones()[s.chord.inversion] - lowest) % 7

    for number, s in enumerate(timeline):
        root = bass_of(s)
        target = bass_of(timeline[min(number + 1, len(timeline) - 1)])
        for beat in range(s.start, s.end):
            velocity = _velocity(78, beat, meter, rng)
            first = beat == s.start
            if style == "held":
                if first or beat % meter.beats == 0:
                    end = min(s.end, beat - beat % meter.beats + meter.beats)
                    yield Event(beat, end - beat - 0.05, root, velocity, s.chord, s.key)
            elif style == "octaves":
                yield Event(beat, 0.45, root, velocity, s.chord, s.key)
                yield Event(beat + 1 - 1 / meter.division, 0.3, root + 7, velocity - 12, s.chord, s.key)
            else:
                last = beat == s.end - 1 and not first and style == "walking" and target != root
                step = target + (1 if root > target else -1) if last else root
                yield Event(beat, 0.85, step, velocity, s.chord, s.key)


def melody(timeline: Sequence[Sounding], meter: Meter, busy: float, seed: str) -> Iterator[Event]:
    """A line over each phrase: two rhythms of a bar, arranged A A B A; `busy` is the chance that a beat is divided."""
    centre = Random(f"{seed}/centre").choices((6, 7, 8, 9))[0]
    for phrase in sorted({s.phrase for s in timeline}):
        chords = [s for s in timeline if s.phrase == phrase]
        yield from _melodic_phrase(chords, meter, busy, centre, Random(f"{seed}/{chords[0].seed}"))


def _melodic_phrase(chords: Sequence[Sounding], meter: Meter, busy: float, centre: int, rng: Random) -> Iterator[Event]:
    def rhythm() -> list[str]:
        held = [0.0, *[0.2] * (meter.beats - 1)]
        return [rng.choices(("one", "split", "dotted", "held", "rest"), (1 - busy, busy, 0.12, h, 0.05))[0] for h in held]

    bars = (rhythm(), rhythm())
    sounding = [s for s in chords for _ in range(s.start, s.end)]
    kinds: list[str] = []
    for place, s in enumerate(sounding):
        bar, beat = divmod(place, meter.beats)
        close = s is chords[-1]
        kinds.append(("one" if s.start == s.phrase + place else "held") if close else bars[(0, 0, 1, 0)[bar % 4]][beat])

    anchors: list[int | None] = []
    now = centre + rng.choices(range(-2, 3))[0]
    for s, kind in zip(sounding, kinds, strict=True):
        if kind == "rest" or (kind == "held" and now % 7 in s.chord.tones()):
            anchors.append(None)
            continue
        pull = 1 if now < centre - 5 else -1 if now > centre + 5 else 0
        aim = now + rng.choices(range(-3, 4), (1, 2, 3, 1.5, 3, 2, 1))[0] + 2 * pull
        now = min(range(aim - 3, aim + 4), key=lambda step, c=s.chord: (step % 7 not in c.tones(), abs(step - aim), step))  # type: ignore[misc]
        anchors.append(now)

    for place, (s, kind, anchor) in enumerate(zip(sounding, kinds, anchors, strict=True)):
        if anchor is None:
            continue
        following = next((a for a in anchors[place + 1 :] if a is not None), anchor)
        held = place + 1
        while held < len(kinds) and anchors[held] is None and kinds[held] == "held":
            held += 1
        beat, extra = s.phrase + place, held - place - 1
        for offset, length, step in _figure(kind, anchor, following, meter.division, rng):
            long = length + extra if offset + length > 1 - 1e-9 else length
            yield Event(beat + offset, long * 0.95, step, _velocity(84, beat + offset, meter, rng), s.chord, s.key)


def _figure(kind: str, anchor: int, following: int, division: int, rng: Random) -> list[tuple[float, float, int]]:
    """How a beat goes from its anchor towards the next one: offset and length in beats, and step."""
    leap = following - anchor
    towards = (leap > 0) - (leap < 0) or rng.choices((-1, 1))[0]
    leaning = rng.random() < 0.15
    first = [anchor - towards, anchor] if leaning else [anchor, anchor + towards]
    if kind == "dotted":
        return (
            [(0.0, 0.75, first[0]), (0.75, 0.25, first[1])]
            if division == 2
            else [(0.0, 2 / 3, first[0]), (2 / 3, 1 / 3, first[1])]
        )
    if kind != "split":
        return [(0.0, 0.5, first[0]), (0.5, 0.5, first[1])] if leaning and division == 2 else [(0.0, 1.0, anchor)]
    steps = first if division == 2 else [*first, first[1] + (towards if abs(leap) > 2 or leaning else -towards)]
    return [(n / division, 1 / division, step) for n, step in enumerate(steps)]


def drums(timeline: Sequence[Sounding], meter_name: str, rng: Random) -> Iterator[Event]:
    """One bar of `DRUM_PATTERNS`, repeated."""
    meter = METERS[meter_name]
    pattern = rng.choices(DRUM_PATTERNS[meter_name])[0]
    for s in timeline:
        for beat in range(s.start, s.end):
            for drum, struck in pattern.items():
                for n in range(meter.division):
                    if struck[(beat % meter.beats) * meter.division + n] == "x":
                        when = beat + n / meter.division
                        yield Event(when, 0.5 / meter.division, drum, _velocity(76, when, meter, rng), s.chord, s.key)


def _velocity(base: int, beat: float, meter: Meter, rng: Random) -> int:
    """Louder on downbeats, softer between beats, and never twice quite the same."""
    accent = 18 if beat % meter.beats == 0 else 6 if beat % 1 == 0 else -8
    return base + accent + int(rng.random() * 7) - 3
