"""Data parallelism: how the processes of one training divide its batches and add up what they found.

Started by ``torchrun``, every process runs the same training on the same batches and computes on its own share of the rows. What
depends on a whole batch (gradients, dead-latent counters, thresholds, figures) is summed over the processes, so that they all
take the same step, and the step that a single process would take up to the order of summation.

Outside of ``torchrun`` there is one process, and everything here is the identity.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

_alone: ContextVar[bool] = ContextVar("musae_alone", default=False)


@contextmanager
def group() -> Iterator[None]:
    """Join the processes that ``torchrun`` started, for the length of the block: by NCCL on GPUs, by gloo elsewhere.

    A process waits for up to a day for the others: the first one may have to harvest. Where one of them fails, ``torchrun`` ends
    them all.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=timedelta(days=1))
    try:
        yield
    finally:
        dist.destroy_process_group()


def device() -> torch.device:
    """Where this process computes: the GPU of its local rank, or the CPU where there is none."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else torch.device("cpu")


def size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() and not _alone.get() else 1


def rank() -> int:
    """Number of this process; 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() and not _alone.get() else 0


@contextmanager
def alone() -> Iterator[None]:
    """Compute as if there were one process, inside the block: what all of them do in the same way needs no sums."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def share(x: Tensor) -> Tensor:
    """This process's rows, of at least one for each."""
    return x[rank() :: size()]


def add(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in place."""
    if size() > 1:
        dist.all_reduce(x)
    return x


def any_of(here: bool) -> bool:
    """Whether something is so in any of the processes."""
    return bool(add(torch.tensor(int(here), device=device()))) if size() > 1 else here


def mean(x: Tensor, rows: int) -> Tensor:
    """The mean over all rows of all processes, of a scalar that is the mean over this process's `rows`."""
    if size() == 1:
        return x
    sums = add(torch.stack([x.double() * rows, torch.tensor(float(rows), device=x.device, dtype=torch.float64)]))
    return (sums[0] / sums[1]).to(x.dtype)


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, whose numbers may differ, in the order of their ranks."""
    if size() == 1:
        return x
    counts = x.new_zeros(size(), dtype=torch.int64)
    counts[rank()] = len(x)
    most = int(add(counts).max())
    padded = x.new_zeros(most, *x.shape[1:])
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in range(size())]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


def from_first(x: Tensor) -> Tensor:
    """What the first process holds, in place: for what only one of them draws at random."""
    return told_by(0, x)


def told_by(process: int, x: Tensor) -> Tensor:
    """What one process holds, in place: for what the processes compute in turn."""
    if size() > 1:
        dist.broadcast(x, process)
    return x


def first_then_all(make: Callable[[], T]) -> T:
    """What `make` gives: made first by the first process, which may write files that the others then find."""
    if size() == 1:
        return make()
    found = make() if rank() == 0 else None
    wait()
    return cast(T, found) if rank() == 0 else make()


def wait() -> None:
    """Until all processes are here: before reading what the first one writes."""
    if size() > 1:
        dist.barrier()
