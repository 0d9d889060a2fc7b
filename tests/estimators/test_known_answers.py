"""Audio whose key, tempo and chords are known. The tests of madmom run where it is installed, and are slow."""

import importlib.util

import numpy as np
import pytest

from musae import registry
from musae.corpora import render
from musae.corpora.track import Note, Span, Voice
from musae.estimators.estimator import NoEstimate
from musae.estimators.madmom_beats import tempo
from musae.scores import mir

RATE = 44_100
MADMOM = (
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("madmom") is None, reason="madmom is not installed"),
)


def estimator(name):
    if name.startswith("essentia"):
        pytest.importorskip("essentia")
    return registry.make("estimators", name)


def rendered(notes, seconds):
    """Piano audio of ``(onset, duration, pitch)``, by the corpora's renderer."""
    made = tuple(Note(onset, length, pitch, 90, 0) for onset, length, pitch in notes)
    [audio] = render.render_all([render.Segment(made, (Voice(0, "piano"),), seconds)], RATE, 1)
    return audio


def clicks(bpm, seconds, first=0.2):
    """Decaying bursts of 1.5 kHz on each beat."""
    t = np.arange(round(seconds * RATE)) / RATE
    since = np.where(t >= first, (t - first) % (60 / bpm), np.inf)
    return np.asarray(0.8 * np.sin(2 * np.pi * 1500 * np.where(np.isinf(since), 0, since)) * np.exp(-60 * since), np.float32)


@pytest.mark.parametrize("name", ["essentia_key", pytest.param("madmom_key", marks=MADMOM)])
@pytest.mark.parametrize(("tonic", "steps", "key"), [(60, (0, 4, 7), "C major"), (66, (0, 3, 7), "F# minor")])
def test_the_key_of_a_cadence(name, tonic, steps, key):
    """Tonic, subdominant, dominant (major) and tonic, two seconds each."""
    triads = [(0, steps), (5, steps), (7, (0, 4, 7)), (0, steps)]
    notes = [(2.0 * i, 1.9, tonic + root + step) for i, (root, triad) in enumerate(triads) for step in (-12, *triad)]
    [span] = estimator(name).estimate(rendered(notes, 8.0), RATE).keys
    assert (span.start, span.end) == (0.0, 8.0)
    assert mir.key_index(span.label) == mir.key_index(key)


@pytest.mark.parametrize("name", ["essentia_rhythm", pytest.param("madmom_beats", marks=MADMOM)])
@pytest.mark.parametrize("bpm", [80, 120])
def test_the_tempo_and_beats_of_clicks(name, bpm):
    heard = estimator(name).estimate(clicks(bpm, 12.0), RATE)
    assert heard.tempo == pytest.approx(bpm, rel=0.02)
    assert heard.beat_positions == ()
    beats = np.arange(0.2, 12.0, 60 / bpm)
    inner = [beat for beat in heard.beats if 2 < beat < 11]  # Essentia's first two beats are early by up to 150 ms
    assert len(inner) >= 8 * bpm / 60
    assert all(np.abs(beats - beat).min() < mir.BEAT_WINDOW for beat in inner)


@pytest.mark.parametrize("name", ["essentia_chords", pytest.param("madmom_chords", marks=MADMOM)])
def test_four_chords_and_silence(name):
    """C major, A minor, F major and G major for two seconds each, then nothing; borders to within a window."""
    triads = [(60, 64, 67), (57, 60, 64), (53, 57, 60), (55, 59, 62)]
    notes = [(2.0 * i, 1.95, pitch) for i, triad in enumerate(triads) for pitch in triad]
    audio = np.concatenate([rendered(notes, 8.0), np.zeros(4 * RATE, np.float32)])
    spans = estimator(name).estimate(audio, RATE).chords
    assert (spans[0].start, spans[-1].end) == (0.0, 12.0)
    for at, label in ((1, "C:maj"), (3, "A:min"), (5, "F:maj"), (7, "G:maj"), (11, "N")):
        for moment in (at - 0.5, at, at + 0.5):
            assert [s.label for s in spans if s.start <= moment < s.end] == [label]


def test_what_essentia_calls_chords_is_harte_syntax():
    from musae.estimators.essentia_chords import harte

    assert [harte(name) for name in ("C", "Bbm", "F#", "Eb")] == ["C:maj", "Bb:min", "F#:maj", "Eb:maj"]
    mir.chord_classes([harte(name) for name in ("A", "Bb", "B", "C", "C#m", "D", "Ebm", "E", "F", "F#", "G", "Abm")], "majmin")


def test_the_tempo_of_a_line_through_beats():
    beats = np.round(0.3 + np.arange(20) * 60 / 97, 2)  # on madmom's grid
    assert tempo(beats) == pytest.approx(97, abs=0.15)
    assert tempo(beats[:2]) is None


def test_nothing_is_said_of_silence():
    with pytest.raises(NoEstimate, match="silent"):
        estimator("essentia_key").estimate(np.full(3 * RATE, 1e-4, np.float32), RATE)


def test_essentia_is_quiet(capfd):
    estimator("essentia_key").estimate(clicks(100, 3.0), RATE)
    estimator("essentia_rhythm").estimate(clicks(100, 6.0), RATE)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_a_span_is_where_its_frames_are():
    heard = estimator("essentia_chords").estimate(rendered([(0.0, 3.0, p) for p in (60, 64, 67)], 3.0), RATE)
    assert heard.chords == (Span(0.0, 3.0, "C:maj"),)
