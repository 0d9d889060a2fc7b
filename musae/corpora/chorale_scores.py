"""Scores of the Bach chorales in music21's packaged corpus: exact notes, bars and beats, read straight from MusicXML.

music21 parses a chorale in 0.1-0.3 s; reading the XML takes 5 ms (and needs no import of music21), so nothing is cached here.
A test holds this reader against music21's own.

Conventions
-----------
- Times are in quarter notes from the first written beat; nothing is unfolded: repeats are ignored, endings follow each other.
- Only the singing voices are kept (parts named Soprano, Alto, Tenor, Bass: four, in two pieces five), numbered from the top;
  obbligato instruments, which most files lack, are not. Grace notes and ornaments are dropped. Tied notes are one note.
- A piece ends with its last note: rests after it are cut.
- A bar is the metrical one: a pickup, and the two halves of a bar that a repeat sign splits, get their true places in it.
- A beat is the unit of the piece's first time signature (x/4 a quarter, 3/2 a half, 12/8 a dotted quarter), and stays it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from musae.errors import UserError

VOICE = re.compile(r"\s*(Soprano|Alto|Tenor|Bass)\b")
"""Names of the parts that are kept."""

NOT_CHORALES = frozenset({"bwv846"})
"""Files in music21's ``corpus/bach`` that are no chorales."""

EPSILON = 1e-6
"""Quarters: times closer than this are the same."""

STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}

UNSTATED_LICENCE = (
    "music: public domain; encoding: as music21's corpus/license.txt (by permission; commercial use may be restricted)"
)


@dataclass(frozen=True, slots=True)
class ScoreNote:
    """Onset and duration in quarters, MIDI pitch, voice (0 the highest), and whether a fermata stands on it."""

    onset: float
    duration: float
    pitch: int
    voice: int
    fermata: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A metrical bar: when its (perhaps unwritten) downbeat is, which part of it is written, its full length and number."""

    downbeat: float
    start: float
    end: float
    length: float
    number: int
    """0 for a pickup, else from 1: as analysts count."""
    printed: str
    """The number in the file."""


@dataclass(frozen=True)
class Score:
    """One chorale."""

    name: str
    """The file's stem: ``bwv269``."""
    licence: str
    beat: float
    """Length of the beat in quarters."""
    fifths: int
    """Sharps (positive) or flats of the first key signature."""
    voices: int
    bars: tuple[Bar, ...]
    notes: tuple[ScoreNote, ...]
    """Sorted by onset, then voice."""

    @property
    def end(self) -> float:
        """End of the last bar, in quarters."""
        return self.bars[-1].end

    def beats(self) -> list[tuple[float, int]]:
        """Each beat's time in quarters and its position in the bar, 1 on the downbeat."""
        found = []
        for bar in self.bars:
            count = round(bar.length / self.beat)
            times = [bar.downbeat + i * self.beat for i in range(count)]
            found += [(t, i + 1) for i, t in enumerate(times) if bar.start - EPSILON <= t < bar.end - EPSILON]
        return found

    def rest(self) -> float:
        """Share of the time in which no voice sounds."""
        silent, now = 0.0, 0.0
        for n in self.notes:
            silent += max(0.0, n.onset - now)
            now = max(now, n.onset + n.duration)
        return (silent + max(0.0, self.end - now)) / self.end

    def melody(self) -> list[ScoreNote]:
        """The soprano's notes."""
        return [n for n in self.notes if n.voice == 0]


def bach_folder() -> Path:
    """music21's ``corpus/bach``, found without importing music21. Raises UserError when its corpus is missing."""
    spec = importlib.util.find_spec("music21")
    folder = Path(spec.origin).parent / "corpus" / "bach" if spec and spec.origin else Path("music21/corpus/bach")
    if not folder.is_dir():
        raise UserError(f"{folder}: the corpus that ships with music21 is missing; install it with `pip install music21`.")
    return folder


def source_version() -> str:
    """Which music21 the scores come from."""
    return f"music21 {importlib.metadata.version('music21')}"


def score_files() -> list[Path]:
    """The chorales' files, in the order of their BWV numbers."""
    files = [p for p in bach_folder().iterdir() if p.suffix in (".mxl", ".xml") and p.stem not in NOT_CHORALES]
    return sorted(files, key=lambda p: [(int(n or 0), t) for n, t in re.findall(r"(\d*)(\D*)", p.stem[3:])])


