"""Rendering: onsets where the notes say, no leaks between segments, bitwise the same whatever else is rendered."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from musae.corpora import instruments, procedural, render
from musae.corpora.notes import NoteCorpus, clip_starts
from musae.corpora.render import Segment
from musae.corpora.track import Note, Split, Track, Voice
from musae.errors import UserError

PIANO = Voice(0, "piano")
RATE = 16_000


@pytest.fixture(scope="module")
def corpus() -> NoteCorpus:
    return procedural.load()


@pytest.fixture(scope="module")
def tracks(corpus: NoteCorpus) -> list[Track]:
    return list(corpus.tracks(Split.HELDOUT)[:6])


def first_sound(audio: NDArray[np.float32], rate: int) -> float:
    return float(np.flatnonzero(np.abs(audio) > 0.02 * np.abs(audio).max())[0]) / rate


@settings(max_examples=15, deadline=None)
@given(st.floats(0.05, 1.2), st.integers(40, 90))
def test_energy_begins_at_the_onset(onset: float, pitch: int) -> None:
    audio = render.render(Segment([Note(onset, 0.4, pitch, 100, 0)], [PIANO], 2.0), 48_000)
    assert -0.001 < first_sound(audio, 48_000) - onset < 0.010
    assert audio.shape == (96_000,)
    assert audio.dtype == np.float32


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 3000))
def test_events_are_less_than_a_millisecond_off(seconds: float) -> None:
    played = np.ceil(render._tick(seconds) / 2) / render.BLOCKS_PER_SECOND
    assert abs(played - seconds) < 0.001


def test_a_note_struck_again_sounds_to_its_own_end() -> None:
    """The first note's release comes after the second's onset; it must not silence the second."""
    organ = Voice(16, "organ")
    audio = render.render(Segment([Note(0.0, 0.6, 60, 100, 0), Note(0.5, 1.0, 60, 100, 0)], [organ], 2.0), RATE)
    assert np.abs(audio[int(1.2 * RATE) : int(1.4 * RATE)]).max() > 0.02


def test_silence_is_silent_and_no_voice_is_needed() -> None:
    assert not render.render(Segment([], [], 0.5), RATE).any()


@pytest.mark.parametrize("rate", [16_000, 32_000, 44_100, 48_000])
def test_length_and_pitch_at_every_rate(rate: int) -> None:
    audio = render.render(Segment([Note(0.0, 1.0, 69, 100, 0)], [Voice(73, "pipe")], 1.0001), rate)
    assert len(audio) == round(1.0001 * rate)
    spectrum = np.abs(np.fft.rfft(audio[rate // 4 : rate // 4 + rate // 2]))
    peaks = 2 * np.flatnonzero(spectrum > 0.3 * spectrum.max())
    assert min(abs(peaks - 440)) <= 4


def test_sixteen_melodic_voices_are_refused_and_drums_are_free() -> None:
    voices = [PIANO] * 15 + [Voice(0, "drums", drums=True)]
    notes = [Note(0.0, 0.1, 60, 80, v) for v in range(16)]
    assert render.render(Segment(notes, voices, 0.2), RATE).any()
    with pytest.raises(UserError, match="16 melodic voices"):
        render.render(Segment(notes, [PIANO] * 16, 0.2), RATE)


def test_missing_soundfont_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install pretty_midi"):
        render.soundfont.__wrapped__()


def test_audio_does_not_depend_on_the_batch_or_the_workers(corpus: NoteCorpus, tracks: list[Track]) -> None:
    """Two processes start up in a second or two."""
    clips = corpus.clips(Split.HELDOUT, seconds=2.0, limit=5)
    together = list(corpus.audio(clips, RATE, workers=2))
    alone = [next(corpus.audio([clip], RATE, workers=1)) for clip in reversed(clips)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))
    assert all(a.shape == (2 * RATE,) for a in together)
    assert all(0.005 < np.abs(a).max() < 1 for a in together)


def test_a_clip_sounds_as_its_track_does(corpus: NoteCorpus, tracks: list[Track]) -> None:
    """Up to the lead: of notes older than a second, and of free oscillators' phases, the clip knows nothing."""
    piece = procedural.compose(Split.HELDOUT, 0)
    plain = dataclasses.replace(piece, chords_program=0, melody_program=None, bass_program=None, pattern="repeated", drums=False)
    track = procedural.perform(plain)
    whole = render.render(Segment(track.notes, track.voices, track.duration), RATE)
    clip = render.render(Segment(track.notes, track.voices, 4.0, start=8.0), RATE)
    assert np.corrcoef(whole[8 * RATE : 12 * RATE], clip)[0, 1] > 0.98


def test_clips_lie_in_their_tracks_and_do_not_depend_on_others(corpus: NoteCorpus) -> None:
    few = corpus.clips(Split.HELDOUT, seconds=10.24, per_track=2, limit=10, seed=3)
    more = corpus.clips(Split.HELDOUT, seconds=10.24, per_track=2, limit=40, seed=3)
    assert len(few) == 10
    assert len({clip.group for clip in few}) == 10
    assert {c.id for c in few} <= {c.id for c in more}
    assert all(c.start >= 0 and c.start + c.duration <= c.track.duration for c in more)
    assert {c.start for c in few} != {c.start for c in corpus.clips(Split.HELDOUT, seconds=10.24, limit=10, seed=4)}


def test_a_limit_beyond_one_clip_a_group_takes_second_clips(tracks: list[Track]) -> None:
    small = NoteCorpus(procedural.CARD, rules="", sources=(), build=lambda split: tracks)
    clips = small.clips(Split.HELDOUT, seconds=5.0, per_track=3, limit=8)
    assert sorted(sum(c.group == t.group for c in clips) for t in tracks) == [1, 1, 1, 1, 2, 2]
    assert [c.track.id for c in clips] == sorted(c.track.id for c in clips)


def test_tracks_too_short_are_left_out(tracks: list[Track]) -> None:
    assert clip_starts(tracks[0], 30.0, 3, seed=0) == [0.0]
    assert clip_starts(tracks[0], 30.1, 3, seed=0) == []
    small = NoteCorpus(procedural.CARD, rules="", sources=(), build=lambda split: tracks)
    with pytest.raises(UserError, match=r"no heldout track of 31 seconds"):
        small.clips(Split.HELDOUT, seconds=31)
    with pytest.raises(UserError, match="positive"):
        small.clips(Split.HELDOUT, seconds=0)


def test_revision_follows_code_and_rules_but_not_comments(tmp_path: Path) -> None:
    def revision(code: str, rules: str = "r") -> str:
        source = tmp_path / "source.py"
        source.write_text(code)
        return NoteCorpus(procedural.CARD, rules=rules, sources=(str(source),), build=lambda split: []).revision

    plain = revision("x = 1\n")
    assert revision('"""A docstring."""\n\nx = 1  # a comment\n') == plain
    assert revision("x = 2\n") != plain
    assert revision("x = 1\n", rules="s") != plain
    assert len(plain) == 10


def test_families_of_programs() -> None:
    assert [instruments.family(p) for p in (0, 7, 8, 73, 127)] == [
        "piano",
        "piano",
        "chromatic percussion",
        "pipe",
        "sound effects",
    ]
    assert instruments.family(0, drums=True) == "drums"
    for program in (-1, 128):
        with pytest.raises(UserError, match=str(program)):
            instruments.family(program)
