"""A light codec: pitch-and-timbre features, a residual vector quantiser, and an additive synthesiser to listen to the codes.

Audio is mono float32 ``[n, samples]`` at 16 kHz; frame f covers samples [640 f, 640 (f + 1)), so 25 frames a second, and
n clips of T frames have codes int64 ``[n, 4, T]``. A frame's 88 features are ``log1p(500 amplitude)`` of

- 64 semitones from A1 (55 Hz) to C7: a constant-Q transform whose windows (34 periods, at least 1,024 and at most 4,096
  samples) rise slowly before the frame's centre and fall fast after it: late enough to be about this frame;
- 24 mel bands from a window of 1,024 samples, sharp enough in time for onsets.

Look-ahead: a frame hears at most 704 samples (44 ms) beyond its end. Amplitudes are calibrated: a sinusoid of amplitude 1 at
a semitone, or at a band's centre, reads 1. Features are standardised, then quantised by residual k-means: codebook 1 + j
codes what codebooks 1 to j left over (as in SoundStream, arXiv:2107.03312, section III-C, but with fixed features).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from musae.errors import UserError
from musae.files import atomic_path

RATE, HOP = 16_000, 640
SEMITONES, BANDS = 64, 24
FEATURES = SEMITONES + BANDS
CODEBOOKS, CODEWORDS = 4, 512
ANALYSIS = 1
"""Version of `features`: whoever stores features keys them by it."""

REMEDY = "restore it (`git checkout`, `git lfs pull`, or install musae again), or make it with `musae pretrain nano`"

GAIN = 500.0
LOWEST = 55.0
LONG, SHORT = 4096, 1024
CENTRE = HOP // 2
RISE = 3 * LONG // 4
"""Samples of the longest window before its peak, which lies on the frame's centre."""
CHUNK = 4096
"""Frames analysed at once: bounds the memory of framing at 64 MiB."""


def frequencies() -> Tensor:
    """Frequencies of the semitones in Hz, float64 ``[64]``."""
    return LOWEST * 2 ** (torch.arange(SEMITONES, dtype=torch.float64) / 12)


@cache
def semitone_kernels() -> Tensor:
    """Windowed cosines, then sines, of each semitone, float32 ``[4096, 128]``; a unit sinusoid has magnitude 1."""
    time = torch.arange(LONG, dtype=torch.float64) - RISE
    kernels = torch.empty(LONG, 2, SEMITONES, dtype=torch.float64)
    for s, frequency in enumerate(frequencies().tolist()):
        length = min(max(34 * RATE / frequency, SHORT), LONG)
        position = torch.where(time < 0, time / (0.75 * length), time / (0.25 * length)).clamp(-1, 1)
        window = 0.5 + 0.5 * torch.cos(math.pi * position)
        window *= 2 / window.sum()
        phase = 2 * math.pi * frequency / RATE * time
        kernels[:, 0, s], kernels[:, 1, s] = window * torch.cos(phase), window * torch.sin(phase)
    return kernels.reshape(LONG, 2 * SEMITONES).float()


