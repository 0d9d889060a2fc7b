"""Human Roman-numeral analyses of 20 chorales (RomanText, in music21's corpus): chords and keys on the score's own time line.

Conventions
-----------
- The analyses are by Andrew Jones and Dmitri Tymoczko (``corpus/bach/choraleAnalyses``, Riemenschneider 1-20).
- ``m5 b2.5 V7`` is a chord at beat 2.5 of bar 5 (a beat is the unit of the time signature); it lasts until the next one.
  A key, ``a:`` or ``A:``, holds from the chord that follows it. Alternative readings (``m5var1``) are left out.
- A numeral's pitches are music21's reading of it (`music21.roman`); in minor, the case and sign of VI and VII choose between the
  raised and the natural degree (``Minor67Default.QUALITY``), as music21's own RomanText reader does.
- Bars are counted as `chorale_scores.Bar.number` counts them; a chord outside the score is dropped and reported.
- Three analyses are of another edition: two in another key (moved), one with a repeat sign where the score has the repetition
  written out. An analysis whose chord tones do not sound in the score (`LEAST_SHARE`) is not used. All this is in `problems`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from musae.corpora.chorale_harmony import CHORDS, Chord, Key
from musae.corpora.chorale_scores import EPSILON, Score, bach_folder
from musae.errors import UserError

OTHER_NAMES = {"248(2).12": "248.12-2", "41.6s": "41.6"}
"""BWV numbers as the analyses write them, where music21's files have another."""

LEAST_SHARE = 0.9
"""The least share of an analysis's chord tones that must sound; those that fit have 0.94 and more, one that does not 0.6."""

