"""The procedural corpus: truth that follows from the notes, progressions kept apart, twins that differ in one factor."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter, defaultdict

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musae.corpora import harmony, procedural
from musae.corpora.arrange import METERS
from musae.corpora.procedural import FACTORS, PIECES, compose, perform, twin, twin_piece
from musae.corpora.track import CONCEPTS, Note, Split, Track, Truth
from musae.errors import UserError

pieces = st.builds(compose, st.sampled_from(Split), st.integers(0, 479))


@pytest.fixture(scope="module")
def heldout() -> list[Track]:
    return [perform(compose(Split.HELDOUT, i)) for i in range(48)]


def chord_classes(label: str) -> tuple[set[int], int]:
    """Pitch classes of a Harte label and of its bass, as mir_eval reads them."""
    root, bitmap, bass = mir_eval.chord.encode(label)
    return {int(root + i) % 12 for i in np.flatnonzero(bitmap)}, int(root + bass) % 12


@settings(max_examples=40, deadline=None)
@given(pieces)
def test_annotations_cover_the_track_and_are_read_by_mir_eval(piece: procedural.Piece) -> None:
    track = perform(piece)
    a = track.annotations
    assert track.duration == pytest.approx(30.0)
    for spans in (a.chords, a.keys):
        assert spans[0].start == 0.0
        assert spans[-1].end == pytest.approx(track.duration)
        assert all(x.end == y.start and x.start < x.end for x, y in itertools.pairwise(spans))
    for span in a.chords:
        assert chord_classes(span.label)[0]
    for span in a.keys:
        mir_eval.key.validate_key(span.label)
    assert dict(a.truth) == dict.fromkeys(CONCEPTS, Truth.EXACT)
    assert a.instruments == {track.voices[n.voice].family for n in track.notes}


@settings(max_examples=40, deadline=None)
@given(pieces)
def test_beats_lie_on_the_grid(piece: procedural.Piece) -> None:
    a = perform(piece).annotations
    assert a.tempo == piece.bpm
    np.testing.assert_allclose(np.diff(a.beats), 60 / piece.bpm, rtol=1e-9)
    assert 0 <= a.beats[0] < 60 / piece.bpm
    bar = METERS[piece.meter].beats
    assert all(b == a_ % bar + 1 for a_, b in zip(a.beat_positions, a.beat_positions[1:], strict=False))
    divisions = 2 * 12
    onsets = np.array([n.onset for n in perform(piece).notes if n.onset > 0])
    grid = (onsets - a.beats[0]) / (60 / piece.bpm) * divisions
    np.testing.assert_allclose(grid, np.round(grid), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(pieces)
def test_comping_and_bass_sound_the_annotated_chord(piece: procedural.Piece) -> None:
    """Without walking basses and melody, what sounds from a chord's start is the label's tones, its bass lowest."""
    piece = dataclasses.replace(piece, pattern="block", bass_style="held", melody_program=None, drums=False, bass_program=None)
    track = perform(piece)
    for span in track.annotations.chords[1:]:
        struck = [n.pitch for n in track.notes if abs(n.onset - span.start) < 1e-6]
        classes, bass = chord_classes(span.label)
        assert {p % 12 for p in struck} == classes
        assert min(struck) % 12 == bass


@settings(max_examples=40, deadline=None)
@given(pieces)
def test_bass_is_lowest_in_every_texture(piece: procedural.Piece) -> None:
    track = perform(piece)
    melodic = [n for n in track.notes if not track.voices[n.voice].drums]
    for span in track.annotations.chords[1:]:
        low = min(n.pitch for n in melodic if abs(n.onset - span.start) < 1e-6)
        assert low % 12 == chord_classes(span.label)[1]


@settings(max_examples=60, deadline=None)
@given(pieces, st.sampled_from([None, *FACTORS]))
def test_a_tonic_chord_within_ten_seconds(piece: procedural.Piece, factor: procedural.Factor | None) -> None:
    piece = twin_piece(piece, factor) if factor else piece
    tonic = [s for s in piece.timeline() if s.chord.is_tonic]
    starts = [*[s.start for s in tonic[1:]], piece.timeline()[-1].end]
    gaps = [(start - s.end) * 60 / piece.bpm for s, start in zip(tonic, starts, strict=True)]
    assert max(gaps) <= 10


def test_heldout_progressions_never_occur_in_training() -> None:
    """Over real pieces: no held-out phrase is heard anywhere in a training piece, even across its phrases."""
    heldout = {phrase.degrees for i in range(PIECES[Split.HELDOUT]) for phrase in compose(Split.HELDOUT, i).phrases}
    assert len(heldout) > 200
    lengths = {len(phrase) for phrase in heldout}
    for i in range(0, PIECES[Split.TRAIN], 5):
        heard = harmony.degrees([s.chord for s in compose(Split.TRAIN, i).timeline()])
        for length in lengths:
            for start in range(len(heard) - length + 1):
                assert heard[start : start + length] not in heldout


def test_keys_meters_families_and_tempi_are_spread() -> None:
    composed = [compose(Split.HELDOUT, i) for i in range(240)]
    assert set(Counter(str(p.key) for p in composed).values()) == {10}
    assert len({p.meter for p in composed}) == 5
    families = Counter(procedural.family(p.chords_program) for p in composed)
    assert len(families) == len(procedural.PROGRAMS)
    assert max(families.values()) < 3 * min(families.values())
    logs = np.log([p.bpm for p in composed])
    assert abs(np.corrcoef(logs, [p.register for p in composed])[0, 1]) < 0.15
    assert np.ptp(logs) > 0.95 * np.log(3)


def test_pieces_modulate_in_training_and_rarely_in_heldout() -> None:
    assert np.mean([any(p.step for p in compose(Split.TRAIN, i).phrases) for i in range(200)]) > 0.08
    assert np.mean([any(p.step for p in compose(Split.HELDOUT, i).phrases) for i in range(200)]) < 0.1


def notes_without(track: Track, *fields: str) -> list[tuple[object, ...]]:
    kept = [f.name for f in dataclasses.fields(track.notes[0]) if f.name not in fields]
    return sorted(tuple(getattr(n, f) for f in kept) for n in track.notes)  # type: ignore[type-var]


def in_beats(track: Track) -> list[Note]:
    """Notes in an order that does not hang on the rounding of equal onsets."""
    return sorted(
        track.notes, key=lambda n: (round(n.onset * (track.annotations.tempo or 0) / 60, 6), n.voice, n.pitch, n.velocity)
    )


def melodic(track: Track) -> list[int]:
    return sorted(n.pitch for n in track.notes if not track.voices[n.voice].drums)


def heard(track: Track) -> list[tuple[float, tuple[set[int], int]]]:
    """Start and sound of each chord; where keys meet, one chord may go on under another spelling."""
    chords = [(s.start, chord_classes(s.label)) for s in track.annotations.chords]
    return [c for before, c in zip([None, *chords], chords, strict=False) if before is None or before[1] != c[1]]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 479))
def test_transposed_twin_moves_every_pitch_alike(index: int) -> None:
    track = perform(compose(Split.HELDOUT, index))
    other = twin(track, "transposed")
    assert notes_without(other, "pitch") == notes_without(track, "pitch")
    assert len(set(np.subtract(melodic(other), melodic(track)))) == 1
    interval = melodic(other)[0] - melodic(track)[0]
    assert interval % 12
    for (start, classes), (their_start, theirs) in zip(heard(track), heard(other), strict=True):
        assert their_start == start
        assert theirs == ({(c + interval) % 12 for c in classes[0]}, (classes[1] + interval) % 12)
    for ours, theirs in zip(track.annotations.keys, other.annotations.keys, strict=True):
        tonics = [mir_eval.key.KEY_TO_SEMITONE[s.label.split()[0].lower()] for s in (ours, theirs)]
        assert (tonics[1] - tonics[0] - interval) % 12 == 0
        assert ours.label.split()[1] == theirs.label.split()[1]
    assert (other.annotations.beats, other.annotations.tempo) == (track.annotations.beats, track.annotations.tempo)
    assert other.voices == track.voices


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 479))
def test_tempo_twin_scales_every_time(index: int) -> None:
    track = perform(compose(Split.HELDOUT, index))
    other = twin(track, "tempo")
    assert track.annotations.tempo
    assert other.annotations.tempo
    ratio = track.annotations.tempo / other.annotations.tempo
    assert not 0.85 < ratio < 1.15
    assert 60 <= other.annotations.tempo <= 180
    assert other.duration == pytest.approx(track.duration * ratio)
    for ours, theirs in zip(in_beats(track), in_beats(other), strict=True):
        assert (ours.pitch, ours.velocity, ours.voice) == (theirs.pitch, theirs.velocity, theirs.voice)
        assert theirs.onset == pytest.approx(ours.onset * ratio)
        assert theirs.duration == pytest.approx(ours.duration * ratio)
    assert [s.label for s in other.annotations.chords] == [s.label for s in track.annotations.chords]
    assert other.annotations.beat_positions == track.annotations.beat_positions
    np.testing.assert_allclose(other.annotations.beats, np.multiply(track.annotations.beats, ratio), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 479))
def test_instrument_twin_changes_one_family(index: int) -> None:
    track = perform(compose(Split.HELDOUT, index))
    other = twin(track, "instrument")
    before, after = Counter(v.family for v in track.voices), Counter(v.family for v in other.voices)
    assert sum((after - before).values()) == 1
    assert sum((before - after).values()) <= 1
    assert notes_without(other, "voice") == notes_without(track, "voice")
    assert dataclasses.replace(other.annotations, instruments=frozenset()) == dataclasses.replace(
        track.annotations, instruments=frozenset()
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 479))
def test_mode_twin_changes_pitches_only(index: int) -> None:
    track = perform(compose(Split.HELDOUT, index))
    other = twin(track, "mode")
    assert sorted(notes_without(other, "pitch")) == sorted(notes_without(track, "pitch"))
    assert max(abs(np.subtract(melodic(other), melodic(track)))) <= 2
    ours, theirs = track.annotations.keys[0].label.split(), other.annotations.keys[0].label.split()
    assert ours[1] != theirs[1]
    assert mir_eval.key.KEY_TO_SEMITONE[ours[0].lower()] == mir_eval.key.KEY_TO_SEMITONE[theirs[0].lower()]
    assert (other.annotations.beats, other.annotations.tempo) == (track.annotations.beats, track.annotations.tempo)
    assert other.voices == track.voices


def test_twins_share_the_group_and_not_the_id(heldout: list[Track]) -> None:
    for track in heldout[:8]:
        twins = [twin(track, factor) for factor in FACTORS]
        assert {t.group for t in twins} == {track.group}
        assert len({t.id for t in (track, *twins)}) == 5
        assert {t.split for t in twins} == {track.split}


def test_twins_of_twins_and_unknown_factors_are_refused(heldout: list[Track]) -> None:
    with pytest.raises(UserError, match="not an original"):
        twin(twin(heldout[0], "mode"), "mode")
    with pytest.raises(UserError, match="no factor 'key'"):
        twin(heldout[0], "key")  # type: ignore[arg-type]


def test_pieces_do_not_depend_on_order(heldout: list[Track]) -> None:
    tracks = procedural.load().tracks(Split.HELDOUT)
    assert tracks[7] == heldout[7]
    assert tracks[3] == heldout[3]
    assert [t.id for t in tracks[5:7]] == ["heldout-0005", "heldout-0006"]


def test_melody_tones_outside_the_chord_are_of_the_scale() -> None:
    """A melody tone that is not in the chord is a tone of the key's scale: only the key explains it."""
    foreign: dict[str, int] = defaultdict(int)
    for i in range(30):
        piece = compose(Split.HELDOUT, i)
        for voice, events in procedural._parts(piece, piece.timeline()):
            for event in () if voice.drums else events:
                above = event.chord.semitones(event.step, event.key.mode) % 12
                scale = harmony.SCALES[event.key.mode]
                minor = event.key.mode == "minor" and above in harmony.MELODIC_MINOR
                in_chord = event.step % 7 in event.chord.tones()
                foreign["chord" if in_chord else "scale" if above in scale or minor else "neither"] += 1
    assert foreign["neither"] == 0
    assert foreign["scale"] > 0.03 * foreign["chord"]
