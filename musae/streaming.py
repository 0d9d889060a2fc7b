"""Streaming: many dictionaries, of several layers, trained over one pass of a generator without a store on disk.

    stream = Stream(generator, tokens, layers=(2, 5))
    trainers = [Trainer(Topk(width, k), stream.source(layer)) for layer in (2, 5) for width in (1024, 8192) for k in (32, 100)]
    train(stream, trainers)

Clips are put in an order that the stream's seed fixes and cut into pools of `Stream.buffer_frames` frames. The generator runs
over a pool once for all layers; its frames are drawn in random order, and every trainer of a layer takes each batch in turn. A
pool is a random sample of clips, a thousand clips of 10 s by default, as in a pass over a store. Small pools cost quality: topk
of width 2048 and k 32 on a million frames of nano's layer 5 left an FVU of .241 with pools of 2^16 frames, .237 with 2^17, .232
with 2^18, and .227 with one pool of them all (clips set aside; seeds differ by .001).

Frames are rounded to float16 as in a store (`musae.activations.harvest` says what that costs): half the memory, and a stream
gives what a store gives.

Memory, beyond the trainers': layers x `buffer_frames` x d x 2 bytes (128 MiB a layer at d = 256, 1 GiB at d = 2,048), one batch a
layer in float32, and what a forward pass over `batch_clips` clips takes.

Among several processes (`musae.parallel`) each computes some of the forward passes and tells the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from musae import parallel
from musae.activations import shuffle
from musae.activations.harvest import check, fill
from musae.activations.shards import KINDS, DType
from musae.activations.store import BUFFER_FRAMES
from musae.activations.tokens import Progress, Tokens
from musae.dictionary import generator as random
from musae.errors import UserError
from musae.generators.generator import Generator
from musae.training import Trainer, deferred_interrupt

SAMPLED = 2**16
"""Frames, the first ones of the first pool, on which what trainings ask of all frames is estimated. Resumed, a stream computes
them again, and otherwise begins with the pool where it stopped."""


class Stream:
    """The residual stream of a generator over tokens, at some layers, computed as it is asked for."""

    def __init__(
        self,
        generator: Generator,
        tokens: Tokens,
        layers: Sequence[int],
        *,
        seed: int = 0,
        buffer_frames: int = BUFFER_FRAMES,
        batch_clips: int = 16,
        dtype: DType = "float16",
        progress: Progress | None = None,
    ) -> None:
        """`tokens`, `layers`, `dtype`: as for `harvest`, which also says what is raised.

        Args:
            seed: of the order of clips and frames.
            buffer_frames: frames of each layer held at once; at least one clip is.
            batch_clips: clips of one forward pass.
            progress: called after each forward pass with (clips done in this pass over the tokens, clips in all).
        """
        check(generator, tokens, layers)
        self.generator, self.tokens, self.layers = generator, tokens, tuple(dict.fromkeys(layers))
        self.seed, self.buffer_frames, self.batch_clips, self.dtype = seed, buffer_frames, batch_clips, dtype
        self.progress = progress
        self._buffers: list[Tensor] = []
        self._held: tuple[int, int, int] | None = None
        """Seed, epoch and number of the pool that is in the buffers."""
        self._filled = 0
        """Clips of it that are computed."""

    @property
    def d(self) -> int:
        """Width of the residual stream."""
        return self.generator.card.width

    @property
    def frames(self) -> int:
        """Frames of one pass."""
        return len(self.tokens) * self.tokens.frames

    def source(self, layer: int) -> LayerFrames:
        """One layer, as trainings see it. Raises UserError for a layer that is not streamed."""
        if layer not in self.layers:
            raise UserError(f"layer {layer} is not streamed; give it among the layers, which are {list(self.layers)}.")
        return LayerFrames(self, layer)

    def batches(
        self, batch_size: int, *, seed: int | None = None, epochs: int = 1, start_step: int = 0
    ) -> Iterator[dict[int, Tensor]]:
        """Shuffled batches, layer -> float32 ``[b, d]``, the same frames at every layer; the generator runs once an epoch.

        `seed` replaces the stream's own. Pools that lie before `start_step` are not computed.
        """
        order = self.seed if seed is None else seed
        per_epoch = -(-self.frames // batch_size)
        for epoch in range(start_step // per_epoch, epochs):

            def read(number: int, pool: shuffle.Pool, epoch: int = epoch) -> list[Tensor]:
                return self._read((order, epoch, number), pool)

            skip = max(0, start_step - epoch * per_epoch) * batch_size
            pools = self._pools(order, epoch)
            passes = shuffle.batches(pools, self.tokens.frames, read, batch_size, seed=order, epoch=epoch, skip=skip)
            for batch in passes:
                yield dict(zip(self.layers, batch, strict=True))

    def first(self, layer: int) -> Tensor:
        """The first `SAMPLED` frames of the first pool (whole clips, at least one batch) at a layer, in the stream's type."""
        clips = self._pools(self.seed, 0)[0]
        wanted = max(self.batch_clips, -(-SAMPLED // self.tokens.frames))
        return self._read((self.seed, 0, 0), clips, min(len(clips), wanted))[self.layers.index(layer)]

    def _pools(self, seed: int, epoch: int) -> list[shuffle.Pool]:
        clips = np.random.default_rng([seed, epoch]).permutation(len(self.tokens))
        return shuffle.pools(clips, self.tokens.frames, self.buffer_frames)

    def _read(self, which: tuple[int, int, int], clips: shuffle.Pool, wanted: int | None = None) -> list[Tensor]:
        """Frames of a pool's first `wanted` clips at each layer ``[wanted * T, d]``; what the buffers hold is not repeated."""
        wanted = len(clips) if wanted is None else wanted
        if not self._buffers:
            shape = (len(self._pools(self.seed, 0)[0]), self.tokens.frames, self.d)
            self._buffers = [torch.empty(shape, dtype=KINDS[self.dtype].memory) for _ in self.layers]
        if self._held != which:
            self._held, self._filled = which, 0
        before = sum(len(pool) for pool in self._pools(*which[:2])[: which[2]])
        while self._filled < wanted:
            some = clips[self._filled : self._filled + self.batch_clips]
            turn = self._filled // self.batch_clips % parallel.size()
            parts = [buffer[self._filled : self._filled + len(some)] for buffer in self._buffers]
            if turn == parallel.rank():
                fill(parts, self.generator, self.tokens, some, self.layers, self.dtype, len(some))
            for part in parts:
                parallel.told_by(turn, part)
            self._filled += len(some)
            if self.progress:
                self.progress(before + self._filled, len(self.tokens))
        return [buffer[:wanted].flatten(0, 1) for buffer in self._buffers]


class LayerFrames:
    """A layer of a stream as a `FrameSource`. What is asked of all frames is estimated on the first of them, a random sample."""

    def __init__(self, stream: Stream, layer: int) -> None:
        self.stream, self.layer = stream, layer
        self.d, self.frames = stream.d, stream.frames
        parts = (stream.generator.card.name, stream.generator.revision, layer, stream.tokens.digest)
        order = (stream.dtype, stream.seed, stream.buffer_frames, stream.batch_clips)
        self.identity = hashlib.sha256(repr(("stream", *parts, *order)).encode()).hexdigest()[:12]
        """Twelve hex digits of what determines the frames and their order."""

    def mean(self) -> Tensor:
        """Mean of the stream's first frames (`SAMPLED`), summed in float64, as float32 ``[d]``."""
        return self.stream.first(self.layer).mean(0, dtype=torch.float64).float()

    def sample(self, n: int, seed: int) -> Tensor:
        """`n` different ones of the stream's first frames (`SAMPLED`; all of them where `n` is more), float32 ``[n, d]``."""
        x = self.stream.first(self.layer)
        return x[torch.randperm(len(x), generator=random("sample", seed))[:n]].float()

    def batches(self, batch_size: int, *, seed: int, epochs: int = 1, start_step: int = 0) -> Iterator[Tensor]:
        """This layer alone in the order of `seed`: a pass of the generator an epoch, for this caller only."""
        alone = Stream(
            self.stream.generator,
            self.stream.tokens,
            (self.layer,),
            seed=seed,
            buffer_frames=self.stream.buffer_frames,
            batch_clips=self.stream.batch_clips,
            dtype=self.stream.dtype,
            progress=self.stream.progress,
        )
        for batch in alone.batches(batch_size, epochs=epochs, start_step=start_step):
            yield batch[self.layer]


Failed = Callable[[Trainer, UserError], None]
"""Is told of a training that is not finite."""


def train(stream: Stream, trainers: Sequence[Trainer], failed: Failed | None = None) -> None:
    """Advance trainers, each over a `Stream.source` of this stream, until all are done.

    Trainers may have been restored at different steps: each goes on where it was, from the pool of the earliest. Interrupted,
    all are saved.

    Args:
        failed: with it, one training that is not finite ends alone, and the others go on; without it, the error is raised.

    Raises UserError for trainers of different batch sizes, and for NaN or infinite activations (clip and layer are named).
    """
    with deferred_interrupt() as interrupted:
        for running in steps(stream, trainers, failed):
            if parallel.any_of(interrupted.is_set()):
                for trainer in running:
                    trainer.save()
                raise KeyboardInterrupt


def steps(stream: Stream, trainers: Sequence[Trainer], failed: Failed | None = None) -> Iterator[Sequence[Trainer]]:
    """As `train`, one batch after the other, without care for interruptions; yields the trainers that have not failed."""
    layers = {id(trainer): _layer(stream, trainer) for trainer in trainers}
    sizes = {trainer.method.recipe.batch_size for trainer in trainers}
    if len(sizes) > 1:
        raise UserError(f"trainers of one stream take the same batches, and have batch_size {sorted(sizes)}; give them one.")
    running = [trainer for trainer in trainers if trainer.done < trainer.steps]
    if not running:
        return
    start = min(trainer.done for trainer in running)
    epochs = max(trainer.method.recipe.epochs for trainer in running)
    for number, batch in enumerate(stream.batches(*sizes, epochs=epochs, start_step=start), start):
        for trainer in tuple(running):
            if trainer.done == number < trainer.steps:
                try:
                    trainer.advance(batch[layers[id(trainer)]])
                except UserError as error:
                    if failed is None:
                        raise
                    failed(trainer, error)
                    running.remove(trainer)
        yield running


def _layer(stream: Stream, trainer: Trainer) -> int:
    if not isinstance(trainer.frames, LayerFrames) or trainer.frames.stream is not stream:
        raise UserError(f"{trainer.method.name}: its frames are not of this stream; give the trainer `stream.source(layer)`.")
    return trainer.frames.layer
