"""Which pitches are played in audio ``[samples]``: tonal peaks of its spectra, and the notes that explain them.

Noise has hardly a peak that stands out of its surroundings, so that it has no notes, however bright it is.

Notes are found as in multiple-F0 estimation by iterative cancellation (Klapuri, "Multiple fundamental frequency estimation by
summing harmonic amplitudes", ISMIR 2006), on semitones: the pitch whose harmonics sum to most is taken, its harmonics are
weakened, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SECONDS = 0.256
"""Of a window: tells semitones apart from 130 Hz up, and fifths at 50 Hz. Windows overlap by half."""

LOWEST, HIGHEST = 24, 108
"""MIDI pitches that are told apart: 33 to 4186 Hz."""

ABOVE = 16.0
"""Times the median power of its surroundings that a peak must have (12 dB): of white noise's bins one in 50,000 has."""

SURROUNDINGS = 160.0
"""Width in Hz of the blocks in which that median is taken; between their centres it is interpolated."""

RANGE = 1e-5
"""Peaks weaker than this share of the strongest of the clip are not heard (-50 dB)."""

NOTES, HARMONICS, DECAY = 6, 8, 0.8
"""Notes that a window may have, harmonics that are summed for each, and the weight of one relative to the one below it."""

LEFT = 0.2
"""Share of a harmonic that a note leaves to other notes."""

WEAKEST = 0.2
"""Of the loudest peak of a window, what the weakest note must sum to (in compressed loudness: power to 1/4)."""


@dataclass(frozen=True, eq=False)
class Pitches:
    """What is known of the pitches of a clip."""

    notes: NDArray[np.float64]
    """Share of each MIDI pitch from `LOWEST` to `HIGHEST` in the notes found ``[p]``; zeros where there are none."""
    tonality: float
    """Share of the power that is in tonal peaks, 0 to 1; 0 where it is silent."""


def listen(audio: NDArray[np.float32], rate: int) -> Pitches:
    """Pitches of mono audio at a rate in Hz, whatever its level. It takes about 10 ms for 5 s."""
    power = _powers(audio, rate)
    count = HIGHEST - LOWEST + 1
    row, pitch, loud, tonality = _peaks(power)
    notes = _notes(row, pitch, loud**0.25, len(power), count)
    return Pitches(notes / max(1.0, float(notes.sum())), tonality)


def semitones(audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Strongest power within each semitone from `LOWEST` to `HIGHEST`, in dB below the clip's strongest ``[windows, p]``.

    For people to look at: notes are lines, noise is none. No lower than -60; all of that where it is silent.
    """
    power = _powers(audio, rate)
    edges = 440 * 2 ** ((np.arange(LOWEST, HIGHEST + 2) - 69.5) / 12) * SECONDS
    low = np.minimum(np.round(edges[:-1]).astype(int), power.shape[1] - 1)
    high = np.maximum(np.round(edges[1:]).astype(int), low + 1)
    found = np.stack([power[:, a:b].max(1) for a, b in zip(low, high, strict=True)], axis=1)
    return 10 * np.log10(np.maximum(found / max(float(power.max()), 1e-9), 1e-6))


def _peaks(power: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], float]:
    """Window, MIDI pitch (not rounded) and power of each tonal peak, and the share of all power that is theirs."""
    total = float(power.sum())
    tilted = power * np.arange(power.shape[1])  # music falls by some 3 dB an octave, and the floor is wanted flat
    inner, floor = power[:, 1:-1], _floor(tilted)[:, 1:-1]
    stands_out = tilted[:, 1:-1] > ABOVE * floor
    found = (inner > power[:, :-2]) & (inner >= power[:, 2:]) & stands_out & (inner > RANGE * power.max())
    row, column = np.nonzero(found)
    column += 1
    lobe = np.zeros(power.shape, bool)
    for offset in range(-2, 3):  # a Hann window's main lobe is four bins wide
        lobe[row, np.clip(column + offset, 0, power.shape[1] - 1)] = True
    left, middle, right = (np.log(np.maximum(power[row, column + i], 1e-30)) for i in (-1, 0, 1))
    offset_of_top = 0.5 * (left - right) / np.minimum(left - 2 * middle + right, -1e-9)
    pitch = 69 + 12 * np.log2((column + offset_of_top) / SECONDS / 440)
    return row, pitch, power[row, column], float(power[lobe].sum()) / total if total > 1e-9 else 0.0


def _floor(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median power around each bin ``[windows, bins]``."""
    width = round(SURROUNDINGS * SECONDS)
    blocks = max(1, power.shape[1] // width)
    middle = np.median(power[:, : blocks * width].reshape(len(power), blocks, -1), axis=2) + 1e-12
    at = np.clip((np.arange(power.shape[1]) + 0.5) / width - 0.5, 0, blocks - 1)
    low = np.minimum(at.astype(int), max(0, blocks - 2))
    part = at - low
    floor: NDArray[np.float64] = middle[:, low] ** (1 - part) * middle[:, np.minimum(low + 1, blocks - 1)] ** part
    return floor


def _notes(
    row: NDArray[np.int64], pitch: NDArray[np.float64], loud: NDArray[np.float64], windows: int, count: int
) -> NDArray[np.float64]:
    """Windows in which each pitch is among the notes ``[count]``."""
    series = 12 * np.log2(np.arange(1, HARMONICS + 1))[:, None]
    near = np.round(pitch - series).astype(int) - LOWEST
    known = (near >= 0) & (near < count)
    cell, decay = np.where(known, row * count + near, 0), known * DECAY ** np.arange(HARMONICS)[:, None]
    loudest = np.zeros(windows)
    np.maximum.at(loudest, row, loud)
    left, found = loud.copy(), np.zeros(count)
    for _ in range(NOTES):
        salience = np.bincount(cell.ravel(), (decay * left).ravel(), windows * count).reshape(windows, count)
        best = salience.argmax(1)
        good = salience[np.arange(windows), best] > WEAKEST * loudest
        found += np.bincount(best[good], minlength=count)
        theirs = (np.abs(pitch - series - (best + LOWEST)[row]) <= 0.6).any(0) & good[row]
        left = np.where(theirs, LEFT * left, left)
    return found


def _powers(audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Power spectra of audio scaled to an RMS of 1 ``[windows, bins]``, a bin every 1 / SECONDS Hz."""
    window = round(SECONDS * rate)
    wave = np.asarray(audio, np.float64)
    wave = np.pad(wave, (0, max(0, window - len(wave))))
    wave = wave / max(float(np.sqrt(np.mean(wave**2))), 1e-9)
    frames = np.lib.stride_tricks.sliding_window_view(wave, window)[:: window // 2]
    found: NDArray[np.float64] = np.abs(np.fft.rfft(frames * np.hanning(window))) ** 2 / window
    return found