def read_score(path: Path) -> Score:
    """Read a MusicXML file, compressed (.mxl) or not. Raises UserError when it is broken or has not four voices at least."""
    try:
        root = ElementTree.fromstring(_text(path))
    except (OSError, zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise UserError(f"{path}: not a readable MusicXML file ({error}); reinstall music21.") from error
    names = {p.get("id"): p.findtext("part-name") or "" for p in root.iter("score-part")}
    parts = [p for p in root.iter("part") if VOICE.match(names.get(p.get("id"), ""))]
    if len(parts) < 4:
        raise UserError(f"{path}: {len(parts)} parts are named Soprano, Alto, Tenor or Bass; a chorale has four.")
    events = [_events(part) for part in parts]
    measures = _measures(events, [m.get("number", "") for m in parts[0].iter("measure")])
    notes = [note for voice, rows in enumerate(events) for note in _notes(rows, voice, measures)]
    sounds_until = max((n.onset + n.duration for n in notes), default=0.0)
    bars = tuple(replace(b, end=min(b.end, sounds_until)) for b in _bars(measures) if b.start < sounds_until)
    return Score(
        name=path.stem,
        licence=_licence(root),
        beat=measures[0].beat,
        fifths=int(parts[0].findtext(".//key/fifths") or 0),
        voices=len(parts),
        bars=bars,
        notes=tuple(sorted(notes, key=lambda n: (n.onset, n.voice))),
    )


@dataclass(frozen=True, slots=True)
class _Measure:
    start: float
    duration: float
    full: float
    beat: float
    printed: str


def _text(path: Path) -> bytes:
    if path.suffix != ".mxl":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("xml") and not n.startswith("META-INF"))
        return archive.read(name)


Event = tuple[str, float, float, ElementTree.Element]
"""Tag, start within the measure and duration in quarters, and the element itself."""


def _events(part: ElementTree.Element) -> list[list[Event]]:
    """A part's events, measure by measure."""
    divisions = 1.0
    found: list[list[Event]] = []
    for measure in part.iter("measure"):
        cursor = previous = 0.0
        row: list[Event] = []
        for element in measure:
            if element.tag == "attributes":
                divisions = float(element.findtext("divisions") or divisions)
            quarters = float(element.findtext("duration") or 0) / divisions
            if element.tag == "backup":
                quarters = -quarters
            start = cursor
            if element.find("chord") is not None:
                start = previous
            elif element.tag in ("note", "forward", "backup"):
                previous, cursor = cursor, cursor + quarters
            row.append((element.tag, start, quarters, element))
        found.append(row)
    return found


def _measures(parts: list[list[list[Event]]], printed: list[str]) -> list[_Measure]:
    """The written measures, with the numbers printed on them; each as long as the longest voice in it."""
    full, beat, start = 4.0, 1.0, 0.0
    found: list[_Measure] = []
    for index, number in enumerate(printed):
        rows = [part[index] for part in parts if index < len(part)]
        for _, _, _, element in rows[0]:
            time = element.find("time")
            if time is not None:
                count, unit = int(time.findtext("beats") or 4), int(time.findtext("beat-type") or 4)
                compound = unit == 8 and count % 3 == 0
                full, beat = 4 * count / unit, (3 if compound else 1) * 4 / unit
        duration = max((at + quarters for row in rows for tag, at, quarters, _ in row if tag in ("note", "forward")), default=0.0)
        found.append(_Measure(start, duration, full, beat, number))
        start += duration
    return found


def _notes(rows: list[list[Event]], voice: int, measures: list[_Measure]) -> list[ScoreNote]:
    """A voice's notes, ties merged."""
    found: list[ScoreNote] = []
    for measure, row in zip(measures, rows, strict=False):
        for tag, at, quarters, element in row:
            pitch = element.find("pitch")
            if tag != "note" or pitch is None or element.find("grace") is not None:
                continue
            alter, octave = int(float(pitch.findtext("alter") or 0)), int(pitch.findtext("octave", "4"))
            midi = 12 * (octave + 1) + STEPS[pitch.findtext("step", "C")] + alter
            onset = round(measure.start + at, 6)
            ties = {t.get("type") for t in element.iter("tie")}
            last = found[-1] if found else None
            fermata = element.find(".//fermata") is not None
            if last and "stop" in ties and last.pitch == midi and abs(last.onset + last.duration - onset) < 1e-4:
                found[-1] = ScoreNote(last.onset, round(onset + quarters - last.onset, 6), midi, voice, last.fermata or fermata)
            else:
                found.append(ScoreNote(onset, round(quarters, 6), midi, voice, fermata))
    return found


def _bars(measures: list[_Measure]) -> tuple[Bar, ...]:
    """Join the measures that a repeat sign splits, place the pickup at the end of its bar, cut a measure of several bars."""
    bars: list[Bar] = []
    for m in measures:
        start, end = m.start, m.start + m.duration
        last = bars[-1] if bars else None
        if m.duration < m.full - EPSILON:
            if last is None:
                bars.append(Bar(end - m.full, start, end, m.full, 0, m.printed))
                continue
            room = last.length - (last.end - last.downbeat)
            if room > EPSILON and m.duration <= room + EPSILON and last.number > 0:
                bars[-1] = Bar(last.downbeat, last.start, end, last.length, last.number, last.printed)
                continue
        number = last.number + 1 if last else 1
        while start < end - EPSILON:
            bars.append(Bar(start, start, min(start + m.full, end), m.full, number, m.printed))
            start, number = start + m.full, number + 1
    return tuple(bars)


def _licence(root: ElementTree.Element) -> str:
    """What the file itself says of rights, else music21's statement on its corpus."""
    texts = [element.text or "" for tag in ("rights", "credit-words") for element in root.iter(tag)]
    stated = [text.strip() for text in texts if re.search("©|permission", text)]
    if not stated:
        return UNSTATED_LICENCE
    return "music: public domain; encoding: " + ", ".join(dict.fromkeys(re.sub(r"\s+", " ", s) for s in stated))
