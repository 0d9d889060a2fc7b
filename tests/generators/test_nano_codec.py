"""nano's codec: calibrated features, alignment in time, quantiser, and audio that keeps the pitches when it is analysed again."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from musae.errors import UserError
from musae.generators.nano import codec as codecs
from musae.generators.nano.codec import BANDS, FEATURES, GAIN, HOP, RATE, SEMITONES, Codec


def tone(frequency: float, seconds: float, amplitude: float = 0.1) -> Tensor:
    return amplitude * torch.sin(2 * math.pi * frequency * torch.arange(round(seconds * RATE)) / RATE)


def chords(seconds: float) -> Tensor:
    """A four-note chord with three overtones each half second, over a little noise."""
    generator = torch.Generator().manual_seed(2)
    parts = []
    for _ in range(round(2 * seconds)):
        notes = 110 * 2 ** (torch.randint(0, 36, (4,), generator=generator) / 12)
        fade = torch.linspace(1, 0.3, RATE // 2)
        parts.append(fade * sum((tone(float(f) * h, 0.5, 0.06 / h) for f in notes for h in (1, 2, 3)), torch.zeros(RATE // 2)))
    return torch.cat(parts) + 0.003 * torch.randn(len(parts) * RATE // 2, generator=generator)


@pytest.fixture(scope="module")
def fitted() -> tuple[Codec, Tensor]:
    found = codecs.features(chords(60))
    return codecs.fit(found, codewords=64, iterations=8, seed=0), found


@pytest.mark.parametrize("semitone", [15, 30, 63])
def test_a_sinusoid_reads_its_amplitude_at_its_semitone(semitone: int) -> None:
    found = codecs.features(tone(55.0 * 2 ** (semitone / 12), 1.0))
    amplitudes = torch.expm1(found[8:16]) / GAIN
    assert amplitudes[:, semitone].tolist() == pytest.approx([0.1] * 8, rel=0.02)
    assert (amplitudes[:, :SEMITONES].argmax(1) == semitone).all()


def test_frames_are_counted_and_aligned() -> None:
    audio = torch.zeros(40 * HOP + 639)
    audio[20 * HOP + HOP // 2] = 1.0  # a click in the middle of frame 20
    found = codecs.features(audio)
    assert found.shape == (40, FEATURES)
    assert found[:, SEMITONES:].sum(1).argmax() == 20
    before = found[: 20 - 2].sum()  # 44 ms of look-ahead: not two frames ahead
    assert before == 0


def test_long_audio_is_analysed_in_chunks_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = chords(4)
    whole = codecs.features(audio)
    monkeypatch.setattr(codecs, "CHUNK", 33)
    torch.testing.assert_close(codecs.features(audio), whole, atol=1e-4, rtol=1e-4)


def test_quantiser_explains_more_with_each_codebook(fitted: tuple[Codec, Tensor]) -> None:
    codec, found = fitted
    codes = codec.quantise(found)
    target = (found - codec.mean) / codec.scale
    left = []
    for j in range(5):
        total = sum((codec.codebooks[i, codes[:, i]] for i in range(j)), torch.zeros_like(target))
        left.append((target - total).square().mean().item())
    assert left == sorted(left, reverse=True)
    assert left[4] < 0.35 * left[0]
    assert all(len(codes[:, j].unique()) > 56 for j in range(4))  # of 64: no dead codewords to speak of
    torch.testing.assert_close(codec.dequantise(codes), (total) * codec.scale + codec.mean)


def test_quantiser_takes_the_nearest_codeword() -> None:
    generator = torch.Generator().manual_seed(0)
    points, centres = torch.randn(9000, 5, generator=generator), torch.randn(17, 5, generator=generator)
    indices, distances = codecs.nearest(points, centres)
    exact = torch.cdist(points.double(), centres.double()).square()
    torch.testing.assert_close(distances.double(), exact.min(1).values, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(exact.gather(1, indices[:, None])[:, 0], exact.min(1).values, atol=1e-4, rtol=1e-4)


def test_kmeans_finds_separate_clusters_and_revives_the_dead() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = 20 * torch.eye(6)
    points = centres.repeat_interleave(50, 0) + 0.1 * torch.randn(300, 6, generator=generator)
    found = codecs.kmeans(points, 6, 5, generator)
    assert torch.cdist(found, centres).min(1).values.max() < 0.2
    assert len(torch.cdist(found, centres).argmin(1).unique()) == 6
    assert codecs.kmeans(torch.zeros(40, 6), 8, 3, generator).isfinite().all()


def test_fit_is_a_function_of_its_seed(fitted: tuple[Codec, Tensor]) -> None:
    _, found = fitted
    first, again, other = (codecs.fit(found[:400], codewords=16, iterations=3, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(first.codebooks, again.codebooks)
    assert not torch.equal(first.codebooks, other.codebooks)
    with pytest.raises(UserError, match="512 codewords but got 400 frames"):
        codecs.fit(found[:400])


def test_decoded_audio_keeps_pitch_and_timbre(fitted: tuple[Codec, Tensor]) -> None:
    codec, _ = fitted
    audio = chords(6)
    codes = codec.encode(audio[None])
    assert codes.shape == (1, 4, 150)
    decoded = codec.decode(codes)
    assert torch.equal(decoded, codec.decode(codes))
    assert decoded.shape == (1, 150 * HOP)
    heard, again = codecs.features(audio), codecs.features(decoded[0])
    assert chroma_cosine(heard, again).median() > 0.85
    bands = torch.stack([heard[:, SEMITONES:].flatten(), again[:, SEMITONES:].flatten()])
    assert torch.corrcoef(bands)[0, 1] > 0.85
    shifted = torch.roll(again[:, :SEMITONES], 1, dims=1)
    assert chroma_cosine(heard, shifted).median() < 0.6  # the measure can fail


def test_noise_comes_back_as_noise_of_the_same_level() -> None:
    noise = 0.05 * torch.randn(3 * RATE, generator=torch.Generator().manual_seed(0))
    heard = torch.expm1(codecs.features(noise)) / GAIN
    again = torch.expm1(codecs.features(codecs.synthesise(heard))) / GAIN
    level = (again[10:60, SEMITONES:].square().mean(0) / heard[10:60, SEMITONES:].square().mean(0)).sqrt()
    assert level.shape == (BANDS,)
    assert level[12:].tolist() == pytest.approx([1.0] * 12, abs=0.3)


def chroma_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of pitch-class amplitudes, frame by frame."""
    folded = []
    for found in (a, b):
        amplitudes = torch.expm1(found[:, :SEMITONES])
        folded.append(torch.zeros(len(found), 12).index_add_(1, torch.arange(SEMITONES) % 12, amplitudes))
    return torch.nn.functional.cosine_similarity(folded[0], folded[1])
