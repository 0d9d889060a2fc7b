"""The activation store: one layer's residual stream of many clips, on disk, with where each row comes from.

A store is a folder, ``<root>/<generator>@<revision>/layer<L>/<key>/``, whose key is a hash of what determines its content
(`harvest.key`). `musae.activations.harvest` fills it; it holds

- ``00000.safetensors``, ...: shards (`musae.activations.shards`), each ``x [clips, T, d]`` and its SHA-256. Shard s of S holds
  clips s, s + S, s + 2 S, ...: each shard is spread over the whole set of tokens, so that a few shards are a fair sample of it;
- ``tokens.npz``: the `Tokens`, in their order: clip, track, group and corpus of each clip, and its codes;
- ``summary.safetensors``: float64 ``position_means [T, d]`` and ``times [T]`` (seconds from the clip's start);
- ``manifest.json``, a `Manifest`, written last: a folder without it is not finished.

Row r is position r mod T of clip r // T, clips in the order of the tokens.

The folder is local, or anywhere that fsspec reaches (`musae.files.place`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load
from torch import Tensor

from musae.activations import shuffle
from musae.activations.shards import KINDS, DType, ShardFile, shard_path
from musae.activations.shuffle import ahead, sequences_per_clip
from musae.activations.tokens import Tokens
from musae.errors import UserError
from musae.files import is_local, place, reaching, sha256

FORMAT = 1
"""Version of the layout described above."""

BUFFER_FRAMES = 2**18
"""Frames that `Store.batches` holds in memory by default: 128 MiB at d = 256 in float16, 512 MiB at d = 1,024.

