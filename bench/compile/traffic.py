"""From bytes counted at a few frames to bytes of a full batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bytes:
    """What one stage of an op moves for a full batch, in bytes; see `musae.bench.compile.count` for the two counts."""

    distinct: float
    """Of all kernels, each launch counted by itself."""
    issued: float
    eager: float
    """Of PyTorch's operators between kernels."""
    minimum: float

    @property
    def ratio(self) -> float:
        """What memory has to move, kernels and PyTorch's operators together, over the minimum."""
        return (self.distinct + self.eager) / self.minimum


def project(stage: Mapping[str, Any], frames: int, minimum: float | None = None) -> Bytes:
    """The bytes of a stage at so many frames, from its counts at two numbers of frames.

    Bytes grow in proportion to frames (and to latents, where these are scaled along), launch by launch and tensor by tensor,
    until a tensor has been touched as a whole; what is done to a sample of frames grows until the sample is full; issued bytes
    grow with the tiles of frames, from the larger number on. Where `minimum` is None, it is in the counts. Raises ValueError
    where the counts are not of the same launches, or of other constants than the full size has.
    """
    first, second = stage["counts"]
    keys = [launch["key"] for launch in first["launches"]]
    if keys != [launch["key"] for launch in second["launches"]]:
        names = [[launch["kernel"] for launch in count["launches"]] for count in (first, second)]
        counted = f"{first['n']} frames launch {names[0]}, {second['n']} frames {names[1]}"
        raise ValueError(f"{counted}, with other constants or in another order")
    foreign = sorted({launch["kernel"] for launch in first["launches"] if launch["key"] not in stage["real"]})
    if foreign:
        raise ValueError(f"{', '.join(foreign)}: counted with other constants than the full size has")

    def line(one: float, other: float, at: int = frames) -> float:
        slope = (other - one) / (second["n"] - first["n"])
        return max(0.0, float(one + slope * (at - first["n"])))

    distinct = issued = 0.0
    for one, other in zip(first["launches"], second["launches"], strict=True):
        issued += sum(other["issued"]) * frames / second["n"]
        for argument, (read, written, size) in one["distinct"].items():
            read_2, written_2, size_2 = other["distinct"][argument]
            whole = line(size, size_2)
            distinct += min(line(read, read_2), whole) + min(line(written, written_2), whole)
    return Bytes(
        distinct,
        issued,
        line(first["eager"], second["eager"]) + line(first["sampled"], second["sampled"], min(frames, first["sample_frames"])),
        line(first["minimum"], second["minimum"]) if minimum is None else minimum,
    )


def stray(stage: Mapping[str, Any]) -> list[str]:
    """Kernels that accessed memory outside their tensors."""
    launches: Sequence[Mapping[str, Any]] = [launch for count in stage["counts"] for launch in count["launches"]]
    return sorted({str(launch["kernel"]) for launch in launches if launch["stray"]})
