"""Harvest: run a generator over tokens once and keep the residual stream of some of its layers in stores on disk.

Several layers come from one forward pass. Each shard is written under its final name when it is done and carries its own
checksum, so that an interrupted harvest, run again, checks what is there and computes only what is missing or damaged. Batches
never cross shards: the numbers do not depend on where a run was interrupted.

Activations are float16 by default: half the disk and twice the reading speed of float32. Rounding is relative (2^-11), so it
adds about 1e-7 of a stream's power to the error of a reconstruction, far below any dictionary's; a stream beyond float16's range
(65,504) is refused with the remedy, a wider type.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from musae import provenance
from musae.activations.store import (
    FORMAT,
    ITEM,
    CorruptShard,
    DType,
    Manifest,
    Shard,
    ShardFile,
    Store,
    open_store,
    read_manifest,
    shard_path,
    write_shard,
)
from musae.activations.tokens import Progress, Tokens, codec_revision
from musae.errors import UserError
from musae.files import atomic_path, sha256
from musae.generators.generator import Generator

SHARD_CLIPS = 64
"""Clips of a shard: 8 MiB for 10 s clips of the embedded generator, 200 MB for 30 s of MusicGen's d = 1,024."""


def key(tokens: Tokens, dtype: DType, shard_clips: int) -> str:
    """Ten hex digits of what determines a store's content, given generator and layer: the name of its folder."""
    return hashlib.sha256(f"{FORMAT} {tokens.digest} {dtype} {shard_clips}".encode()).hexdigest()[:10]


def store_path(
    generator: Generator, tokens: Tokens, layer: int, root: Path, *, dtype: DType = "float16", shard_clips: int = SHARD_CLIPS
) -> Path:
    """The folder in which `harvest` puts a layer's store."""
    return root / f"{generator.card.name}@{generator.revision}" / f"layer{layer}" / key(tokens, dtype, shard_clips)


def estimate(clips: int, frames: int, d: int, layers: int, dtype: DType = "float16") -> int:
    """Bytes on disk of activations: `clips` clips of `frames` frames of width `d` at `layers` layers (codes add about 1 %)."""
    return clips * frames * d * layers * ITEM[dtype][0].itemsize


