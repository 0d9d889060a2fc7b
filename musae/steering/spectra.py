"""Spectra of audio ``[samples]``: log-mel bands, their statistics, and how alike two spectrograms are."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

WINDOW, HOP, BANDS = 1024, 512, 40
LOWEST = 50.0
"""Hz, of the mel bands."""
FLOOR = 1e-5
"""Added to band powers of audio of unit RMS before the logarithm: -50 dB."""


def powers(audio: NDArray[np.float32]) -> NDArray[np.float64]:
    """Power spectra of audio scaled to an RMS of 1, ``[frames, WINDOW // 2 + 1]``; zeros where it is silent."""
    wave = np.asarray(audio, np.float64)
    wave = np.pad(wave, (0, max(0, WINDOW - len(wave))))
    wave = wave / max(float(np.sqrt(np.mean(wave**2))), 1e-9)
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    found: NDArray[np.float64] = np.abs(np.fft.rfft(frames * np.hanning(WINDOW))) ** 2 / WINDOW
    return found


def log_mel(audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Natural logarithms of mel band powers ``[frames, BANDS]``, whatever the level of the audio."""
    found: NDArray[np.float64] = np.log(powers(audio) @ _filters(rate) + FLOOR)
    return found


def statistics(audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Of each log-mel band its mean, deviation, mean absolute change and excess of the loudest tenth: ``[4 BANDS]``."""
    mel = log_mel(audio, rate)
    change = np.abs(np.diff(mel, axis=0)).mean(0) if len(mel) > 1 else np.zeros(BANDS)
    return np.concatenate([mel.mean(0), mel.std(0), change, np.quantile(mel, 0.9, axis=0) - mel.mean(0)])


def similarity(one: NDArray[np.float32], other: NDArray[np.float32], rate: int) -> float:
    """Correlation of two log-mel spectrograms of equal length, over time and bands; NaN where one of them is constant."""
    a, b = (log_mel(audio, rate).ravel() for audio in (one, other))
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 1e-9 else float("nan")


@cache
def _filters(rate: int) -> NDArray[np.float64]:
    """Triangles of area 1, equally spaced in mel from `LOWEST` to half the rate ``[bins, BANDS]``."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (LOWEST, rate / 2))
    corners = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(WINDOW, 1 / rate)[:, None]
    width = rate / WINDOW  # a band narrower than a bin would miss them all
    rise = (bins - corners[:-2]) / np.maximum(np.diff(corners)[:-1], width)
    fall = (corners[2:] - bins) / np.maximum(np.diff(corners)[1:], width)
    triangles = np.clip(np.minimum(rise, fall), 0, None)
    found: NDArray[np.float64] = triangles / np.maximum(triangles.sum(0), 1e-12)
    return found
