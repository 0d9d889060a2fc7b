"""Harvest: run a generator over tokens once and keep the residual stream of some of its layers in stores on disk.

Several layers come from one forward pass. Each shard is written under its final name when it is done and carries its own
checksum, so that an interrupted harvest, run again, checks what is there and computes only what is missing or damaged. Batches
never cross shards: the numbers do not depend on where a run was interrupted.

Activations are float16 by default: half the disk and twice the reading speed of float32. Rounding is relative (2^-11), so it
adds about 1e-7 of a stream's power to the error of a reconstruction, far below any dictionary's; a stream beyond float16's range
(65,504) is refused with the remedy, a wider type. int8 takes half the disk again: what it does to scores is measured
(``musae bench storage``).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from musae import provenance
from musae.activations.shards import KINDS, CorruptShard, DType, ShardFile, shard_path, write_shard
from musae.activations.store import FORMAT, Manifest, Shard, Store, open_store, read_manifest
from musae.activations.tokens import Progress, Tokens, codec_revision
from musae.errors import UserError
from musae.files import atomic_path, is_local, place, sha256
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
    return clips * frames * d * layers * KINDS[dtype].size


class Part(NamedTuple):
    """What one shard adds to its layer's store."""

    shard: Shard
    sums: Tensor
    """Of the shard's clips at each position, float64 ``[T, d]``."""


@dataclass(frozen=True)
class Cell:
    """One shard of some layers: a piece of work that can be done anywhere, and again."""

    number: int
    tokens: Tokens
    """Of the shard's clips."""
    folders: Mapping[int, Path]
    """Layer -> the folder of its store."""
    known: Mapping[int, str]
    """Layer -> checksum that the shard has in a manifest, where there is one already."""
    dtype: DType
    batch_clips: int

    def parts(self, generator: Generator) -> dict[int, Part]:
        """Layer -> its part: of a sound file that is there already, else computed and written, all layers in one pass.

        Raises UserError for NaN or infinite activations (the clip is named), and for a disk that is full.
        """
        found = {layer: self._adopted(layer, generator.card.width) for layer in self.folders}
        missing = [layer for layer, part in found.items() if part is None]
        if missing:
            shape = (len(self.tokens), self.tokens.frames, generator.card.width)
            streams = [torch.empty(shape, dtype=KINDS[self.dtype].memory) for _ in missing]
            fill(streams, generator, self.tokens, np.arange(len(self.tokens)), missing, self.dtype, self.batch_clips)
            for layer, x in zip(missing, streams, strict=True):
                digest = write_shard(shard_path(self.folders[layer], self.number), x, self.dtype)
                found[layer] = _part(x, digest)
        return {layer: part for layer, part in found.items() if part is not None}

    def _adopted(self, layer: int, d: int) -> Part | None:
        """The part of a shard that an earlier run finished; None where it is missing or damaged."""
        path, clips = shard_path(self.folders[layer], self.number), len(self.tokens)
        try:
            file = ShardFile(path, self.dtype, clips, self.tokens.frames, d)
            x = torch.empty(file.shape, dtype=file.kind.memory)
            file.read(x, 0, self.known.get(layer))
        except CorruptShard:
            return None
        return _part(x, file.sha256)


def _part(x: Tensor, digest: str) -> Part:
    sums = torch.zeros(x.shape[1:], dtype=torch.float64)
    for clip in x:
        sums += clip
    return Part(Shard(clips=len(x), frames=x.shape[0] * x.shape[1], sha256=digest), sums)


Engine = Callable[[Generator, Iterable[Cell]], Iterator[dict[int, Part]]]
"""Does cells, and yields their parts in order. A cell may hold megabytes: engines draw them as they need them."""


