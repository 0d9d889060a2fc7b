"""The Bach chorales of music21's corpus, rendered with General MIDI programs at seeded tempi and in seeded keys.

What is true, and how it is known
---------------------------------
- Notes, beats, tempo and instruments are exact: the score's notes are played in strict time, the rest is drawn per rendering.
- Chords and keys of the chorales that people have analysed (`chorale_roman`) are annotated; of all others, derived from the
  notes (`chorale_harmony`), and `Chorales.agreement` says how well that rule agrees with those people.
- A rendering moves all voices by -5 to +6 semitones, and its chords and keys with them; the renderings of a piece differ in it.
  One beat is 60 to 140 to the minute, log-uniform. Half of the renderings play one program in all voices, a quarter give the
  soprano another, a quarter give every voice its own; families are equally likely and those of a rendering differ. Key, tempo
  and programs are drawn independently; velocity varies a little by voice and note, timing not at all.

Splits
------
A group is a tune (`chorale_tunes`). Held out are all groups with an analysed chorale, then the smallest groups, in the order of
a hash, until there are `HELD_OUT` pieces: so they are in as many groups as can be. Tracks come rendering by rendering: the
first N held-out tracks cover as many groups and pieces as N can.

Left out are files in which the voices rest for over `MOST_REST` of the time (chorales broken up by interludes of the orchestra,
which are not read) and those whose voices have, key aside, the very notes of an earlier file.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from musae.card import CorpusCard
from musae.corpora import chorale_harmony, chorale_roman, chorale_scores, chorale_tunes
from musae.corpora.chorale_harmony import Chord, Key, derive_chords, derive_keys
from musae.corpora.chorale_roman import Analysis, analysis_files, read_analysis
from musae.corpora.chorale_scores import Bar, Score, ScoreNote, read_score, score_files, source_version
from musae.corpora.instruments import family
from musae.corpora.notes import LazyTracks, NoteCorpus
from musae.corpora.procedural import PROGRAMS
from musae.corpora.track import Annotations, Note, Span, Split, Track, Truth, Voice
from musae.errors import UserError
from musae.files import atomic_path, cache_root

CARD = CorpusCard(
    name="chorales",
    summary="Bach's four-part chorales (music21) in seeded keys, tempi and General MIDI timbres; 20 analysed by people.",
    licence="music: public domain; encodings: see each track (Margaret Greentree, by permission; music21's corpus licence)",
    source="music21's packaged corpus; rendered with midirenderer and TimGM6mb",
    truth={
        "chords": ("annotated", "derived"),
        "key": ("annotated", "derived"),
        "tempo": ("exact",),
        "beats": ("exact",),
        "instruments": ("exact",),
    },
)

RENDERINGS = {Split.TRAIN: 7, Split.HELDOUT: 4}
"""Tracks of each piece; 7 give 20 hours to train on."""
HELD_OUT = 120
"""Pieces that are held out at least."""
MOST_REST = 0.25
TEMPI = (60.0, 140.0)
TRANSPOSITIONS = range(-5, 7)

SOURCES = (__file__, *(str(m.__file__) for m in (chorale_scores, chorale_harmony, chorale_roman, chorale_tunes)))
"""The files that pieces are made by."""


@dataclass(frozen=True)
class Piece:
    """A chorale with its place in the corpus and its ground truth in the score's key, in quarters."""

    score: Score
    group: str
    """Name of the first chorale on the same tune."""
    split: Split
    chords: tuple[Chord, ...]
    keys: tuple[Key, ...]
    truth: Truth
    """How chords and keys are known."""