Twice as much where there is more than one pool: the next is read while one is used."""

READERS = 4
"""Runs of clips that are read at once: hides the latency of a disk or network, and of checksums."""


class Shard(BaseModel):
    """One file of the store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clips: int = Field(ge=1)
    frames: int = Field(ge=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the tensor's bytes, little-endian, row-major."""


class Manifest(BaseModel):
    """What a store holds. Written when every shard is done."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    generator: str
    generator_revision: str
    layer: int = Field(ge=0)
    corpora: dict[str, str]
    """Corpus name -> revision."""
    tokens: str
    """`Tokens.digest`."""
    dtype: DType
    d: int = Field(ge=1)
    frames_per_clip: int = Field(ge=1)
    clips: int = Field(ge=1)
    frames: int = Field(ge=1)
    shards: tuple[Shard, ...]
    files: dict[str, str]
    """SHA-256 of ``tokens.npz`` and ``summary.safetensors``."""
    created: str
    """UTC, ISO 8601."""
    versions: dict[str, str]
    """Packages that computed it."""


class Rows(NamedTuple):
    """Where rows come from; one entry a row."""

    track: NDArray[np.str_]
    clip: NDArray[np.str_]
    time: NDArray[np.float64]
    """Seconds from the clip's start."""


class Store:
    """A finished store, opened by `open_store`. Satisfies `musae.dictionary.FrameSource`; all frames are read as float32."""

    def __init__(self, folder: Path, manifest: Manifest, buffer_frames: int = BUFFER_FRAMES):
        self.folder, self.manifest, self.buffer_frames = folder, manifest, buffer_frames
        self._files: dict[int, ShardFile] = {}

    @property
    def d(self) -> int:
        """Width of the residual stream."""
        return self.manifest.d

    @property
    def frames(self) -> int:
        """Rows in all."""
        return self.manifest.frames

    @property
    def shape(self) -> tuple[int, int, int]:
        """(clips, T, d)."""
        return self.manifest.clips, self.manifest.frames_per_clip, self.manifest.d

    @property
    def frames_per_clip(self) -> int:
        """Frames T of each clip."""
        return self.manifest.frames_per_clip

    @cached_property
    def tokens(self) -> Tokens:
        """The clips' codes and origin, in the order of the rows."""
        return Tokens.load_packed(self._checked("tokens.npz"))

    @cached_property
    def _summary(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = load(self._checked("summary.safetensors").read_bytes())
        return tensors

    @property
    def identity(self) -> str:
        """Twelve hex digits over the contents: equal stores agree, whenever and wherever they were made."""
        return hashlib.sha256(self.manifest.model_dump_json(exclude={"files", "created", "versions"}).encode()).hexdigest()[:12]

    def mean(self) -> Tensor:
        """Mean of all frames, summed in float64, as float32 ``[d]``."""
        return self._summary["position_means"].mean(0).float()

    def position_means(self) -> Tensor:
        """Mean over clips at each position, float64 ``[T, d]``."""
        return self._summary["position_means"]

    def times(self) -> Tensor:
        """Seconds from the clip's start of each position, float64 ``[T]``."""
        return self._summary["times"]

    def rows(self, index: NDArray[np.integer] | Sequence[int]) -> Rows:
        """Track, clip and time of rows `index`."""
        clip, position = np.divmod(np.asarray(index, np.int64), self.manifest.frames_per_clip)
        return Rows(self.tokens.tracks[clip], self.tokens.clips[clip], self.times().numpy()[position])

    def clips(self, index: Sequence[int] | NDArray[np.integer] | None = None, *, batch: int = 16) -> Iterator[Tensor]:
        """The streams of clips `index` (default all) in that order, float32 ``[<= batch, T, d]`` at a time."""
        chosen = np.arange(self.manifest.clips) if index is None else np.asarray(index, np.int64)
        for start in range(0, len(chosen), batch):
            yield self._read(chosen[start : start + batch]).float()

    def array(self) -> Tensor:
        """Everything at once, float32 ``[clips, T, d]``: for stores that fit in memory."""
        out = torch.empty(self.shape)
        for start, x in zip(range(0, len(out), 64), self.clips(batch=64), strict=True):
            out[start : start + 64] = x
        return out

    def batches(self, batch_size: int, *, seed: int, epochs: int = 1, start_step: int = 0) -> Iterator[Tensor]:
        """Shuffled frames, float32 ``[batch_size, d]``: every frame once an epoch; an epoch's last batch may be smaller.

        Shards are put in random order and cut into pools of at most `buffer_frames` frames (and at least one clip); a pool is
        read whole and its frames are drawn in random order. Since a shard is spread over the whole store, so is a pool; a store
        that fits in the buffer is shuffled perfectly. A thread reads ahead, pools and batches. Memory: two pools in the store's
        type, and less than five batches.

        The order depends on `seed`, the epoch and `buffer_frames` alone. `start_step` skips that many batches (as counted over
        all epochs) and reads none of the pools that lie before: a resumed training sees what it would have seen.
        """
        for batch in self.sequences(batch_size, 1, seed=seed, epochs=epochs, start_step=start_step):
            yield batch.squeeze(1)

    def sequences(self, batch_size: int, length: int, *, seed: int, epochs: int = 1, start_step: int = 0) -> Iterator[Tensor]:
        """Shuffled sequences, float32 ``[batch_size, length, d]``; see `musae.dictionary.SequenceSource`.

        Order and memory are those of `batches`, with one more pool in memory where `length` does not divide T.
        """
        yield from ahead(self._sequences(batch_size, length, seed, epochs, start_step))

    def _sequences(self, batch_size: int, length: int, seed: int, epochs: int, start_step: int) -> Iterator[Tensor]:
        per_clip = sequences_per_clip(self.frames_per_clip, length)
        per_epoch = -(-self.manifest.clips * per_clip // batch_size)
        for epoch in range(start_step // per_epoch, epochs):
            skip = max(0, start_step - epoch * per_epoch) * batch_size
            yield from self._epoch(batch_size, length, per_clip, seed, epoch, skip)

    def sample(self, n: int, seed: int) -> Tensor:
        """`n` different frames (all of them where the store has fewer), float32 ``[n, d]``.

        The first of a shuffled pass: from as few shards as fill the buffer, spread over the store.
        """
        return next(self.batches(min(n, self.frames), seed=seed))

    def locate_nonfinite(self) -> str:
        """The first NaN or infinite value, by shard, clip and frame; empty where there is none. Asks no checksums."""
        shards = len(self.manifest.shards)
        for shard in range(shards):
            members = np.arange(shard, self.manifest.clips, shards)
            bad = (~torch.isfinite(self._read(members, verify=False))).any(2).nonzero()
            if len(bad):
                slot, frame = bad[0].tolist()
                return f"{shard_path(self.folder, shard)}, clip {self.tokens.clips[members[slot]]} (row {slot}), frame {frame}"
        return ""

    def _epoch(self, batch_size: int, length: int, per_clip: int, seed: int, epoch: int, skip: int) -> Iterator[Tensor]:
        """One epoch's batches, without its first `skip` sequences, of which each clip has `per_clip`."""
        clips, frames, d = self.shape
        shards = len(self.manifest.shards)
        order = np.random.default_rng([seed, epoch]).permutation(shards)
        queue = np.concatenate([np.arange(s, clips, shards) for s in order])
        pools = shuffle.pools(queue, frames, self.buffer_frames)
        buffers = [torch.empty(len(pools[0]), frames, d, dtype=KINDS[self.manifest.dtype].memory) for _ in pools[:2]]
        reading = dict[int, Future[Tensor]]()
        with ThreadPoolExecutor(1) as reader:

            def read(number: int, pool: shuffle.Pool) -> list[Tensor]:
                for one in (number, number + 1):  # the buffer of `number + 1` was that of `number - 1`, which is used up
                    if one < len(pools) and one not in reading:
                        reading[one] = reader.submit(self._read, pools[one], buffers[one % 2][: len(pools[one])])
                return [reading.pop(number).result()[:, : per_clip * length].reshape(-1, length, d)]

            for [batch] in shuffle.batches(pools, per_clip, read, batch_size, seed=seed, epoch=epoch, skip=skip):
                yield batch

    def _read(self, clips: NDArray[np.integer], out: Tensor | None = None, verify: bool = True) -> Tensor:
        """Streams of clips in the type in memory ``[n, T, d]``, neighbours in a shard by one read, `READERS` reads at a time."""
        if out is None:
            out = torch.empty(len(clips), *self.shape[1:], dtype=KINDS[self.manifest.dtype].memory)
        slot, shard = np.divmod(clips, len(self.manifest.shards))
        breaks = np.flatnonzero((np.diff(shard) != 0) | (np.diff(slot) != 1)) + 1
        runs = [run for run in np.split(np.arange(len(clips)), breaks) if len(run)]

        def fill(run: NDArray[np.integer]) -> None:
            self._fill(int(shard[run[0]]), int(slot[run[0]]), out[run[0] : run[-1] + 1], verify)

        if len(runs) == 1:
            fill(runs[0])
        else:
            with ThreadPoolExecutor(READERS) as readers:
                list(readers.map(fill, runs))
        return out

    def _fill(self, shard: int, slot: int, out: Tensor, verify: bool) -> None:
        """Clips of a shard from `slot` on; its checksum is verified at the first touch."""
        entry = self.manifest.shards[shard]
        file = self._files.get(shard)
        if file is None:
            file = ShardFile(shard_path(self.folder, shard), self.manifest.dtype, entry.clips, *self.shape[1:])
            file.verified = not verify
            if verify:
                self._files[shard] = file
        file.read(out, slot, entry.sha256)

    def _checked(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file() or sha256(path) != self.manifest.files.get(name):
            raise UserError(
                f"{path}: missing or not what the manifest's checksum says; delete it and run the same harvest again."
            )
        return path


def open_store(
    path: Path | str,
    *,
    generator_revision: str | None = None,
    layer: int | None = None,
    corpus_revisions: Mapping[str, str] | None = None,
    buffer_frames: int = BUFFER_FRAMES,
) -> Store:
    """Open a finished store.

    Args:
        path: the folder that holds ``manifest.json``, or its URL.
        generator_revision, layer, corpus_revisions: what the caller works with; the store is refused when it was made with
            another. `corpus_revisions` may name more corpora than the store holds.
        buffer_frames: frames that a shuffled pass may hold in memory.

    Raises UserError: no store there or not finished, a manifest that is not valid, a mismatch (both values named).
    """
    folder = place(path)
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(f"{folder}: no manifest.json, so no finished activation store; run musae harvest (again) to finish it.")
    expected: list[tuple[str, object, object]] = []
    if generator_revision is not None:
        expected.append((f"revision of generator {manifest.generator!r}", manifest.generator_revision, generator_revision))
    if layer is not None:
        expected.append(("layer", manifest.layer, layer))
    if corpus_revisions is not None:
        expected += [(f"revision of corpus {name!r}", had, corpus_revisions.get(name)) for name, had in manifest.corpora.items()]
    for what, had, wanted in expected:
        if had != wanted:
            raise UserError(f"{folder}: the store was made with {what} {had}, not {wanted}; harvest again for {wanted}.")
    return Store(folder, manifest, buffer_frames)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a store's folder, None where there is none. Raises UserError when it is not valid."""
    path = folder / "manifest.json"
    with reaching(path) if not is_local(path) else nullcontext():
        if not path.exists():
            return None
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
        if manifest.format != FORMAT:
            raise UserError(f"{path}: format {manifest.format}, this musae reads format {FORMAT}; harvest again.")
        counts = [(s.clips, s.frames) for s in manifest.shards]
        clips, frames, shards = manifest.clips, manifest.frames_per_clip, len(manifest.shards)
        if (
            counts != [((n := len(range(s, clips, shards))), n * frames) for s in range(shards)]
            or manifest.frames != clips * frames
        ):
            raise ValueError("its counts of clips and frames do not add up")
    except (ValidationError, ValueError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, problem["loc"])) or "manifest"
        raise UserError(f"{path}: {where}: {problem['msg']}; delete it and run the same harvest again.") from error
    return manifest