def harvest(
    generator: Generator,
    tokens: Tokens,
    layers: Sequence[int],
    root: Path | str,
    *,
    dtype: DType = "float16",
    shard_clips: int = SHARD_CLIPS,
    batch_clips: int = 16,
    progress: Progress | None = None,
) -> dict[int, Store]:
    """Make (or finish, or just open) the store of each layer; layer -> store.

    Args:
        tokens: made with this generator's codec.
        root: stores lie in ``<root>/<generator>@<revision>/layer<L>/<key>/``.
        dtype: of the stored activations; see the module's header.
        batch_clips: clips of one forward pass.
        progress: called after each shard with (clips done, clips in all), those found on disk included.

    Raises UserError: tokens of another codec, a layer that is not there, too little free disk (before anything is computed), a
    full disk, NaN or infinite activations (the clip is named).
    """
    root = Path(root)
    check(generator, tokens, layers)
    folders = {layer: store_path(generator, tokens, layer, root, dtype=dtype, shard_clips=shard_clips) for layer in layers}
    shards = -(-len(tokens) // shard_clips)
    members = [np.arange(shard, len(tokens), shards) for shard in range(shards)]
    writers = [_Writer(folder, generator, layer, tokens, dtype) for layer, folder in folders.items() if not _finished(folder)]
    _check_disk(root, sum(writer.missing_bytes(members) for writer in writers))
    for shard, clips in enumerate(members):
        wanting = [writer for writer in writers if not writer.adopt(shard, len(clips))]
        if wanting:
            shape = (len(clips), tokens.frames, generator.card.width)
            streams = [torch.empty(shape, dtype=ITEM[dtype][0]) for _ in wanting]
            fill(streams, generator, tokens, clips, [writer.layer for writer in wanting], dtype, batch_clips)
            for writer, x in zip(wanting, streams, strict=True):
                writer.add(x, write_shard(shard_path(writer.folder, shard), x))
        if progress:
            progress(sum(map(len, members[: shard + 1])), len(tokens))
    for writer in writers:
        writer.finish()
    return {layer: open_store(folder) for layer, folder in folders.items()}


class _Writer:
    """One layer's store in the making: takes its shards in order, found on disk or new, and sums them for the means."""

    def __init__(self, folder: Path, generator: Generator, layer: int, tokens: Tokens, dtype: DType):
        self.folder, self.generator, self.layer, self.tokens, self.dtype = folder, generator, layer, tokens, dtype
        self.sums = torch.zeros(tokens.frames, generator.card.width, dtype=torch.float64)
        self.shards: list[Shard] = []
        manifest = read_manifest(folder)
        self.known = [shard.sha256 for shard in manifest.shards] if manifest else []
        """Checksums of an earlier harvest that finished and whose files are no longer all there."""

    def missing_bytes(self, members: Sequence[NDArray[np.int64]]) -> int:
        """Disk that the shards which are not there will take."""
        clips = sum(len(m) for shard, m in enumerate(members) if not shard_path(self.folder, shard).exists())
        frames, d = self.sums.shape
        return estimate(clips, frames, d, 1, self.dtype)

    def adopt(self, shard: int, clips: int) -> bool:
        """Take a shard that an earlier run finished; False when it is missing or damaged."""
        try:
            file = ShardFile(shard_path(self.folder, shard), self.dtype, clips, *self.sums.shape)
            file.verify(self.known[shard] if self.known else None)
        except CorruptShard:
            return False
        x = torch.empty(file.shape, dtype=ITEM[self.dtype][0])
        file.read(x, 0)
        self.add(x, file.sha256)
        return True

    def add(self, x: Tensor, digest: str) -> None:
        """Take the next shard ``[clips, T, d]``."""
        for clip in x:
            self.sums += clip
        self.shards.append(Shard(clips=len(x), frames=x.shape[0] * x.shape[1], sha256=digest))

    def finish(self) -> None:
        """Write everything but the shards, the manifest last."""
        frames, d = self.sums.shape
        self.tokens.save_packed(self.folder / "tokens.npz")
        summary = {"position_means": self.sums / len(self.tokens), "times": self.generator.times(frames).double().cpu()}
        with atomic_path(self.folder / "summary.safetensors") as temporary:
            temporary.write_bytes(save(summary))
        manifest = Manifest(
            format=FORMAT,
            generator=self.generator.card.name,
            generator_revision=self.generator.revision,
            layer=self.layer,
            corpora=self.tokens.corpus_revisions,
            tokens=self.tokens.digest,
            dtype=self.dtype,
            d=d,
            frames_per_clip=frames,
            clips=len(self.tokens),
            frames=len(self.tokens) * frames,
            shards=tuple(self.shards),
            files={name: sha256(self.folder / name) for name in ("tokens.npz", "summary.safetensors")},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=provenance.packages(),
        )
        with atomic_path(self.folder / "manifest.json") as temporary:
            temporary.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _finished(folder: Path) -> bool:
    """Whether every file that the manifest lists is there, shards by their headers (their content is verified when read)."""
    manifest = read_manifest(folder)
    if manifest is None:
        return False
    try:
        for number, shard in enumerate(manifest.shards):
            file = ShardFile(shard_path(folder, number), manifest.dtype, shard.clips, manifest.frames_per_clip, manifest.d)
            if file.sha256 != shard.sha256:
                return False
    except CorruptShard:
        return False
    return all((folder / name).is_file() and sha256(folder / name) == digest for name, digest in manifest.files.items())


def fill(
    streams: Sequence[Tensor],
    generator: Generator,
    tokens: Tokens,
    clips: NDArray[np.integer],
    layers: Sequence[int],
    dtype: DType,
    batch: int,
) -> None:
    """Fill ``[clips, T, d]`` of each layer, in the type `dtype`, with the stream of some clips, `batch` clips a forward pass.

    Raises UserError for a generator that gives other shapes, and for NaN or infinite activations (the clip is named).
    """
    for start in range(0, len(clips), batch):
        some = clips[start : start + batch]
        with torch.inference_mode():
            found = generator.stream(tokens.tensor(some), tuple(layers))
        for layer, stream in zip(layers, streams, strict=True):
            part = stream[start : start + batch]
            if found[layer].shape != part.shape:
                raise UserError(
                    f"generator {generator.card.name!r}: layer {layer} has shape {tuple(found[layer].shape)}, not "
                    f"{tuple(part.shape)}; repair its adapter."
                )
            if not torch.isfinite(part.copy_(found[layer])).all():
                raise _nonfinite(part, found[layer], layer, tokens.clips[some], dtype)


def _nonfinite(stored: Tensor, computed: Tensor, layer: int, clips: NDArray[np.str_], dtype: DType) -> UserError:
    clip, frame = (~torch.isfinite(stored)).any(2).nonzero()[0].tolist()
    where = f"clip {clips[clip]}, frame {frame}, layer {layer}"
    if bool(torch.isfinite(computed[clip, frame]).all()):
        largest = float(computed[clip, frame].abs().max())
        return UserError(f"{where}: an activation of {largest:.3g} is beyond {dtype}; take dtype float32 or bfloat16.")
    return UserError(
        f"{where}: the activations hold NaN or infinite values; leave out the clip or repair the generator's weights."
    )


def check(generator: Generator, tokens: Tokens, layers: Sequence[int]) -> None:
    """Raise UserError for tokens of another codec, no clips, or a layer that is not there."""
    card = generator.card
    codec = f"{card.name}@{codec_revision(generator)}"
    if f"{tokens.generator}@{tokens.codec}" != codec:
        raise UserError(f"tokens made by {tokens.generator}@{tokens.codec} do not fit generator codec {codec}; tokenize again.")
    if not len(tokens):
        raise UserError(f"no clips to harvest from {card.name!r}; tokenize at least one.")
    for layer in layers:
        if not 0 <= layer <= card.layers:
            raise UserError(f"layer {layer} of generator {card.name!r} does not exist; choose 0 to {card.layers}.")


def _check_disk(root: Path, needed: int) -> None:
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if needed > free:
        raise UserError(
            f"{root}: the harvest needs {needed / 2**30:.2f} GiB and {free / 2**30:.2f} GiB are free; free some space, use "
            f"another folder, fewer layers or clips, or dtype float16."
        )