class Chorales(NoteCorpus):
    """The corpus, and how far its labels are to be trusted."""

    def agreement(self) -> dict[str, dict[str, float]]:
        """Agreement of the derived chords and keys with the human analyses, weighted by duration.

        For Riemenschneider 1-10, on which the chord rule's constants were chosen, and for 11-20, which it has not seen:
        ``root`` and ``majmin`` (chord recall as `mir_eval.chord.root` and `majmin` compare), ``key`` (same tonic and mode).
        """
        scores = {piece.score.name: piece.score for piece in pieces()}
        parts: dict[str, list[dict[str, tuple[float, float]]]] = {"1-10": [], "11-20": []}
        for order, analysis in enumerate(self.analysis_check()):
            if analysis.fits:
                score = scores[analysis.score]
                beats = [time for time, _ in score.beats()]
                chords, keys = derive_chords(score.notes, beats, score.end), derive_keys(score.notes, beats, score.end)
                part = parts["1-10" if order < 10 else "11-20"]
                part.append(chorale_harmony.agreement(analysis.chords, chords, analysis.keys, keys))
        return {
            name: {m: sum(r[m][0] for r in rows) / sum(r[m][1] for r in rows) for m in rows[0]} for name, rows in parts.items()
        }

    def analysis_check(self) -> Sequence[Analysis]:
        """The human analyses laid on their scores, Riemenschneider 1-20: what does not fit is in each one's `problems`."""
        scores = {piece.score.name: piece.score for piece in pieces()}
        return [read_analysis(path, scores[name]) for name, path in analysis_files().items()]

    def remarks(self) -> tuple[str, ...]:
        """What a reader of scores on this corpus should know, in sentences."""
        found = pieces()
        sizes = Counter(Counter(p.group for p in found).values())
        remarks = [
            f"{len(found)} chorales in {sum(sizes.values())} groups (tunes) of 1 to {max(sizes)} from {source_version()}.",
            "Repeats are not unfolded; only the voices are read; the beat is that of the first time signature throughout.",
        ]
        for name, scores in self.agreement().items():
            figures = ", ".join(f"{metric} {value:.3f}" for metric, value in scores.items())
            remarks.append(f"Derived labels against people's, Riemenschneider {name}: {figures}.")
        remarks += [f"Analysis of {a.score}: {'; '.join(a.problems)}." for a in self.analysis_check() if a.problems]
        return tuple(remarks)


def load() -> Chorales:
    """The corpus, as its card says."""
    return Chorales(CARD, rules=f"{source_version()} {PROGRAMS}", sources=SOURCES, build=_build)


