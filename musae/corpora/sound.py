"""Recordings in files: what is in one, and clips of it at any rate. libsndfile reads them, or PyAV (ffmpeg) where installed.

A clip's audio depends on the file, start, length and rate alone: it is resampled (soxr, high quality) with a margin on either
side, and channels are averaged.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from musae.errors import UserError
from musae.files import sha256

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("aac", "aif", "aiff", "au", "caf", "flac", "m4a", "mka", "mp3", "mp4"),
        *("oga", "ogg", "opus", "rf64", "w64", "wav", "webm", "wma"),
    )
)
"""What is taken for an audio file by its name."""

SHORTEST = 0.1
"""Seconds; a file that is shorter has no frame of any codec to speak of."""
SILENT = 1e-3
"""Peak (-60 dBFS) below which a whole file is silent."""
CLIPPED = 1e-3
"""Share of samples at full scale above which it is remarked."""
MARGIN = 0.05
"""Seconds read beyond a clip on either side: resampling filters are shorter."""
RESERVOIR = 1.0
"""Seconds read before a clip of an MP3 file: a frame may need bits of many frames before it, or it is decoded as silence."""
BLOCK = 2**18
"""Samples of each channel that are read at a time."""


class Sound(BaseModel):
    """A file's audio."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    seconds: float = 0.0
    rate: int = 0
    channels: int = 0
    peak: float = 0.0
    clipped: float = 0.0
    """Share of samples at full scale."""
    problem: str = ""
    """Why it cannot be used; empty for a file that can."""

    def remarks(self) -> list[str]:
        """What a listener should know of a file that can be used."""
        found = []
        if self.clipped > CLIPPED:
            found.append(f"{self.clipped:.1%} of its samples are at full scale: it is clipped")
        if self.channels > 2:
            found.append(f"its {self.channels} channels are averaged")
        if self.rate < 16_000:
            found.append(f"sampled at {self.rate} Hz: it has nothing above {self.rate / 2000:g} kHz")
        return found


def inspect(path: Path) -> Sound:
    """Read a whole file and say what is in it. What is wrong with it is its `problem`; only a missing file raises."""
    digest = sha256(path)
    if not path.stat().st_size:
        return Sound(sha256=digest, problem="empty file")
    frames, full, peak, finite = 0, 0, 0.0, True
    try:
        with _open(path) as file:
            rate, channels = file.samplerate, file.channels
            for block in file.blocks(BLOCK, dtype="float32", always_2d=True):
                size = np.abs(block)
                frames += len(block)
                finite = finite and bool(np.isfinite(size).all())
                peak = max(peak, float(size.max(initial=0.0)))
                full += int((size >= 0.9999).sum())
    except UserError as error:
        return Sound(sha256=digest, problem=str(error))
    except (soundfile.LibsndfileError, RuntimeError, OSError, ValueError) as error:
        return Sound(sha256=digest, problem=f"damaged: {_line(error)}")
    seconds = frames / rate if rate else 0.0
    problem = ""
    if seconds < SHORTEST:
        problem = f"{frames} samples, {seconds:.4f} s: shorter than {SHORTEST} s"
    elif not finite:
        problem = "NaN or infinite samples"
    elif peak < SILENT:
        problem = "silent: no sample above -60 dBFS"
    share = full / max(1, frames * channels)
    peak = peak if finite else 0.0
    return Sound(sha256=digest, seconds=seconds, rate=rate, channels=channels, peak=peak, clipped=share, problem=problem)


def read(path: Path, start: float, seconds: float, rate: int) -> NDArray[np.float32]:
    """Mono audio of [start, start + seconds), ``round(seconds * rate)`` samples in [-1, 1]; silence beyond the file's end.

    Raises UserError for a file that can no longer be read.
    """
    wanted = round(seconds * rate)
    try:
        with _open(path) as file:
            own = file.samplerate
            first = round(start * own)
            before = min(first, round((RESERVOIR if file.format == "MP3" else MARGIN) * own))
            file.seek(first - before)
            samples = file.read(before + round((seconds + MARGIN) * own), dtype="float32", always_2d=True).mean(1)
    except (soundfile.LibsndfileError, RuntimeError, OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read any more ({_line(error)}); restore it, or run `musae corpus doctor`.") from error
    if own != rate:
        samples = soxr.resample(samples, own, rate)
    skip = round(before * rate / own)
    out = np.zeros(wanted, np.float32)
    kept = samples[skip : skip + wanted]
    out[: len(kept)] = kept
    return np.asarray(np.clip(out, -1, 1), np.float32)


def _open(path: Path) -> Any:
    """The file as soundfile reads it, or decoded by PyAV. Raises UserError where neither knows the format."""
    try:
        return soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        if importlib.util.find_spec("av") is None:
            raise UserError(
                f"libsndfile cannot read it ({_line(error)}); if it is audio, `pip install av` reads whatever ffmpeg does"
            ) from error
    return _Decoded(path)


class _Decoded:
    """A file decoded by PyAV at once, with the part of SoundFile's interface that is used here."""

    format = "decoded"

    def __init__(self, path: Path) -> None:
        av = importlib.import_module("av")  # an extra, and without it this is not called
        try:
            with av.open(str(path)) as container:
                if not container.streams.audio:
                    raise UserError("no audio stream in it")
                stream = container.streams.audio[0]
                self.samplerate, self.channels = int(stream.rate), int(stream.channels)
                resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
                parts = [p.to_ndarray() for frame in container.decode(stream) for p in resampler.resample(frame)]
        except (av.FFmpegError, ValueError) as error:
            raise UserError(f"neither libsndfile nor ffmpeg can read it ({_line(error)})") from error
        joined = np.concatenate(parts, axis=1).T if parts else np.zeros((0, self.channels))
        self.samples: NDArray[np.float32] = np.asarray(joined, np.float32)
        self.place = 0

    def __enter__(self) -> _Decoded:
        return self

    def __exit__(self, *_: object) -> None: ...

    def seek(self, place: int) -> None:
        self.place = place

    def read(self, frames: int, **_: Any) -> NDArray[np.float32]:
        block = self.samples[self.place : self.place + frames]
        self.place += len(block)
        return block

    def blocks(self, size: int, **_: Any) -> Any:
        return (self.samples[i : i + size] for i in range(0, len(self.samples), size))


def _line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
