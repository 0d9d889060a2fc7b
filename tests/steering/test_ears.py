"""What is measured of audio, against known answers."""

import math
from dataclasses import replace

import numpy as np
import pytest
from steered_toy import Levels, Toy

from musae.corpora.track import Annotations, Note, Split
from musae.errors import UserError
from musae.scores import mir
from musae.steering import ears, lessons, pitch, quality, register, spectra, timbre
from musae.steering.concepts import choose, extremes, of_ear

RATE = 16_000
TIME = np.arange(5 * RATE) / RATE


def sines(*frequencies):
    return (0.1 * sum(np.sin(2 * np.pi * f * TIME) for f in frequencies)).astype(np.float32)


def tone(midi, harmonics=6):
    """A note of some instrument: harmonics that fall by 6 dB an octave."""
    f = 440 * 2 ** ((midi - 69) / 12)
    time = TIME[:RATE]
    return sum(np.sin(2 * np.pi * f * h * time + h) / h for h in range(1, harmonics + 1))


def noise(seed=0, slope=0.0):
    """White noise, or noise whose power falls with some power of the frequency."""
    white = np.fft.rfft(np.random.default_rng(seed).normal(size=RATE))
    return np.fft.irfft(white * np.arange(1, len(white) + 1) ** (-slope / 2)).astype(np.float32)


@pytest.mark.parametrize("notes", [(40,), (60,), (84,), (48, 64, 67), (45, 60, 64, 69)])
def test_pitches_of_known_notes(notes):
    found = pitch.listen((0.1 * sum(map(tone, notes)) + 1e-4 * noise()).astype(np.float32), RATE)
    strongest = np.argsort(-found.notes)[: len(notes)] + pitch.LOWEST
    assert sorted(strongest) == list(notes)
    assert found.notes[strongest - pitch.LOWEST].sum() > 0.6
    assert found.tonality > 0.95
    assert found.notes.sum() == pytest.approx(1)


def test_notes_are_lines_and_noise_is_none():
    seen = pitch.semitones((tone(45, 1) + tone(69, 1)).astype(np.float32), RATE)
    lines = pitch.LOWEST + np.flatnonzero(seen.mean(0) > -3)
    assert lines.tolist() == [45, 69]
    assert np.ptp(pitch.semitones(noise(), RATE)[:, 40:].mean(0)) < 12
    assert np.unique(pitch.semitones(np.zeros(RATE, np.float32), RATE)).tolist() == [-60]


@pytest.mark.parametrize("slope", [-1.0, 0.0, 1.0])
def test_noise_has_no_pitch_however_bright(slope, chords):
    found = pitch.listen(noise(slope=slope), RATE)
    assert found.tonality < register.TONAL
    assert math.isnan(chords.hear(noise(slope=slope), RATE))
    silent = pitch.listen(np.zeros(RATE, np.float32), RATE)
    assert (silent.tonality, silent.notes.sum()) == (0, 0)