def _build(split: Split) -> LazyTracks:
    order = _by_turns([piece for piece in pieces() if piece.split is split])
    return LazyTracks(len(order) * RENDERINGS[split], lambda i: perform(order[i % len(order)], i // len(order)))


def _by_turns(found: Iterable[Piece]) -> list[Piece]:
    """One piece of each group, analysed ones first, then a second one, and so on."""
    members: dict[str, list[Piece]] = defaultdict(list)
    for piece in found:
        members[piece.group].append(piece)
    ranked = (sorted(group, key=lambda p: p.truth is not Truth.ANNOTATED) for group in members.values())
    turns = [(turn, piece) for group in ranked for turn, piece in enumerate(group)]
    return [piece for _, piece in sorted(turns, key=lambda t: t[0])]


def perform(piece: Piece, rendering: int) -> Track:
    """The track of a piece's rendering (0 the first): key, tempo and programs follow from the piece's name and the number."""
    score = piece.score
    shifts = list(TRANSPOSITIONS)
    Random(f"chorales/{score.name}/key").shuffle(shifts)
    shift = shifts[rendering % len(shifts)]
    bpm = round(TEMPI[0] * (TEMPI[1] / TEMPI[0]) ** Random(f"chorales/{score.name}/{rendering}/tempo").random(), 2)
    voices, part = _orchestrate(score, Random(f"chorales/{score.name}/{rendering}/programs"))
    touch = Random(f"chorales/{score.name}/{rendering}/velocity")
    level = [touch.uniform(72, 96) for _ in range(score.voices)]
    second = 60 / bpm / score.beat

    def spans(labelled: Iterable[Chord | Key]) -> tuple[Span, ...]:
        return tuple(Span(s.start * second, s.end * second, s.label(shift)) for s in labelled)

    beats = score.beats()
    return Track(
        id=f"{score.name}-{rendering}",
        group=piece.group,
        split=piece.split,
        licence=score.licence,
        duration=score.end * second,
        annotations=Annotations(
            chords=spans(piece.chords),
            keys=spans(piece.keys),
            tempo=bpm,
            beats=tuple(time * second for time, _ in beats),
            beat_positions=tuple(position for _, position in beats),
            instruments=frozenset(v.family for v in voices),
            truth={
                "chords": piece.truth,
                "key": piece.truth,
                "tempo": Truth.EXACT,
                "beats": Truth.EXACT,
                "instruments": Truth.EXACT,
            },
        ),
        voices=voices,
        notes=tuple(
            Note(
                n.onset * second,
                n.duration * second,
                n.pitch + shift,
                round(level[n.voice] + touch.uniform(-5, 5)),
                part[n.voice],
            )
            for n in score.notes
        ),
        source=f"{score.name.upper().replace('BWV', 'BWV ')}, moved by {shift:+d} semitones, {bpm:g} bpm",
    )


def _orchestrate(score: Score, rng: Random) -> tuple[tuple[Voice, ...], list[int]]:
    """Programs of a rendering, and for each voice of the score which of them plays it."""
    kind = rng.random()
    solo = [0] * score.voices
    part = solo if kind < 0.5 else [0] + [1] * (score.voices - 1) if kind < 0.75 else list(range(score.voices))
    families = rng.sample(sorted(PROGRAMS), max(part) + 1)
    programs = [rng.choice(PROGRAMS[name]) for name in families]
    return tuple(Voice(p, family(p)) for p in programs), part


@functools.cache
def pieces() -> tuple[Piece, ...]:
    """All pieces, in the order of their BWV numbers; read once (6 s) and then kept in the cache folder."""
    digest = hashlib.sha256(source_version().encode())
    for source in SOURCES:
        digest.update(Path(source).read_bytes())
    path = cache_root() / "chorales" / f"{digest.hexdigest()[:16]}.json"
    if not path.exists():
        found = _read_pieces()
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps([asdict(piece) for piece in found]), encoding="utf-8")
        return found
    try:
        return tuple(_piece(entry) for entry in json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path}: this cached file is damaged ({error}); delete it.") from error


def _piece(entry: dict) -> Piece:
    score = entry["score"]
    bars, notes = tuple(Bar(**b) for b in score.pop("bars")), tuple(ScoreNote(**n) for n in score.pop("notes"))
    return Piece(
        score=Score(bars=bars, notes=notes, **score),
        group=entry["group"],
        split=Split(entry["split"]),
        chords=tuple(Chord(**c) for c in entry["chords"]),
        keys=tuple(Key(**k) for k in entry["keys"]),
        truth=Truth(entry["truth"]),
    )


def _read_pieces() -> tuple[Piece, ...]:
    scores: dict[tuple[tuple[float, float, int, int], ...], Score] = {}
    for path in score_files():
        score = read_score(path)
        if score.rest() <= MOST_REST:
            first = score.notes[0].pitch
            scores.setdefault(tuple((n.onset, n.duration, n.voice, n.pitch - first) for n in score.notes), score)
    kept = list(scores.values())
    groups = [kept[index].name for index in chorale_tunes.groups(kept)]
    analyses = analysis_files()
    held_out = _held_out({s.name: g for s, g in zip(kept, groups, strict=True)}, analyses)
    found = []
    for score, group in zip(kept, groups, strict=True):
        beats = [time for time, _ in score.beats()]
        chords: Sequence[Chord] = derive_chords(score.notes, beats, score.end)
        keys: Sequence[Key] = derive_keys(score.notes, beats, score.end)
        truth = Truth.DERIVED
        if score.name in analyses and (analysis := read_analysis(analyses[score.name], score)).fits:
            chords, keys, truth = analysis.chords, analysis.keys, Truth.ANNOTATED
        split = Split.HELDOUT if group in held_out else Split.TRAIN
        found.append(Piece(score, group, split, tuple(chords), tuple(keys), truth))
    return tuple(found)


def _held_out(groups: dict[str, str], analysed: Iterable[str]) -> set[str]:
    """Groups that are held out, given each piece's group: see the module's header."""
    sizes = Counter(groups.values())
    chosen = {groups[name] for name in analysed}
    rest = sorted(sizes.keys() - chosen, key=lambda g: (sizes[g], hashlib.sha256(g.encode()).hexdigest()))
    for group in rest:
        if sum(sizes[g] for g in chosen) >= HELD_OUT:
            break
        chosen.add(group)
    return chosen