@cache
def mel_filters(size: int) -> Tensor:
    """Triangular filters with peak 1, equally spaced in mel from 40 Hz to 8 kHz, over an FFT's bins ``[size // 2 + 1, 24]``."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (40.0, RATE / 2))
    corners = 700 * (10 ** (torch.linspace(low, high, BANDS + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.arange(size // 2 + 1, dtype=torch.float64)[:, None] * RATE / size
    rise = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    fall = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    return torch.minimum(rise, fall).clamp_min(0).float()


@torch.inference_mode()
def features(audio: Tensor) -> Tensor:
    """Features of audio ``[samples]`` -> float32 ``[T, 88]`` with T = samples // 640: semitones, then mel bands."""
    frames = audio.shape[0] // HOP
    before = RISE - CENTRE
    padded = torch.nn.functional.pad(audio.float(), (before, LONG))
    window = torch.hann_window(SHORT)
    result = torch.empty(frames, FEATURES)
    for start in range(0, frames, CHUNK):
        stop = min(start + CHUNK, frames)
        long = padded[start * HOP :].unfold(0, LONG, HOP)[: stop - start]
        parts = (long @ semitone_kernels()).view(-1, 2, SEMITONES)
        result[start:stop, :SEMITONES] = torch.hypot(parts[:, 0], parts[:, 1])
        short = long[:, RISE - SHORT // 2 : RISE + SHORT // 2] * window
        power = torch.fft.rfft(short).abs().square_() * (4 / window.sum() ** 2 / 1.5)  # 1.5 bins: a Hann lobe's power
        result[start:stop, SEMITONES:] = (power @ mel_filters(SHORT)).sqrt_()
    return result.mul_(GAIN).log1p_()


@cache
def responses() -> Tensor:
    """Amplitudes that `features` reads for a unit sinusoid at each semitone ``[semitone, feature]``: leakage and mel shares."""
    time = torch.arange(RATE // 2, dtype=torch.float64) / RATE
    tones = torch.sin(2 * math.pi * frequencies()[:, None] * time).float()
    return torch.stack([torch.expm1(features(tone)[6]) / GAIN for tone in tones])


def synthesise(amplitudes: Tensor) -> Tensor:
    """Feature amplitudes ``[T, 88]`` -> audio ``[640 T]``: sinusoids on the semitones, noise for the mel bands' rest.

    The sinusoids' amplitudes explain the semitone features through their leakage (non-negative multiplicative updates), and
    are interpolated between the frames' centres; phases run on. Deterministic.
    """
    frames = amplitudes.shape[0]
    heard, bands = amplitudes[:, :SEMITONES], amplitudes[:, SEMITONES:]
    leak, shares = responses()[:, :SEMITONES], responses()[:, SEMITONES:].square()
    tones = heard.clone()
    pull, gram = heard @ leak.T, leak @ leak.T
    for _ in range(40):
        tones *= pull / (tones @ gram + 1e-9)
    rest = (bands.square() - tones.square() @ shares).clamp_min(0)
    return _sinusoids(tones, frames) + _noise(rest, frames)


def _sinusoids(tones: Tensor, frames: int) -> Tensor:
    """Interpolated amplitudes times running phases, from each frame's centre to the next by the sine of a sum, as one product.

    The starting phases are spread to keep the crest low.
    """
    starts = (torch.arange(frames + 1, dtype=torch.float64)[:, None] - 1) * HOP + CENTRE
    spread = torch.arange(SEMITONES, dtype=torch.float64).square() / (2 * SEMITONES)
    start = 2 * math.pi * ((starts / RATE * frequencies() + spread) % 1.0)
    sine, cosine = start.sin().float(), start.cos().float()
    before, after = torch.cat([tones[:1], tones]), torch.cat([tones, tones[-1:]])
    ramp = torch.arange(HOP) / HOP
    within = (2 * math.pi * frequencies()[:, None] * torch.arange(HOP, dtype=torch.float64) / RATE).float()
    turns = torch.cat([within.cos(), within.sin()])
    parts = torch.cat([before * sine, before * cosine, after * sine, after * cosine], dim=1)
    return (parts @ torch.cat([turns * (1 - ramp), turns * ramp])).flatten()[CENTRE : CENTRE + frames * HOP]


def _noise(power: Tensor, frames: int) -> Tensor:
    """White noise (always the same) filtered so that each mel band reads `power` ``[T, 24]``."""
    size = 2 * HOP
    long = (frames + 1) * HOP
    white = torch.randn(long, generator=torch.Generator().manual_seed(0))
    window = torch.hann_window(size)
    spectrum = torch.stft(white, size, HOP, window=window, pad_mode="constant", return_complex=True)
    of_white = mel_filters(SHORT).sum(0) * 4 / SHORT  # what unit white noise reads
    gains = (mel_filters(size) @ (power / of_white).T).sqrt()
    gains = torch.cat([gains[:, :1], gains, gains[:, -1:]], dim=1)
    return torch.istft(spectrum * gains, size, HOP, window=window, length=long)[CENTRE : CENTRE + frames * HOP]


@dataclass(frozen=True)
class Codec:
    """A fitted codec: standardisation of the features and four residual codebooks."""

    mean: Tensor
    """``[88]``"""
    scale: Tensor
    """Standard deviations ``[88]``, floored."""
    codebooks: Tensor
    """Codewords of standardised residuals ``[K, V, 88]``."""

    @cached_property
    def revision(self) -> str:
        """Ten hex digits of the tensors' checksum and the version of the analysis: what codes depend on."""
        return checksum({"mean": self.mean, "scale": self.scale, "codebooks": self.codebooks}, f"analysis {ANALYSIS}")

    def encode(self, audio: Tensor) -> Tensor:
        """Audio ``[n, samples]`` -> codes int64 ``[n, K, samples // 640]``."""
        return torch.stack([self.quantise(features(clip)).T for clip in audio])

    def quantise(self, features: Tensor) -> Tensor:
        """Features ``[F, 88]`` -> codes int64 ``[F, K]``, greedily, codebook by codebook."""
        residual = (features.float() - self.mean) / self.scale
        codes = torch.empty(residual.shape[0], self.codebooks.shape[0], dtype=torch.int64)
        for j, codebook in enumerate(self.codebooks):
            codes[:, j] = nearest(residual, codebook)[0]
            residual -= codebook[codes[:, j]]
        return codes

    def dequantise(self, codes: Tensor) -> Tensor:
        """Codes ``[F, K]`` -> features ``[F, 88]``."""
        total = sum((book[codes[:, j]] for j, book in enumerate(self.codebooks)), torch.zeros(codes.shape[0], FEATURES))
        return total * self.scale + self.mean

    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``[n, K, T]`` -> audio ``[n, 640 T]`` by `synthesise`; it may exceed [-1, 1]."""
        return torch.stack([synthesise(torch.expm1(self.dequantise(clip.T)).clamp_min(0) / GAIN) for clip in codes])

    def codewords(self, codes: Tensor) -> Tensor:
        """Codeword of each token: codes ``[n, K, T]`` -> standardised float32 ``[n, K, T, 88]``."""
        return torch.stack([book[codes[:, j]] for j, book in enumerate(self.codebooks)], dim=1)

    def save(self, path: Path) -> None:
        """Write a safetensors file, whole or not at all."""
        with atomic_path(path) as temporary:
            save_file({"mean": self.mean, "scale": self.scale, "codebooks": self.codebooks}, temporary)

    @classmethod
    def load(cls, path: Path) -> Codec:
        """Read what `save` wrote. Raises UserError when the file is missing, damaged or something else."""
        tensors = read(path)
        if tensors.keys() != {"mean", "scale", "codebooks"}:
            raise UserError(f"{path}: holds {', '.join(sorted(tensors)) or 'nothing'}, which is no codec; {REMEDY}.")
        return cls(**tensors)


def read(path: Path) -> dict[str, Tensor]:
    """Tensors of one of nano's files. Raises UserError when it is missing or damaged (a git-LFS pointer, cut short, ...)."""
    if not path.is_file():
        raise UserError(f"{path}: this file of nano is missing; {REMEDY}.")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a safetensors file, or damaged ({error}); {REMEDY}.") from error
    return tensors


def checksum(tensors: Mapping[str, Tensor], more: str) -> str:
    """Ten hex digits of the SHA-256 of named tensors and a text."""
    digest = hashlib.sha256(more.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:10]


def nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Index of, and squared distance to, the nearest of centres ``[V, e]`` for points ``[F, e]``."""
    indices = torch.empty(points.shape[0], dtype=torch.int64)
    distances = torch.empty(points.shape[0])
    norms = centres.square().sum(1)
    for start in range(0, points.shape[0], 8192):  # a block of scores stays in cache
        block = points[start : start + 8192]
        value, indices[start : start + 8192] = torch.addmm(norms, block, centres.T, alpha=-2).min(1)
        distances[start : start + 8192] = value + block.square().sum(1)
    return indices, distances.clamp_min_(0)


def fit(
    sample: Tensor,
    *,
    codebooks: int = CODEBOOKS,
    codewords: int = CODEWORDS,
    iterations: int = 25,
    seed: int = 0,
    report: Callable[[int, float], None] = lambda codebook, unexplained: None,
) -> Codec:
    """Fit a codec to features ``[F, 88]``: standardise, then k-means on the residuals, codebook after codebook.

    `report` is told, after each codebook, the fraction of the standardised variance that is still unexplained.
    Raises UserError when there are fewer frames than codewords.
    """
    if sample.shape[0] < codewords:
        raise UserError(f"the codec is to have {codewords} codewords but got {sample.shape[0]} frames; give it more audio.")
    generator = torch.Generator().manual_seed(seed)
    residual = sample.float()
    mean, scale = residual.mean(0), residual.std(0)
    scale = scale.clamp_min(0.1 * scale.max().item())
    residual = (residual - mean) / scale
    variance = residual.square().mean().item()
    books = []
    for j in range(codebooks):
        books.append(kmeans(residual, codewords, iterations, generator))
        residual -= books[-1][nearest(residual, books[-1])[0]]
        report(j, residual.square().mean().item() / variance)
    return Codec(mean, scale, torch.stack(books))


def kmeans(points: Tensor, count: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Lloyd's algorithm from a k-means++ start; an empty cluster restarts at a badly coded point ``[count, e]``."""
    some = points[torch.randperm(points.shape[0], generator=generator)[: 32 * count]]
    chosen = [some[int(torch.randint(some.shape[0], (1,), generator=generator))]]
    error = torch.full((some.shape[0],), torch.inf)
    for _ in range(count - 1):
        error = torch.minimum(error, (some - chosen[-1]).square().sum(1))
        weights = error if error.sum() > 0 else torch.ones_like(error)
        chosen.append(some[int(torch.multinomial(weights, 1, generator=generator))])
    centres = torch.stack(chosen)
    for _ in range(iterations):
        indices, distances = nearest(points, centres)
        sizes = torch.bincount(indices, minlength=count)
        sums = torch.zeros_like(centres).index_add_(0, indices, points)
        centres = sums / sizes.clamp_min(1)[:, None]
        dead = (sizes == 0).nonzero()[:, 0]
        if len(dead) and distances.sum() > 0:
            drawn = torch.randint(points.shape[0], (64 * len(dead),), generator=generator)
            best = drawn[distances[drawn].topk(len(dead)).indices]
            centres[dead] = points[best]
    return centres