TOKEN = re.compile(r"b(?P<beat>\d+(?:\.\d+)?)$|(?P<key>[A-Ga-g][#b]*):$|(?P<sign>\|\||:?\|\|:?)$|(?P<figure>\S+)$")
MEASURE = re.compile(r"\s*m(?P<number>\d+)(?P<variant>var\d+)?\s*(?P<rest>.*)$")
METER = re.compile(r"\s*time signature:\s*(\d+)/(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Numeral:
    """A chord of an analysis."""

    bar: int
    beat: float
    """1 on the downbeat."""
    key: str
    """As written: ``f#`` is minor, ``F`` major."""
    figure: str
    unit: float
    """The beat's length in quarters."""
    repeat: bool = False
    """Whether a repeat sign follows."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """A chorale's analysis on its score's time line (quarters), in the score's key."""

    score: str
    analyst: str
    chords: tuple[Chord, ...]
    keys: tuple[Key, ...]
    share: float
    """How much of the chords' tones sounds in the score while their chord lasts, weighted by duration."""
    transposition: int
    """Semitones from the analysis up to the score."""
    problems: tuple[str, ...]
    """What does not fit, in words; empty where bars, beats and key agree as they are written."""

    @property
    def fits(self) -> bool:
        """Whether it may serve as ground truth for this score."""
        return self.share >= LEAST_SHARE


def analysis_files() -> dict[str, Path]:
    """Score name -> its analysis."""
    found = {}
    for path in sorted((bach_folder() / "choraleAnalyses").glob("*.rntxt")):
        bwv = _header(path, "BWV")
        found[f"bwv{OTHER_NAMES.get(bwv, bwv)}"] = path
    return found


def read_numerals(path: Path) -> list[Numeral]:
    """The chords of a RomanText file, in order. Raises UserError at a line that is no RomanText."""
    numerals: list[Numeral] = []
    unit, key = 1.0, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if meter := METER.match(line):
            unit = 4 / int(meter[2])
        measure = MEASURE.match(line)
        if measure is None or measure["variant"]:
            continue
        beat = 1.0
        for word in measure["rest"].split():
            token = TOKEN.match(word)
            if token is None:
                raise UserError(f"{path}: {word!r} in {line!r} is no beat, key or Roman numeral; reinstall music21.")
            if token["beat"]:
                beat = float(token["beat"])
            elif token["key"]:
                key = token["key"]
            elif token["sign"] is None:
                numerals.append(Numeral(int(measure["number"]), beat, key, token["figure"], unit))
            elif word.startswith(":"):
                numerals[-1] = replace(numerals[-1], repeat=True)
    return numerals


def unfold(numerals: Sequence[Numeral]) -> list[Numeral]:
    """Write out the first section that a repeat sign closes, for scores that have its repetition written out."""
    close = next((i for i, n in enumerate(numerals) if n.repeat), None)
    if close is None:
        return list(numerals)
    first, last = numerals[0].bar, numerals[close].bar
    bars = last - max(first, 1) + 1  # a pickup is in the last bar's place
    return [*numerals[: close + 1], *(replace(n, bar=n.bar + bars) for n in (*numerals[: close + 1], *numerals[close + 1 :]))]


def read_analysis(path: Path, score: Score) -> Analysis:
    """Place an analysis on its score's time line, in the score's key, its repetition written out if the score's is."""
    numerals = read_numerals(path)
    problems: list[str] = []
    length = numerals[-1].bar - numerals[0].bar
    expected = score.bars[-1].number - score.bars[0].number
    if length != expected:
        problems.append(f"the analysis ends with bar {numerals[-1].bar}, the score with bar {score.bars[-1].number}")
        unfolded = unfold(numerals)
        if unfolded[-1].bar - unfolded[0].bar == expected:
            numerals = unfolded
            problems.append("aligned by writing out the repeat")
    chords, keys, unplaced = _place(numerals, score)
    problems += unplaced
    shares = [_share(chords, score, shift) for shift in range(12)]
    shift = max(range(12), key=lambda t: shares[t])
    if shift:
        problems.append(f"the analysis is in another key: aligned by moving it up by {shift} semitones")
    if shares[shift] < LEAST_SHARE:
        problems.append(f"only {shares[shift]:.0%} of its chord tones sound in the score: its labels are not used")
    return Analysis(
        score=score.name,
        analyst=_header(path, "Analyst"),
        chords=tuple(replace(c, root=(c.root + shift) % 12) for c in chords),
        keys=tuple(replace(k, tonic=(k.tonic + shift) % 12) for k in keys),
        share=shares[shift],
        transposition=shift,
        problems=tuple(problems),
    )


def _place(numerals: Sequence[Numeral], score: Score) -> tuple[list[Chord], list[Key], list[str]]:
    """Chords and keys on the score's time line as they are written, and what is not in the score."""
    bars = {bar.number: bar for bar in score.bars}
    placed: list[tuple[float, Numeral]] = []
    problems: list[str] = []
    for n in numerals:
        bar = bars.get(n.bar)
        at = bar.downbeat + (n.beat - 1) * n.unit if bar else -1.0
        if bar is None or not bar.start <= at < bar.end or (placed and at < placed[-1][0]):
            problems.append(f"bar {n.bar} beat {n.beat:g} ({n.figure}) is not in the score")
        elif placed and at == placed[-1][0]:
            placed[-1] = (at, n)  # a pivot chord: its later reading, in the new key, stands
        else:
            placed.append((at, n))
    ends = [at for at, _ in placed[1:]] + [score.end]
    chords, keys = [], list[Key]()
    for (at, n), end in zip(placed, ends, strict=True):
        chords.append(Chord(at, end, *_chord(n.figure, n.key)))
        tonic, minor = _tonic(n.key), n.key[0].islower()
        if keys and (keys[-1].tonic, keys[-1].minor) == (tonic, minor):
            keys[-1] = replace(keys[-1], end=end)
        else:
            keys.append(Key(at, end, tonic, minor))
    return chords, keys, problems


def _share(chords: Sequence[Chord], score: Score, shift: int) -> float:
    """Share of the chords' tones, moved by `shift` semitones, that sound while their chord lasts."""
    heard = total = 0.0
    for c in chords:
        tones = {(c.root + interval + shift) % 12 for interval in CHORDS.get(c.quality, ())}
        sounding = {n.pitch % 12 for n in score.notes if n.onset < c.end - EPSILON and n.onset + n.duration > c.start + EPSILON}
        heard += len(tones & sounding) * (c.end - c.start)
        total += len(tones) * (c.end - c.start)
    return heard / total if total else 0.0


def _header(path: Path, field: str) -> str:
    match = re.search(rf"^{field}:\s*(.+?)\s*$", path.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise UserError(f"{path}: its header has no {field!r}; reinstall music21.")
    return match[1]


def _tonic(key: str) -> int:
    """Pitch class of a key as written: ``f#`` -> 6."""
    base = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}[key[0].lower()]
    return (base + key[1:].count("#") - key[1:].count("b")) % 12


@functools.cache
def _chord(figure: str, key: str) -> tuple[int, str, int]:
    """Root's pitch class, quality (a key of `CHORDS`, or ``X``), and the bass's interval above the root in semitones."""
    from music21 import roman  # a second to import, and only the analyses need it

    minor67 = roman.Minor67Default.QUALITY
    tonic = key[0] + key[1:].replace("b", "-")
    numeral = roman.RomanNumeral(figure, tonic, sixthMinor=minor67, seventhMinor=minor67)
    root, bass = numeral.root().pitchClass, numeral.bass().pitchClass
    shape = frozenset((p.pitchClass - root) % 12 for p in numeral.pitches)
    quality = next((name for name, intervals in CHORDS.items() if frozenset(intervals) == shape), "X")
    return root, quality, (bass - root) % 12