@pytest.fixture(scope="module")
def chords():
    """The ear of register, learnt from chords of known pitch on instruments of any brightness."""
    draw = np.random.default_rng(0)

    def lesson(count):
        chords = [draw.integers(low, low + 24, 3) for low in draw.integers(36, 66, count)]
        waves = [sum(tone(m, draw.integers(2, 13)) for m in chord)[: RATE // 2] for chord in chords]
        heard = [pitch.listen(wave.astype(np.float32), RATE) for wave in waves]
        features = np.array([[one.notes for one in heard]] * 2)
        none = np.zeros((count, 0), bool)
        return lessons.Lesson(
            np.zeros((2, count, 1)), features, np.ones((2, count)), (), none, none.any(1), np.array([c.mean() for c in chords])
        )

    return register.learn(lessons.Lessons("chords", lesson(150), lesson(40), "0"))


def test_register_is_the_mean_pitch_and_not_the_brightness(chords):
    learnt = chords
    for correlation, error in learnt.accuracy.values():
        assert correlation > 0.9
        assert error < 0.4 * learnt.guess
    low, high = ((tone(m) + tone(m + 7)).astype(np.float32) for m in (45, 69))
    assert learnt.hear(high, RATE) - learnt.hear(low, RATE) == pytest.approx(24, abs=6)
    dull, bright = ((tone(57, n) + tone(64, n)).astype(np.float32) for n in (4, 8))
    assert learnt.hear(bright, RATE) == pytest.approx(learnt.hear(dull, RATE), abs=6)
    noisy = tone(57) + 0.3 * noise()
    assert learnt.hear(noisy.astype(np.float32), RATE) == pytest.approx(learnt.hear(tone(57).astype(np.float32), RATE), abs=3)


def test_truth_of_register_is_in_the_notes():
    [clip] = Levels().clips(Split.TRAIN, seconds=1.0)[1:2]
    assert lessons.mean_pitch(clip) == pytest.approx((86 + 67) / 2)
    drums = replace(clip.track, voices=tuple(replace(v, drums=True) for v in clip.track.voices))
    assert math.isnan(lessons.mean_pitch(replace(clip, track=drums)))
    notes = (Note(0.0, 1.0, 60, 90, 0), Note(0.5, 1.0, 72, 90, 0))
    late = replace(clip, track=replace(clip.track, notes=notes), start=0.25)
    assert lessons.mean_pitch(replace(late, duration=0.5)) == pytest.approx((60 * 0.5 + 72 * 0.25) / 0.75)
    at = lessons.pitches_at(late, np.array([0.0, 0.3, 0.8, 1.3]))
    assert at[:3].tolist() == [60, 66, 72]
    assert math.isnan(at[3])


def test_bounds_are_what_5_in_100_unsteered_lie_beyond():
    many = np.arange(1000.0)
    bounds = quality.Bounds.of(dict.fromkeys(quality.NAMES, many))
    assert set(bounds.beyond(dict.fromkeys(quality.NAMES, many)).values()) == {0.05}
    better = {name: many - 500 if name in quality.HIGH else many + 500 for name in quality.NAMES}
    assert quality.keeps(bounds.beyond(better), 0.0)
    for name in quality.NAMES:
        worse = better | {name: 2000 - better[name] if name in quality.HIGH else better[name] - 2000}
        assert not quality.keeps(bounds.beyond(worse), 0.2)


def test_measures_do_not_depend_on_level_and_similarity_is_a_correlation():
    noise = np.random.default_rng(0).normal(size=(2, RATE)).astype(np.float32)
    one, other = noise * np.linspace(0.1, 1, RATE, dtype=np.float32) ** 2
    assert spectra.statistics(one, RATE) == pytest.approx(spectra.statistics(0.01 * one, RATE), abs=1e-4)
    assert pitch.listen(one, RATE).tonality == pytest.approx(pitch.listen(0.01 * one, RATE).tonality, abs=1e-6)
    assert spectra.similarity(one, 0.01 * one, RATE) == pytest.approx(1, abs=1e-4)
    assert 0.3 < spectra.similarity(one, other, RATE) < 0.99
    assert spectra.similarity(sines(200), sines(3000), RATE) < 0.2


def test_short_and_silent_audio_has_finite_statistics():
    for audio in (np.zeros(100, np.float32), np.zeros(RATE, np.float32)):
        assert np.isfinite(spectra.statistics(audio, RATE)).all()
        assert math.isnan(spectra.similarity(audio, audio, RATE))


def test_ears_are_learnt_from_audio_measured_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "cache_root", lambda: tmp_path)
    rendered = []
    plain = Levels.audio
    monkeypatch.setattr(Levels, "audio", lambda self, clips, rate: rendered.append(clips) or plain(self, clips, rate))
    given = lessons.give(Levels(), Toy(), seconds=1.0)
    families, notes = timbre.learn(given), register.learn(given)
    assert families.families == ("organ",)  # the piano is in every clip
    assert families.accuracy["rendered"]["organ"] > 0.95 < families.accuracy["codec"]["organ"]
    assert notes.accuracy["codec"][0] > 0.9
    assert notes.accuracy["codec"][1] < 0.5 * notes.guess
    clips = Levels().clips(Split.HELDOUT, seconds=1.0)[:2]
    waves = list(plain(Levels(), clips, 4000))
    without, with_organ = (families.probabilities(wave, 4000)[0] for wave in waves)
    assert without < 0.5 < with_organ
    assert notes.hear(waves[0], 4000) > notes.hear(waves[1], 4000)
    judge = quality.ear(given)
    hiss = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    (tonal, near), (hissing, far) = (judge.hear(wave, 4000) for wave in (waves[0], hiss))
    assert tonal > 0.8 > 0.2 > hissing
    assert far > 5 * near
    count = len(rendered)
    again = lessons.give(Levels(), Toy(), seconds=1.0)
    assert len(rendered) == count
    assert np.array_equal(timbre.learn(again).weights, families.weights)
    assert np.array_equal(register.learn(again).weights, notes.weights)
    kept = min((tmp_path / "lessons").iterdir())
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(UserError, match=r"damaged .* delete it"):
        lessons.give(Levels(), Toy(), seconds=1.0)


def test_a_corpus_without_labels_or_notes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "cache_root", lambda: tmp_path)
    tracks = Levels.tracks
    bare = {"annotations": Annotations(), "notes": ()}
    monkeypatch.setattr(Levels, "tracks", lambda self, split: [replace(t, **bare) for t in tracks(self, split)])
    given = lessons.give(Levels(), Toy(), seconds=1.0)
    with pytest.raises(UserError, match="no train clip has instrument labels"):
        timbre.learn(given)
    with pytest.raises(UserError, match="exact notes of 0 train clips, and 40 are needed"):
        register.learn(given)


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
    ear = ears.Ear("register", ("semitones",), lambda audio, rate: np.zeros(1), "1")
    assert [(c.name, c.sign) for c in of_ear(ear)] == [("register high", 1), ("register low", -1)]
    assert [c.name for c in choose([ear], ["register low"])] == ["register low"]
    assert len(choose([ear], ["register"])) == 2
    with pytest.raises(UserError, match="did you mean 'register low'"):
        choose([ear], ["register lo"])


def test_extremes_are_the_outer_thirds():
    assert extremes([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, float("nan")], 1).tolist() == [0, 0, -1, -1, 1, 1, -1]
    assert extremes([1.0, 2.0, 3.0], -1).tolist() == [1, -1, 0]
