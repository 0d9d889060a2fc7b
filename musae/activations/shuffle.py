"""Shuffled frames out of pools of clips: what passes over a store and over a running generator have in common.

Clips are cut into pools that fit in memory. A pool is read whole and its frames are drawn in random order; what does not fill a
batch goes first into the next. The order depends on seed, epoch and pools alone, and pools before the first batch that is asked
for are never read. Several layers may be read at once: their batches hold the same frames.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musae.errors import UserError

T = TypeVar("T")

AHEAD = 2
"""Batches that `ahead` makes before they are asked for."""

Pool = NDArray[np.integer]
"""Numbers of clips."""


def pools(clips: Pool, frames_per_clip: int, buffer_frames: int) -> list[Pool]:
    """Clips in order, cut into pools of nearly equal size: at most `buffer_frames` frames, and at least one clip."""
    return np.array_split(clips, -(-len(clips) // max(1, buffer_frames // frames_per_clip)))


def sequences_per_clip(frames_per_clip: int, length: int) -> int:
    """Into how many sequences of some length a clip is cut. Raises UserError where there is none."""
    if not 0 < length <= frames_per_clip:
        raise UserError(f"clips of {frames_per_clip} frames hold no sequence of {length}; harvest longer clips.")
    return frames_per_clip // length


def batches(
    pools: Sequence[Pool],
    frames_per_clip: int,
    read: Callable[[int, Pool], Sequence[Tensor]],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    skip: int,
) -> Iterator[list[Tensor]]:
    """One epoch's batches without its first `skip` frames: float32 ``[batch_size, d]`` of each layer; the last may be smaller.

    `read` is given a pool's number and its clips, and returns their frames ``[clips * T, d]`` at each layer; it may fill the same
    memory again when it is called for the next pool.
    """
    left: list[Tensor] = []
    for number, pool in enumerate(pools):
        size = len(pool) * frames_per_clip
        if skip >= size:
            skip -= size
            continue
        layers = read(number, pool)
        order = torch.from_numpy(np.random.default_rng([seed, epoch, number]).permutation(size))
        at, skip = skip, 0
        waiting = len(left[0]) if left else 0
        while waiting + size - at >= batch_size:
            rows = order[at : at + batch_size - waiting]
            batch = [x[rows].float() for x in layers]
            yield [torch.cat(parts) for parts in zip(left, batch, strict=True)] if waiting else batch
            at, waiting = at + len(rows), 0
        rest = [x[order[at:]].float() for x in layers]
        left = [torch.cat(parts) for parts in zip(left, rest, strict=True)] if waiting else rest
    if left and len(left[0]):
        yield left


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items in the same order, made by a thread up to `AHEAD` items before they are asked for."""
    made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def hand_over(item: T | None, error: BaseException | None) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                made.put((item, error), timeout=0.1)
                break

    def work() -> None:
        try:
            for item in items:
                hand_over(item, None)
                if stopped.is_set():
                    break
            hand_over(None, StopIteration())
        except BaseException as error:  # whoever asks for the item is to see it
            hand_over(None, error)

    thread = threading.Thread(target=work, name="reading ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield cast(T, item)
    finally:
        stopped.set()
        thread.join()
