"""Notes -> audio, through a General MIDI soundfont.

Conventions
-----------
- The synthesiser is `midirenderer` (rustysynth) with TimGM6mb.sf2, which is found inside the installed `pretty_midi` package
  (GPL-2: it is used, never copied). It renders 48 kHz, 16 bit, stereo; here it becomes mono, resampled by soxr.
- The synthesiser starts events on blocks of 64 samples. `_midi` writes its ticks so that each event falls on the *nearest*
  block: onsets are off by at most 0.67 ms.
- Level: every channel has volume 100 of 127 and plays dry (no reverb, no chorus), so that nothing of a note outlasts its own
  release. One constant, `GAIN`, scales all audio: loudness then says something, and no rendering depends on another. A note's
  level falls with the square root of the number of voices, the rule under which independent voices keep the mix's power.
- A rendering is a function of its segment alone, bit by bit: no state is kept between segments, and workers only share work.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import joblib
import midirenderer
import numpy as np
import soxr
from numpy.typing import NDArray

from musae.corpora.track import Note, Voice
from musae.errors import UserError

SYNTH_RATE = 48_000
"""Sampling rate of the synthesiser in Hz."""
BLOCKS_PER_SECOND = SYNTH_RATE // 64
"""Blocks on which the synthesiser starts events."""
GAIN = 2.0
"""From the synthesiser's full scale to ours: music of up to five voices then peaks at 0.2 to 0.6."""
VOLUME = 100
"""MIDI channel volume of a lone voice."""
DRUM_CHANNEL = 9
MELODIC_CHANNELS = tuple(c for c in range(16) if c != DRUM_CHANNEL)


@dataclass(frozen=True, slots=True)
class Segment:
    """What is to be heard: `duration` seconds from `start` of a piece with these notes and voices.

    Notes that sound at `start` are struck up to `LEAD` seconds earlier and that lead is cut off, so that they are heard in
    their course, not struck anew.
    """

    notes: Sequence[Note]
    voices: Sequence[Voice]
    duration: float
    start: float = 0.0


LEAD = 1.0
"""Seconds that are rendered before a segment and cut off."""


def render(segment: Segment, rate: int) -> NDArray[np.float32]:
    """Mono audio of a segment, `round(duration * rate)` samples in [-1, 1]. Raises UserError for more than 15 melodic voices."""
    lead = min(LEAD, segment.start)
    length = lead + segment.duration
    midi = _midi(segment.notes, segment.voices, segment.start - lead, length)
    wave = midirenderer.render_wave_from(soundfont(), midi)
    stereo = np.frombuffer(wave, dtype="<i2", offset=44).reshape(-1, 2)
    mono = stereo.sum(axis=1, dtype=np.int32).astype(np.float32) * np.float32(GAIN / 2 / 32768)
    mono = soxr.resample(mono, SYNTH_RATE, rate) if rate != SYNTH_RATE else mono
    skip, count = round(lead * rate), round(segment.duration * rate)
    audio = np.zeros(count, np.float32)
    heard = mono[skip : skip + count]
    audio[: len(heard)] = heard
    return np.clip(audio, -1.0, 1.0, out=audio)


def render_all(segments: Iterable[Segment], rate: int, workers: int | None = None) -> Iterator[NDArray[np.float32]]:
    """Audio of each segment in order, rendered by `workers` processes (default: one per core; the synthesiser holds the GIL).

    Segments are drawn from the iterable as they are needed, a few ahead, so that memory stays bounded.
    """
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        return (render(segment, rate) for segment in segments)
    jobs = (joblib.delayed(render)(segment, rate) for segment in segments)
    audio: Iterator[NDArray[np.float32]] = joblib.Parallel(
        n_jobs=workers, return_as="generator", pre_dispatch=4 * workers, batch_size=1
    )(jobs)
    return audio


@cache
def soundfont() -> bytes:
    """The bytes of TimGM6mb.sf2, found without importing pretty_midi. Raises UserError when it is not installed."""
    spec = importlib.util.find_spec("pretty_midi")
    path = Path(spec.origin).with_name("TimGM6mb.sf2") if spec and spec.origin else None
    if path is None or not path.is_file():
        raise UserError("the soundfont TimGM6mb.sf2 is missing; install the package that brings it: pip install pretty_midi.")
    return path.read_bytes()


def synthesiser() -> str:
    """What the sound depends on beside the notes, for a corpus's revision: the synthesiser's version and soundfont's SHA-256."""
    version = importlib.metadata.version("midirenderer")
    return f"midirenderer {version}, soundfont {hashlib.sha256(soundfont()).hexdigest()}"


def _midi(notes: Sequence[Note], voices: Sequence[Voice], start: float, length: float) -> bytes:
    """A format 0 MIDI file of `length` seconds of `notes` from `start`: one quarter is one second, two ticks are one block."""
    channels = _channels(voices)
    events: list[tuple[int, int, bytes]] = []
    volume = round(VOLUME / max(1, len(voices)) ** 0.25)  # the synthesiser squares it
    for voice, channel in zip(voices, channels, strict=True):
        events.append((0, 0, bytes((0xC0 | channel, voice.program))))
        events += [(0, 0, bytes((0xB0 | channel, controller, value))) for controller, value in ((7, volume), (91, 0), (93, 0))]
    off_at: dict[tuple[int, int], int] = {}
    end = start + length
    for note in sorted(notes, key=lambda n: n.onset, reverse=True):
        if note.onset >= end or note.onset + note.duration <= start:
            continue
        channel = channels[note.voice]
        on = _tick(max(note.onset, start) - start)
        # A note ends at the latest when its pitch is struck again: its own release would silence the new one.
        off = min(_tick(min(note.onset + note.duration, end) - start), off_at.get((channel, note.pitch), 2**31))
        if off > on:
            off_at[channel, note.pitch] = on
            events.append((on, 2, bytes((0x90 | channel, note.pitch, note.velocity))))
            events.append((off, 1, bytes((0x80 | channel, note.pitch, 0))))
    body, now = bytearray(b"\x00\xff\x51\x03" + (1_000_000).to_bytes(3, "big")), 0
    for tick, _, message in sorted(events):
        body += _variable_length(tick - now) + message
        now = tick
    body += _variable_length(max(0, round(length * 2 * BLOCKS_PER_SECOND) - now)) + b"\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 2 * BLOCKS_PER_SECOND)
    return header + b"MTrk" + struct.pack(">I", len(body)) + bytes(body)


def _tick(seconds: float) -> int:
    """The tick half a block before the nearest block: the synthesiser plays it at that block, whatever its rounding."""
    return max(0, 2 * round(seconds * BLOCKS_PER_SECOND) - 1)


def _channels(voices: Sequence[Voice]) -> list[int]:
    """MIDI channel of each voice."""
    melodic = iter(MELODIC_CHANNELS)
    try:
        return [DRUM_CHANNEL if voice.drums else next(melodic) for voice in voices]
    except StopIteration:
        count = sum(not voice.drums for voice in voices)
        raise UserError(f"a piece has {count} melodic voices; MIDI has channels for {len(MELODIC_CHANNELS)}.") from None


def _variable_length(number: int) -> bytes:
    """A MIDI variable-length quantity."""
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(0x80 | number & 0x7F)
    return bytes(reversed(digits))
