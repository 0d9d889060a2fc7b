"""The chorales: scores against music21, analyses, derived labels, tunes, splits, renderings.

Reading all pieces takes 6 s once; later runs find them in the cache folder.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from pathlib import Path

import mir_eval
import numpy as np
import pytest

from musae.corpora import chorales
from musae.corpora.chorale_harmony import Chord, Key, agreement, derive_chords, derive_keys
from musae.corpora.chorale_roman import analysis_files, read_analysis, read_numerals
from musae.corpora.chorale_scores import ScoreNote, bach_folder, read_score
from musae.corpora.chorale_tunes import _edits, groups
from musae.corpora.procedural import PROGRAMS
from musae.corpora.track import CONCEPTS, Clip, Split, Truth
from musae.errors import UserError


def score(name):
    path = bach_folder() / f"{name}.mxl"
    return read_score(path if path.exists() else path.with_suffix(".xml"))


@pytest.fixture(scope="module")
def pieces():
    return {piece.score.name: piece for piece in chorales.pieces()}


@pytest.fixture(scope="module")
def corpus():
    return chorales.load()


# Scores


@pytest.mark.parametrize("name", ["bwv66.6", "bwv269", "bwv27.6", "bwv113.8", "bwv67.4", "bwv299"])
def test_notes_are_those_that_music21_reads(name):
    from music21 import converter

    ours = score(name)
    path = next(bach_folder().glob(f"{name}.[mx][xm]l"))
    theirs = converter.parse(path, forceSource=True)
    parts = [p for p in theirs.parts if p.partName.startswith(("Soprano", "Alto", "Tenor", "Bass"))]
    for voice, part in enumerate(parts):
        expected = [
            (float(n.offset), float(n.quarterLength), n.pitch.midi)
            for n in part.stripTies().flatten().notes
            if not n.duration.isGrace
        ]
        found = [(n.onset, n.duration, n.pitch) for n in ours.notes if n.voice == voice]
        assert np.allclose(found, expected, atol=1e-4)
    assert ours.end == pytest.approx(max(n.onset + n.duration for n in ours.notes))


def test_a_pickup_is_the_last_beat_of_its_bar():
    found = score("bwv269")  # 3/4, one quarter before the first bar
    assert (found.bars[0].number, found.bars[0].downbeat, found.bars[0].end) == (0, -2.0, 1.0)
    assert found.beats()[:5] == [(0.0, 3), (1.0, 1), (2.0, 2), (3.0, 3), (4.0, 1)]
    assert found.bars[-1].number == 21


def test_measures_that_a_repeat_sign_splits_are_one_bar():
    found = score("bwv269")  # bar 7 is written as 7 and 7a
    bar = next(b for b in found.bars if b.number == 7)
    assert (bar.end - bar.start, bar.length) == (3.0, 3.0)
    positions = [position for _, position in found.beats()]
    assert all(b == a % 3 + 1 for a, b in itertools.pairwise(positions))


def test_tied_notes_are_one(tmp_path):
    tie = "<note><pitch><step>C</step><octave>4</octave></pitch><duration>4</duration>{}</note>"
    measures = "".join(
        f'<measure number="{i}"><attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time>'
        f"</attributes>{tie.format(t)}</measure>"
        for i, t in enumerate(('<tie type="start"/>', '<tie type="stop"/><tie type="start"/>', '<tie type="stop"/>', ""), 1)
    )
    names = ("Soprano", "Alto", "Tenor", "Bass")
    heads = "".join(f'<score-part id="{n}"><part-name>{n}</part-name></score-part>' for n in names)
    parts = "".join(f'<part id="{n}">{measures}</part>' for n in names)
    file = tmp_path / "tied.xml"
    file.write_text(f"<score-partwise><part-list>{heads}</part-list>{parts}</score-partwise>")
    assert [(n.onset, n.duration, n.pitch) for n in read_score(file).melody()] == [(0.0, 12.0, 60), (12.0, 4.0, 60)]


def test_changes_of_metre_keep_the_beat():
    found = score("bwv27.6")  # 4/4, then 3/2
    assert {b.length for b in found.bars} == {4.0, 6.0}
    times = [time for time, _ in found.beats()]
    assert np.allclose(np.diff(times), 1.0)


@pytest.mark.parametrize(
    ("content", "words"),
    [("<score-partwise>", "not a readable MusicXML"), ("<score-partwise><part-list/></score-partwise>", "0 parts")],
)
def test_a_bad_score_is_named(tmp_path: Path, content, words):
    file = tmp_path / "bad.xml"
    file.write_text(content)
    with pytest.raises(UserError, match=rf"bad\.xml.*{words}"):
        read_score(file)


# Human analyses


def test_an_analysis_lies_on_its_score():
    found = read_analysis(analysis_files()["bwv269"], score("bwv269"))
    assert found.problems == ()
    assert found.analyst == "Andrew Jones"
    labels = [(c.start, c.label()) for c in found.chords[:6]]  # G: I | IV6, V6 on beat 3 | I
    assert labels == [(0.0, "G:maj"), (2.0, "C:maj/3"), (3.0, "D:maj/3"), (4.0, "G:maj"), (5.0, "D:maj"), (6.0, "E:min")]
    assert [k.label() for k in found.keys] == ["G major"]
    assert found.share > 0.99


def test_numerals_are_those_that_music21_reads():
    from music21 import converter, roman

    path = analysis_files()["bwv153.1"]
    theirs = converter.parse(path, format="romanText", forceSource=True).recurse().getElementsByClass(roman.RomanNumeral)
    expected = [(n.figure, n.key.tonicPitchNameWithCase, n.getContextByClass("Measure").number, float(n.beat)) for n in theirs]
    assert [(n.figure.replace("/o", "ø"), n.key, n.bar, n.beat) for n in read_numerals(path)] == expected


def test_every_analysis_is_checked_and_misfits_are_told(corpus):
    checks = {a.score: a for a in corpus.analysis_check()}
    assert len(checks) == 20
    assert {name for name, a in checks.items() if not a.fits} == {"bwv41.6"}
    assert {name: a.transposition for name, a in checks.items() if a.transposition and a.fits} == {"bwv184.5": 7, "bwv145.5": 2}
    assert any("writing out the repeat" in p for p in checks["bwv277"].problems)
    told = "\n".join(corpus.remarks())
    assert all(name in told for name, a in checks.items() if a.problems)


def test_an_analysis_of_another_piece_does_not_fit():
    other = read_analysis(analysis_files()["bwv269"], score("bwv66.6"))
    assert not other.fits
    assert "not used" in other.problems[-1]


# Derived labels


def chorale_of(*chords):
    """Each chord of MIDI pitches, low to high, lasts two quarters."""
    return [ScoreNote(2.0 * i, 2.0, p, len(c) - 1 - v) for i, c in enumerate(chords) for v, p in enumerate(c)]


def test_four_chords_are_read():
    notes = chorale_of((48, 55, 64, 72), (52, 60, 67, 72), (53, 57, 62, 69), (55, 59, 65, 74))
    found = derive_chords(notes, range(8), 8.0)
    assert [(c.start, c.end, c.label()) for c in found] == [
        (0.0, 2.0, "C:maj"),
        (2.0, 4.0, "C:maj/3"),
        (4.0, 6.0, "D:min/b3"),
        (6.0, 8.0, "G:7"),
    ]


def test_a_passing_note_is_no_chord_and_silence_is():
    notes = [n for n in chorale_of((48, 55, 64, 72)) if n.voice] + [ScoreNote(0, 1.5, 72, 0), ScoreNote(1.5, 0.5, 74, 0)]
    assert [c.label() for c in derive_chords(notes, range(3), 3.0)] == ["C:maj", "N"]
    assert [c.label() for c in derive_chords([], range(2), 2.0)] == ["N"]


@pytest.mark.parametrize(("name", "known"), [("bwv66.6", "F# minor"), ("bwv269", "G major")])
def test_known_keys_are_derived(name, known):
    found = score(name)
    keys = derive_keys(found.notes, [b for b, _ in found.beats()], found.end)
    assert (keys[0].start, keys[-1].end) == (0.0, found.end)
    lasting = Counter()
    for key in keys:
        lasting[key.label()] += key.end - key.start
    assert lasting[known] == max(lasting.values())


def test_agreement_is_mir_eval_s():
    found = score("bwv17.7")
    human = read_analysis(analysis_files()["bwv17.7"], found)
    derived = derive_chords(found.notes, [b for b, _ in found.beats()], found.end)
    ours = agreement(human.chords, derived, human.keys, human.keys)
    intervals = [np.array([(c.start, c.end) for c in chords]) for chords in (human.chords, derived)]
    labels = [[c.label() for c in chords] for chords in (human.chords, derived)]
    scores = mir_eval.chord.evaluate(intervals[0], labels[0], intervals[1], labels[1])
    for metric in ("root", "majmin"):
        agreeing, compared = ours[metric]
        assert agreeing / compared == pytest.approx(scores[metric])
    assert ours["key"][0] == ours["key"][1]


def test_derived_labels_agree_with_people(corpus):
    for part, scores in corpus.agreement().items():
        assert scores["root"] > 0.85, part
        assert scores["majmin"] > 0.85, part
        assert scores["key"] > 0.75, part


# Tunes and splits


def test_edits():
    def edits(a, b, prefix):
        rows = [np.array([r + [0] * (5 - len(r))], np.int16) for r in (a, b)]
        lengths = [np.array([len(r)], np.int16) for r in (a, b)]
        return int(_edits(rows[0], lengths[0], rows[1], lengths[1], prefix=prefix)[0])

    assert edits([1, 2, 3], [1, 2, 3], False) == 0
    assert edits([1, 2, 3], [1, 4, 2, 3], False) == 1
    assert edits([1, 2, 3], [1, 2, 3, 7, 7], False) == 2
    assert edits([1, 2, 3], [1, 2, 3, 7, 7], True) == 0
    assert edits([1, 2, 3, 7, 7], [1, 2, 3], True) == 0
    assert edits([5, 6, 7], [1, 2, 3], True) == 3


def test_a_tune_is_known_in_another_key_and_apart_from_another():
    found = [score(name) for name in ("bwv244.15", "bwv244.54", "bwv227.1", "bwv269")]
    assert groups(found) == [0, 0, 2, 3]


def test_known_tunes_are_groups(pieces):
    passion = {"bwv244.15", "bwv244.17", "bwv244.44", "bwv244.54", "bwv244.62", "bwv161.6", "bwv153.5", "bwv135.6", "bwv270"}
    jesu = {"bwv227.1", "bwv227.3", "bwv227.7", "bwv227.11", "bwv64.8", "bwv81.7", "bwv87.7", "bwv358"}
    assert len({pieces[name].group for name in passion}) == 1
    assert len({pieces[name].group for name in jesu}) == 1
    assert pieces["bwv244.15"].group != pieces["bwv227.1"].group


def test_splits_hold_whole_groups_and_all_analysed_pieces(pieces):
    splits = defaultdict(set)
    for piece in pieces.values():
        splits[piece.group].add(piece.split)
    assert all(len(s) == 1 for s in splits.values())
    held_out = [p for p in pieces.values() if p.split is Split.HELDOUT]
    assert len(pieces) >= 300
    assert len(held_out) >= 110
    assert len({p.group for p in held_out}) >= 80
    assert all(pieces[name].split is Split.HELDOUT for name in analysis_files())
    assert sum(p.truth is Truth.ANNOTATED for p in held_out) == 19
    assert {p.truth for p in pieces.values() if p.split is Split.TRAIN} == {Truth.DERIVED}


# Renderings


def test_labels_are_valid_and_lie_in_order(pieces):
    for piece in pieces.values():
        for spans in (piece.chords, piece.keys):
            assert all(s.end > s.start for s in spans)
            assert all(a.end == b.start for a, b in itertools.pairwise(spans))
            assert spans[-1].end == pytest.approx(piece.score.end)
    labels = {c.label(shift) for p in pieces.values() for c in p.chords for shift in (0, 5)}
    for label in sorted(labels):
        mir_eval.chord.encode(label)
    for key in sorted({k.label(shift) for p in pieces.values() for k in p.keys for shift in range(12)}):
        mir_eval.key.validate_key(key)


def test_a_rendering_moves_notes_chords_and_keys_alike(pieces):
    piece = pieces["bwv269"]
    tracks = [chorales.perform(piece, r) for r in range(4)]
    shifts = [track.notes[0].pitch - piece.score.notes[0].pitch for track in tracks]
    assert len(set(shifts)) == 4
    for track, shift in zip(tracks, shifts, strict=True):
        second = 60 / track.annotations.tempo
        assert [n.pitch - shift for n in track.notes] == [n.pitch for n in piece.score.notes]
        assert np.allclose([n.onset for n in track.notes], [n.onset * second for n in piece.score.notes])
        assert np.allclose(np.diff(track.annotations.beats), second)
        assert track.duration == pytest.approx(piece.score.end * second)
        root, *_ = mir_eval.chord.encode(track.annotations.chords[0].label)
        assert root == (7 + shift) % 12
        tonic = mir_eval.key.KEY_TO_SEMITONE[track.annotations.keys[0].label.split()[0].lower()]
        assert tonic == (7 + shift) % 12


def test_tracks_are_as_the_contract_says(corpus):
    for split in Split:
        tracks = corpus.tracks(split)
        some = tracks[:: len(tracks) // 60]
        assert len({t.id for t in some}) == len(some)
        for track in some:
            a = track.annotations
            assert track.split is split
            assert set(a.truth) == set(CONCEPTS)
            assert len(a.beats) == len(a.beat_positions)
            assert a.instruments == {v.family for v in track.voices} <= set(PROGRAMS)
            assert {n.voice for n in track.notes} == set(range(len(track.voices)))
            assert all(1 <= n.velocity <= 127 and 21 <= n.pitch <= 108 for n in track.notes)
            assert [n.onset for n in track.notes] == sorted(n.onset for n in track.notes)
            assert chorales.TEMPI[0] <= a.tempo <= chorales.TEMPI[1]
            assert "public domain" in track.licence


def test_first_tracks_cover_groups_and_pieces(corpus, pieces):
    held_out = [p for p in pieces.values() if p.split is Split.HELDOUT]
    count = len({p.group for p in held_out})
    tracks = corpus.tracks(Split.HELDOUT)
    assert len(tracks) == len(held_out) * chorales.RENDERINGS[Split.HELDOUT]
    assert len({t.group for t in tracks[:count]}) == count
    assert sum(t.annotations.truth["chords"] is Truth.ANNOTATED for t in tracks[:100]) >= 18
    assert len({t.id.rsplit("-", 1)[0] for t in tracks[: len(held_out)]}) == len(held_out)


def test_timbre_tempo_and_key_are_independent_and_balanced(pieces):
    tracks = [chorales.perform(p, r) for p in list(pieces.values())[:150] for r in range(4)]
    count = Counter(name for t in tracks for name in t.annotations.instruments)
    assert set(count) == set(PROGRAMS)
    assert max(count.values()) < 1.6 * min(count.values())
    tempo = np.array([t.annotations.tempo for t in tracks])
    shift = np.array([int(t.source.split(" by ")[1].split()[0]) for t in tracks])
    solo = np.array([len(t.voices) == 1 for t in tracks])
    for a, b in ((tempo, shift), (tempo, solo), (shift, solo)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.12
    assert set(shift) == set(chorales.TRANSPOSITIONS)


def test_the_same_again_and_from_the_cache(pieces, tmp_path, monkeypatch):
    piece = pieces["bwv66.6"]
    assert chorales.perform(piece, 2) == chorales.perform(piece, 2)
    monkeypatch.setenv("MUSAE_CACHE", str(tmp_path))
    monkeypatch.setattr(chorales, "_read_pieces", lambda: (piece, pieces["bwv269"]))
    written = chorales.pieces.__wrapped__()
    monkeypatch.setattr(chorales, "_read_pieces", lambda: pytest.fail("read again in spite of the cache"))
    assert chorales.pieces.__wrapped__() == written
    (file,) = (tmp_path / "chorales").glob("*.json")
    file.write_text(file.read_text()[:-100])
    with pytest.raises(UserError, match=r"damaged.*delete it"):
        chorales.pieces.__wrapped__()


def test_a_clip_sounds(corpus):
    track = corpus.tracks(Split.HELDOUT)[0]
    (audio,) = corpus.audio([Clip(track, 2.0, 1.0)], 32_000, workers=1)
    assert audio.shape == (32_000,)
    assert 0.01 < np.abs(audio).max() <= 1.0


def test_labels_hold_keys_and_chords():
    assert Chord(0, 1, 6, "min7", 10).label(1) == "G:min7/b7"
    assert Chord(0, 1, 0, "X").label(3) == "X"
    assert Key(0, 1, 6, True).label() == "F# minor"
    assert Key(0, 1, 6, False).label(2) == "Ab major"
