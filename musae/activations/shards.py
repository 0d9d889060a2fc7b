"""Files of an activation store: each holds some clips of one layer, ``x [clips, T, d]``, and the SHA-256 of its data.

A file is safetensors. Types of two or four bytes hold the stream as it is. ``int8`` holds it in steps: column j of a file has 255
values from its smallest to its largest, ``x = shift[j] + scale[j] * q``, rounded to the nearest; it is read as float16. The steps
follow the columns, since some columns of a residual stream are a hundred times as large as others.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from musae.errors import UserError
from musae.files import atomic_path, is_local, reaching

DType = Literal["float16", "bfloat16", "float32", "int8"]


class Kind(NamedTuple):
    """How a type is held."""

    memory: torch.dtype
    """Of the stream in memory."""
    code: str
    """safetensors' name of the type on disk."""
    size: int
    """Bytes of a number on disk."""


KINDS: dict[str, Kind] = {
    "float16": Kind(torch.float16, "F16", 2),
    "bfloat16": Kind(torch.bfloat16, "BF16", 2),
    "float32": Kind(torch.float32, "F32", 4),
    "int8": Kind(torch.float16, "I8", 1),
}

HEADER = 2**12
"""Bytes that hold the header of any shard, and that one request fetches."""
BLOCK = 2**20
"""Bytes that are read at a time to verify a checksum."""

LEVELS = 127
"""Steps of int8 on either side of the middle: -128 is not used, so that the steps lie evenly about it."""


class CorruptShard(UserError):
    """A shard that is missing or is not what its checksum says."""


def shard_path(folder: Path, shard: int) -> Path:
    """Name of a shard's file."""
    return folder / f"{shard:05d}.safetensors"


def quantise(x: Tensor) -> dict[str, Tensor]:
    """``x [..., d]`` as int8 ``x``, float32 ``scale [d]`` and ``shift [d]``."""
    columns = x.float().flatten(0, -2)
    low, high = columns.amin(0), columns.amax(0)
    shift, scale = (low + high) / 2, ((high - low) / (2 * LEVELS)).clamp_min(torch.finfo(torch.float32).tiny)
    steps = ((columns - shift) / scale).round_().clamp_(-LEVELS, LEVELS)
    return {"x": steps.to(torch.int8).view(x.shape), "scale": scale, "shift": shift}


def dequantise(steps: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """What `quantise` made, in the type that int8 is read as, of the same shape."""
    return torch.addcmul(shift, steps.float(), scale).to(KINDS["int8"].memory)


def write_shard(path: Path, x: Tensor, dtype: DType | None = None) -> str:
    """Write ``x [clips, T, d]`` atomically, its SHA-256 in the header; returns the SHA-256.

    `dtype`: on disk; None for that of `x`. With int8, `x` itself is rounded as well: it then is what a reader finds.
    """
    tensors = {"x": x.contiguous()}
    if dtype == "int8":
        tensors = quantise(x)
        x.copy_(dequantise(tensors["x"], tensors["scale"], tensors["shift"]))
    sums = hashlib.sha256()
    for name in ("scale", "shift", "x"):  # as they lie in the file
        if name in tensors:
            sums.update(tensors[name].view(torch.uint8).numpy().data)
    digest = sums.hexdigest()
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"sha256": digest}))
    return digest


class ShardFile:
    """Reads clips from one shard, without keeping any: plain reads, so that memory is what the caller holds."""

    def __init__(self, path: Path, dtype: DType, clips: int, frames: int, d: int):
        """Read the header. Raises CorruptShard when the file is missing, or holds anything but such a tensor."""
        self.path, self.shape, self.kind = path, (clips, frames, d), KINDS[dtype]
        self.quantised, self.verified = dtype == "int8", False
        sizes = {"x": clips * frames * d * self.kind.size}
        expected: dict[str, object] = {}
        if self.quantised:
            sizes = {"scale": 4 * d, "shift": 4 * d} | sizes  # safetensors puts wider types first
        end = 0
        for name, size in sizes.items():
            code, shape = (self.kind.code, list(self.shape)) if name == "x" else ("F32", [d])
            expected[name] = {"dtype": code, "shape": shape, "data_offsets": [end, end := end + size]}
        try:
            first = self._bytes(0, HEADER)
            length = int.from_bytes(first[:8], "little")
            header = json.loads(first[8 : 8 + length])
            self.sha256 = str(header.pop("__metadata__")["sha256"])
            self.data = 8 + length
            self.size = self.path.stat().st_size
            if header != expected or self.size != self.data + end:
                raise ValueError("wrong shape or length")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self.corrupt(f"is missing or damaged ({error})") from error
        self.offset = self.data + end - sizes["x"]

    def corrupt(self, what: str) -> CorruptShard:
        """The error that names this shard and the remedy."""
        return CorruptShard(
            f"{self.path}: shard {what}; delete it and run the same harvest again, which computes only this shard."
        )

    def verify(self, expected: str | None = None) -> None:
        """Compare the content with the header's checksum (and with `expected`). Raises CorruptShard."""
        digest = hashlib.sha256()
        for start in range(self.data, self.size, BLOCK):
            digest.update(self._bytes(start, min(start + BLOCK, self.size)))
        self._compare(digest.hexdigest(), expected)

    def read(self, out: Tensor, start: int, expected: str | None = None) -> None:
        """Fill ``out [b, T, d]`` (contiguous, of the type in memory) with the clips from `start` on.

        The first read also verifies the file, as `verify` does: without another pass over it where all clips are asked for.
        """
        if not self.verified and len(out) < self.shape[0]:
            self.verify(expected)
        held = torch.empty(out.shape, dtype=torch.int8) if self.quantised else out
        view = held.view(torch.uint8).numpy().reshape(-1).data
        self._fill(view, self.offset + start * self.shape[1] * self.shape[2] * self.kind.size)
        if not self.verified:
            digest = hashlib.sha256(self._bytes(self.data, self.offset))
            digest.update(view)
            self._compare(digest.hexdigest(), expected)
        if self.quantised:
            out.copy_(dequantise(held, *self._steps))

    def _compare(self, found: str, expected: str | None) -> None:
        if found != self.sha256 or (expected and expected != self.sha256):
            raise self.corrupt(f"does not match its checksum {(expected or self.sha256)[:10]}")
        self.verified = True

    @cached_property
    def _steps(self) -> tuple[Tensor, Tensor]:
        """Scale and shift of int8."""
        both = torch.frombuffer(bytearray(self._bytes(self.data, self.offset)), dtype=torch.float32)
        return both[: self.shape[2]], both[self.shape[2] :]

    def _fill(self, view: memoryview, begin: int) -> None:
        """Fill memory with the file's bytes from `begin` on."""
        done = 0
        if is_local(self.path):
            with self.path.open("rb", buffering=0) as file:
                file.seek(begin)
                while done < len(view) and (count := file.readinto(view[done:])):
                    done += count
        else:
            found = self._bytes(begin, begin + len(view))
            done = len(found)
            view[:done] = found
        if done < len(view):
            raise self.corrupt("ends early")

    def _bytes(self, start: int, stop: int) -> bytes:
        """Bytes of the file, fewer where it ends before `stop`: one request, where it is elsewhere."""
        if is_local(self.path):
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read(stop - start)
        remote: Any = self.path
        with reaching(self.path):
            found: bytes = remote.fs.cat_file(remote.path, start=start, end=stop)
            return found
