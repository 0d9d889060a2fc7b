"""What a run will cost, before it is run: operations, bytes on disk, bytes moved, and hours on some device.

Operations are those of matrix products (a multiplication and an addition are two), of a decoder whose feed-forward layers are
four times as wide as its stream, without cross-attention:

    a block, a frame of a clip of T:   24 d^2 + 4 T d
    a dictionary, a frame:             2 d F to encode, 10 d k for the sparse products of decoder and gradients
    a step's update:                   28 bytes moved for each of 2 d F weights (weight, two moments and gradient; Adam)

Hours are these, at some efficiency: share of the device's peak that such work reaches. What this machine's peak is, is measured
when it is asked for (`this_machine`); `H100` is a data sheet's. ``musae bench cost`` holds the model against small runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from musae.card import GeneratorCard

ENCODEC = 8.8e9
"""Operations to encode a second of audio with EnCodec at 32 kHz: 7.1e9 of its convolutions (counted by torch's FlopCounterMode),
and 1.7e9 of its LSTM (two layers of width 1,024 at 50 Hz)."""


@dataclass(frozen=True)
class Work:
    """What is to be done."""

    operations: float = 0.0
    moved: float = 0.0
    """Bytes that pass through the device's memory beside the matrix products."""

    def __add__(self, other: Work) -> Work:
        return Work(self.operations + other.operations, self.moved + other.moved)


@dataclass(frozen=True)
class Device:
    """A processor's peaks, and what share of them such work reaches."""

    name: str
    operations: float
    """Peak, a second."""
    bandwidth: float
    """Of its memory, bytes a second."""
    efficiency: float
    known: str
    """How its figures are known, in words."""
    gpu: bool = False

    def hours(self, work: Work) -> float:
        """Time for some work."""
        return (work.operations / self.operations + work.moved / self.bandwidth) / self.efficiency / 3600

    def duration(self, work: Work) -> str:
        """The same in words."""
        hours = self.hours(work)
        return f"{hours:.2g} GPU-hours" if self.gpu else duration(hours)


H100 = Device("H100", 989e12, 3.35e12, 0.4, "modelled: 40 % of 989 TFLOP/s (bf16, dense; data sheet); measured on none", gpu=True)


def this_machine() -> Device:
    """This machine's peaks with PyTorch's present threads, measured for about a second. The efficiency is `EFFICIENCY`."""
    import torch

    a, large = torch.ones(1024, 1024), torch.ones(2**24)
    products = _best(lambda: a @ a)
    copies = _best(lambda: large.mul(2.0))
    operations, bandwidth = 2 * 1024**3 / products, 2 * 4 * 2**24 / copies
    threads = torch.get_num_threads()
    words = f"{EFFICIENCY:.0%} of the {operations / 1e9:,.0f} GFLOP/s that a matrix product reached just now, {threads} threads"
    return Device("this machine", operations, bandwidth, EFFICIENCY, words)


EFFICIENCY = 0.6
"""Of a CPU. In ``musae bench cost``, runs took .94 (nano's harvest), .72 (blocks of musicgen-small's size) and .53 (`topk`) of
the time that it predicts: an estimate within a factor of two."""


def _best(work: object) -> float:
    """Seconds of the fastest of some runs."""
    assert callable(work)
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < 5 or time.perf_counter() - begun < 0.5:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def forward(card: GeneratorCard, layer: int, clips: int, frames: int) -> Work:
    """A generator's blocks up to a layer, over `clips` clips of `frames` frames."""
    block = 24 * card.width**2 + 4 * frames * card.width
    return Work(float(clips) * frames * layer * block)


def codec(generator: str, seconds: float) -> Work:
    """Encoding some seconds of audio, for a generator (by its name) that has EnCodec; nano's codec costs next to nothing."""
    return Work(seconds * ENCODEC if generator.partition(":")[0] in ("musicgen", "audiocraft") else 0.0)


def training(d: int, width: int, k: int, frames: int, batch: int) -> Work:
    """One dictionary, trained on `frames` frames in batches of `batch`."""
    operations = 2.0 * d * width + 10.0 * d * k
    return Work(frames * operations, 28.0 * 2 * d * width * (frames / batch))


def dictionaries(d: int, widths: Iterable[int]) -> int:
    """Bytes of dictionaries on disk: encoder, decoder and biases in float32."""
    return sum(4 * (2 * d * width + width + d) for width in widths)


def size(count: float) -> str:
    """Bytes in words: ``1.6 TiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:,.0f} {unit}" if count >= 100 or unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def duration(hours: float) -> str:
    """Hours in words: ``40 s``, ``12 min``, ``3.4 h``, ``5.1 days``."""
    seconds = hours * 3600
    if seconds < 100:
        return f"{max(1, seconds):.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"
