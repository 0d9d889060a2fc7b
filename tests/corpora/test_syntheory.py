"""SynTheory's exercises: the paper's classes, labels that mir_eval derives from the notes too, and audio measured."""

from __future__ import annotations

from collections import Counter, defaultdict

import mir_eval
import numpy as np
import pytest
from click.testing import CliRunner

from musae.cli import main
from musae.corpora import syntheory
from musae.corpora.describe import describe
from musae.corpora.export import to_jams
from musae.corpora.instruments import family
from musae.corpora.render import Segment, render
from musae.corpora.syntheory_concepts import Clicks, Tonal, exercises
from musae.corpora.track import Clip, Note, Split, Track, Voice

RATE = 16_000

CLASSES = {
    "chord_progressions": {"chord_progression": 19, "key_note_name": 12},
    "chords": {"chord_type": 4, "inversion": 3, "root_note_name": 12},
    "scales": {"mode": 7, "root_note_name": 12, "play_style": 2},
    "intervals": {"interval": 12, "root_note_name": 12, "play_style": 3},
    "notes": {"root_note_pitch_class": 12, "octave": 9},
    "time_signatures": {"time_signature": 8, "time_signature_beats": 6, "time_signature_subdivision": 3},
    "tempos": {"bpm": 161},
}
"""Of the paper's code, ``probe/probe_config.py``, and the play styles."""


@pytest.fixture(scope="module")
def tracks() -> dict[Split, list[Track]]:
    corpus = syntheory.load()
    return {split: list(corpus.tracks(split)) for split in Split}


def every(tracks: dict[Split, list[Track]], concept: str) -> list[Track]:
    return [track for split in Split for track in tracks[split] if track.annotations.attributes["concept"] == concept]


@pytest.mark.parametrize("concept", CLASSES)
def test_the_paper_s_classes_all_have_groups_enough_to_be_probed(tracks: dict[Split, list[Track]], concept: str) -> None:
    for name, count in CLASSES[concept].items():
        assert len({track.annotations.attributes[name] for track in every(tracks, concept)}) == count
        groups = defaultdict(set)
        for track in tracks[Split.HELDOUT]:
            if track.annotations.attributes["concept"] == concept:
                groups[track.annotations.attributes[name]].add(track.group)
        if concept == "tempos":  # a number to regress on: tempi held out lie between others
            assert len(groups) == 121
        else:
            assert len(groups) == count
            assert min(len(members) for members in groups.values()) >= 3, name
    train, heldout = (
        Counter(t.group for t in tracks[split] if t.annotations.attributes["concept"] == concept) for split in Split
    )
    assert not train.keys() & heldout.keys()
    assert 0.7 < len(heldout) / (len(train) + len(heldout)) < 0.8


def test_the_same_notes_are_never_in_two_groups() -> None:
    groups = defaultdict(set)
    for exercise in exercises():
        if isinstance(exercise, Tonal):
            played = frozenset((beat, pitch) for beat, _, pitches in exercise.events for pitch in pitches)
            groups[exercise.concept, played].add(exercise.group)
    assert all(len(members) == 1 for members in groups.values())


def test_the_sizes_of_the_paper() -> None:
    """Contents of its data sets, without instruments: 108 notes, 39,744 / 92 intervals, ..."""
    contents = Counter(exercise.concept for exercise in exercises() if isinstance(exercise, Tonal))
    assert contents == {
        "notes": 9_936 // 92,
        "intervals": 39_744 // 92,
        "scales": 15_456 // 92,
        "chords": 13_248 // 92,
        "chord_progressions": 20_976 // 92,
    }
    tempos = [exercise for exercise in exercises() if isinstance(exercise, Clicks) and exercise.concept == "tempos"]
    assert len(tempos) == 4_025 // 5


def test_chord_labels_are_what_sounds(tracks: dict[Split, list[Track]]) -> None:
    """mir_eval's pitch classes and bass of each label against the notes."""
    found = every(tracks, "chords") + every(tracks, "chord_progressions")
    seen = Counter()
    for track in found:
        spans = track.annotations.chords
        assert sum(span.end - span.start for span in spans) == pytest.approx(track.duration)
        for span in spans:
            pitches = sorted(
                {n.pitch for n in track.notes if n.onset < span.end - 1e-6 and n.onset + n.duration > span.start + 1e-6}
            )
            seen[span.label.partition(":")[2]] += 1
            if span.label == "N":
                assert not pitches
                continue
            root, bitmap, bass = mir_eval.chord.encode(span.label)
            assert {(pitch - root) % 12 for pitch in pitches} == set(np.flatnonzero(bitmap)), (track.id, span)
            assert (pitches[0] - root) % 12 == bass, (track.id, span)
    assert {"maj", "maj/3", "maj/5", "min/b3", "aug/#5", "dim/b5"} <= set(seen)