def here(generator: Generator, cells: Iterable[Cell]) -> Iterator[dict[int, Part]]:
    """The engine that does one cell after the other in this process."""
    return (cell.parts(generator) for cell in cells)


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
    engine: Engine = here,
) -> dict[int, Store]:
    """Make (or finish, or just open) the store of each layer; layer -> store.

    Args:
        tokens: made with this generator's codec.
        root: stores lie in ``<root>/<generator>@<revision>/layer<L>/<key>/``; a folder, or a URL (`musae.files.place`).
        dtype: of the stored activations; see the module's header.
        batch_clips: clips of one forward pass.
        progress: called after each shard with (clips done, clips in all), those found on disk included.
        engine: where shards are computed; `musae.engines.ray_cluster` has another. The numbers are the same, given the same
            number of threads.

    Raises UserError: tokens of another codec, a layer that is not there, too little free disk (before anything is computed), a
    full disk, NaN or infinite activations (the clip is named).
    """
    root = place(root)
    check(generator, tokens, layers)
    folders = {layer: store_path(generator, tokens, layer, root, dtype=dtype, shard_clips=shard_clips) for layer in layers}
    shards = -(-len(tokens) // shard_clips)
    members = [np.arange(shard, len(tokens), shards) for shard in range(shards)]
    missing = {layer: folder for layer, folder in folders.items() if not _finished(folder)}
    if missing:
        _check_disk(root, missing.values(), members, tokens.frames, generator.card.width, dtype)
        written = {layer: read_manifest(folder) for layer, folder in missing.items()}
        cells = (
            Cell(
                number=number,
                tokens=tokens.take(clips),
                folders=missing,
                known={layer: manifest.shards[number].sha256 for layer, manifest in written.items() if manifest},
                dtype=dtype,
                batch_clips=batch_clips,
            )
            for number, clips in enumerate(members)
        )
        sums = {layer: torch.zeros(tokens.frames, generator.card.width, dtype=torch.float64) for layer in missing}
        listed: dict[int, list[Shard]] = {layer: [] for layer in missing}
        done = 0
        for parts in engine(generator, cells):
            for layer, part in parts.items():
                sums[layer] += part.sums
                listed[layer].append(part.shard)
            done += part.shard.clips
            if progress:
                progress(done, len(tokens))
        for layer, folder in missing.items():
            _finish(folder, generator, layer, tokens, dtype, sums[layer], listed[layer])
    return {layer: open_store(folder) for layer, folder in folders.items()}


def _finish(
    folder: Path, generator: Generator, layer: int, tokens: Tokens, dtype: DType, sums: Tensor, shards: Sequence[Shard]
) -> None:
    """Write everything but the shards, the manifest last."""
    frames, d = sums.shape
    tokens.save_packed(folder / "tokens.npz")
    summary = {"position_means": sums / len(tokens), "times": generator.times(frames).double().cpu()}
    with atomic_path(folder / "summary.safetensors") as temporary:
        temporary.write_bytes(save(summary))
    manifest = Manifest(
        format=FORMAT,
        generator=generator.card.name,
        generator_revision=generator.revision,
        layer=layer,
        corpora=tokens.corpus_revisions,
        tokens=tokens.digest,
        dtype=dtype,
        d=d,
        frames_per_clip=frames,
        clips=len(tokens),
        frames=len(tokens) * frames,
        shards=tuple(shards),
        files={name: sha256(folder / name) for name in ("tokens.npz", "summary.safetensors")},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=provenance.packages(),
    )
    with atomic_path(folder / "manifest.json") as temporary:
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


def _check_disk(
    root: Path, folders: Iterable[Path], members: Sequence[NDArray[np.int64]], frames: int, d: int, dtype: DType
) -> None:
    """Raise UserError where the shards that are not there yet do not fit on the disk; of a URL nothing is known."""
    if not is_local(root):
        return
    root.mkdir(parents=True, exist_ok=True)
    clips = sum(len(m) for folder in folders for shard, m in enumerate(members) if not shard_path(folder, shard).exists())
    needed, free = estimate(clips, frames, d, 1, dtype), shutil.disk_usage(root).free
    if needed > free:
        raise UserError(
            f"{root}: the harvest needs {needed / 2**30:.2f} GiB and {free / 2**30:.2f} GiB are free; free some space, use "
            f"another folder, fewer layers or clips, or a smaller dtype."
        )
