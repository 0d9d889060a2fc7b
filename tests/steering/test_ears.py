"""What is measured of audio, against known answers."""

import math
from dataclasses import replace

import numpy as np
import pytest
from steered_toy import Levels, Toy

from musae.corpora.track import Annotations, Split
from musae.errors import UserError
from musae.scores import mir
from musae.steering import ears, spectra, timbre
from musae.steering.concepts import choose, extremes, of_ear

RATE = 16_000
TIME = np.arange(5 * RATE) / RATE


def sines(*frequencies):
    return (0.1 * sum(np.sin(2 * np.pi * f * TIME) for f in frequencies)).astype(np.float32)


def test_the_centroid_of_a_sine_is_its_octave():
    for octaves in (2, 4, 6):
        assert spectra.centroid(sines(50 * 2**octaves), RATE) == pytest.approx(octaves, abs=0.05)
    assert spectra.centroid(sines(200, 800), RATE) == pytest.approx(3, abs=0.05)
    assert math.isnan(spectra.centroid(np.zeros(RATE, np.float32), RATE))


def test_measures_do_not_depend_on_level_and_similarity_is_a_correlation():
    noise = np.random.default_rng(0).normal(size=(2, RATE)).astype(np.float32)
    one, other = noise * np.linspace(0.1, 1, RATE, dtype=np.float32) ** 2
    for measure in (spectra.statistics, spectra.centroid):
        assert measure(one, RATE) == pytest.approx(measure(0.01 * one, RATE), abs=1e-4)
    assert spectra.similarity(one, 0.01 * one, RATE) == pytest.approx(1, abs=1e-4)
    assert 0.3 < spectra.similarity(one, other, RATE) < 0.99
    assert spectra.similarity(sines(200), sines(3000), RATE) < 0.2


def test_short_and_silent_audio_has_finite_statistics():
    for audio in (np.zeros(100, np.float32), np.zeros(RATE, np.float32)):
        assert np.isfinite(spectra.statistics(audio, RATE)).all()
        assert math.isnan(spectra.similarity(audio, audio, RATE))


def test_families_are_learnt_from_audio_measured_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(timbre, "cache_root", lambda: tmp_path)
    rendered = []
    plain = Levels.audio
    monkeypatch.setattr(Levels, "audio", lambda self, clips, rate: rendered.append(clips) or plain(self, clips, rate))
    learnt = timbre.learn(Levels(), Toy(), seconds=1.0)
    assert learnt.families == ("organ",)  # the piano is in every clip
    assert learnt.accuracy["rendered"]["organ"] > 0.95 < learnt.accuracy["codec"]["organ"]
    clips = Levels().clips(Split.HELDOUT, seconds=1.0)[:2]
    without, with_organ = (learnt.probabilities(wave, 4000)[0] for wave in plain(Levels(), clips, 4000))
    assert without < 0.5 < with_organ
    count = len(rendered)
    again = timbre.learn(Levels(), Toy(), seconds=1.0)
    assert len(rendered) == count
    assert np.array_equal(again.weights, learnt.weights)
    assert (again.accuracy, again.families) == (learnt.accuracy, learnt.families)
    [kept] = (tmp_path / "timbre").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(UserError, match=r"damaged .* delete it"):
        timbre.learn(Levels(), Toy(), seconds=1.0)


def test_a_corpus_without_instrument_labels_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(timbre, "cache_root", lambda: tmp_path)
    tracks = Levels.tracks
    monkeypatch.setattr(Levels, "tracks", lambda self, s: [replace(t, annotations=Annotations()) for t in tracks(self, s)])
    with pytest.raises(UserError, match="no train clip has instrument labels"):
        timbre.learn(Levels(), Toy(), seconds=1.0)


def test_keys_and_roots_of_a_triad():
    pytest.importorskip("essentia")
    audio = sines(*(m * f for f in (261.63, 329.63, 392.0) for m in (1, 2)))
    shares = ears.root().hear(audio, RATE)
    assert mir.TONICS[int(shares.argmax())] == "C"
    assert shares[0] > 0.9
    scores = ears.key().hear(audio, RATE)
    assert scores[mir.KEYS.index("C major")] >= 0.5
    silence = np.zeros(5 * RATE, np.float32)
    assert ears.key().hear(silence, RATE).tolist() == [0.0] * 24
    assert ears.root().hear(silence, RATE).tolist() == [0.0] * 12
    assert math.isnan(ears.tempo().hear(silence, RATE)[0])


def test_tempo_of_clicks():
    pytest.importorskip("essentia")
    clicks = np.zeros(10 * RATE, np.float32)
    for beat in range(20):
        clicks[beat * RATE // 2 :][:200] = np.random.default_rng(beat).normal(size=200)
    assert 2 ** ears.tempo().hear(clicks, RATE)[0] == pytest.approx(120, rel=0.04)


def test_concepts_are_named_and_the_nearest_is_suggested():
    register = ears.register()
    assert [(c.name, c.sign) for c in of_ear(register)] == [("register high", 1), ("register low", -1)]
    assert [c.name for c in choose([register], ["register low"])] == ["register low"]
    assert len(choose([register], ["register"])) == 2
    with pytest.raises(UserError, match="did you mean 'register low'"):
        choose([register], ["register lo"])


def test_extremes_are_the_outer_thirds():
    assert extremes([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, float("nan")], 1).tolist() == [0, 0, -1, -1, 1, 1, -1]
    assert extremes([1.0, 2.0, 3.0], -1).tolist() == [1, -1, 0]