def test_attributes_are_what_sounds(tracks: dict[Split, list[Track]]) -> None:
    names = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
    for track in every(tracks, "intervals"):
        a, pitches = track.annotations.attributes, [note.pitch for note in track.notes]
        size = 1 + ("m2", "M2", "m3", "M3", "P4", "TT", "P5", "m6", "M6", "m7", "M7", "P8").index(a["interval"])
        assert (max(pitches) - min(pitches), names[min(pitches) % 12]) == (size, a["root_note_name"])
        assert {"up": size, "down": -size, "unison": size}[a["play_style"]] == pitches[1] - pitches[0]
        assert (track.notes[0].onset == track.notes[1].onset) == (a["play_style"] == "unison")
    white = {"ionian": 0, "dorian": 2, "phrygian": 4, "lydian": 5, "mixolydian": 7, "aeolian": 9, "locrian": 11}
    for track in every(tracks, "scales"):
        a, pitches = track.annotations.attributes, [note.pitch for note in track.notes][:8]
        tonic = min(pitches)
        assert names[tonic % 12] == a["root_note_name"]
        moved = {(pitch - tonic + white[a["mode"]]) % 12 for pitch in pitches}  # to the white keys
        assert moved == {0, 2, 4, 5, 7, 9, 11}, track.id
        assert pitches == sorted(pitches, reverse=a["play_style"] == "down")
        keys = [span.label for span in track.annotations.keys]
        assert bool(keys) == (a["mode"] in ("ionian", "aeolian"))
    for track in every(tracks, "notes"):
        [pitch] = {note.pitch for note in track.notes}
        a = track.annotations.attributes
        assert (names[pitch % 12], str(pitch // 12)) == (a["root_note_pitch_class"], a["octave"])


def test_clicks_have_their_signature(tracks: dict[Split, list[Track]]) -> None:
    for track in every(tracks, "time_signatures") + every(tracks, "tempos"):
        a = track.annotations
        signature = a.attributes.get("time_signature", "4/4")
        beats, value = map(int, signature.split("/"))
        assert a.tempo == (float(a.attributes["bpm"]) if "bpm" in a.attributes else {2: 60, 4: 120, 8: 240}[value])
        assert np.allclose(np.diff(a.beats), 60 / a.tempo, atol=1e-5)
        assert a.beats[0] < 60 / a.tempo
        assert track.duration - a.beats[-1] <= 60 / a.tempo
        assert set(np.diff(a.beat_positions)) <= {1, 1 - beats}
        assert set(a.beat_positions) == set(range(1, beats + 1))
        assert [note.velocity == 100 for note in track.notes] == [position == 1 for position in a.beat_positions]
    first = [track.annotations.beat_positions[0] for track in every(tracks, "time_signatures")]
    assert len(set(first)) == 12, "clicks must begin anywhere in the bar"


def test_the_audio_has_the_labelled_pitches_and_tempi(tracks: dict[Split, list[Track]]) -> None:
    """Rendered, a few seconds: the period of notes by autocorrelation, and where the envelope rises."""
    corpus = syntheory.load()
    notes = [t for t in every(tracks, "notes") if 48 <= t.notes[0].pitch < 84][:12]
    for track in notes:
        [audio] = corpus.audio([Clip(track, 0.2, 0.7)], 48_000)
        spectrum = np.abs(np.fft.rfft(audio, 2 * len(audio))) ** 2
        lags = np.fft.irfft(spectrum)
        period = 48_000 / (440 * 2 ** ((track.notes[0].pitch - 69) / 12))
        around = np.arange(int(period * 2 ** (-2 / 12)), int(period * 2 ** (2 / 12)) + 2)
        heard = around[lags[around].argmax()]
        assert abs(12 * np.log2(heard / period)) < 0.5, track.id
        assert lags[heard] > 0.6 * lags[0], track.id
    for track in every(tracks, "tempos")[:12]:
        [audio] = corpus.audio([Clip(track, 0.0, track.duration)], RATE)
        envelope = np.abs(audio).reshape(-1, 80).max(1)  # 5 ms
        rise = np.maximum(np.diff(envelope, prepend=0.0), 0)
        near, beats = np.arange(-2, 6), np.array(track.annotations.beats[1:-1])
        on, between = (
            rise[((beats + shift * 60 / track.annotations.tempo) / 0.005).astype(int)[:, None] + near].max(1).mean()
            for shift in (0, 0.5)
        )
        assert on > 2.5 * between, (track.id, on, between)


def test_no_program_has_silent_keys() -> None:
    """The ends of the keyboard and its middle, on each program: two seconds."""
    for program in syntheory.PROGRAMS:
        for pitch in (0, 64, 107):
            audio = render(Segment([Note(0.0, 0.3, pitch, 64, 0)], [Voice(program, family(program))], 0.3), RATE)
            assert np.abs(audio).max() > 5e-4, (program, pitch)
    assert len(syntheory.PROGRAMS) == 92 - len(syntheory.SILENT)


def test_doctor() -> None:
    result = CliRunner().invoke(main, ["corpus", "doctor", "syntheory", "--limit", "10"])
    assert result.exit_code == 0, result.output
    assert "heldout: 4133 tracks, 11.76 hours" in result.output


def test_timbres_do_not_tell_the_class(tracks: dict[Split, list[Track]]) -> None:
    programs = defaultdict(set)
    for track in tracks[Split.TRAIN] + tracks[Split.HELDOUT]:
        if len(track.voices) == 1 and track.annotations.tempo is None:
            programs[track.annotations.attributes["concept"]].add(track.voices[0].program)
            assert track.voices[0].family == family(track.voices[0].program)
    assert set.union(*programs.values()) == set(syntheory.PROGRAMS)
    assert min(map(len, programs.values())) > 80


def test_the_first_tracks_are_a_fair_sample_and_attributes_are_kept(tracks: dict[Split, list[Track]]) -> None:
    corpus = syntheory.load()
    clips = corpus.clips(Split.HELDOUT, seconds=10.24, limit=200)
    assert {clip.annotations.attributes["concept"] for clip in clips} == set(CLASSES)
    assert {clip.start for clip in clips} == {0.0}
    clip = Clip(tracks[Split.HELDOUT][0], 1.0, 2.0)
    assert clip.annotations.attributes == clip.track.annotations.attributes
    assert to_jams(clip, corpus, RATE).sandbox["attributes"] == clip.track.annotations.attributes
    figures = describe(corpus).splits["heldout"].attributes
    assert sum(figures["concept"].values()) == len(tracks[Split.HELDOUT])
    assert set(figures["mode"]) == {"ionian", "dorian", "phrygian", "lydian", "mixolydian", "aeolian", "locrian"}
