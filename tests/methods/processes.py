"""Several processes of one training, played by threads of this one: `musae.parallel` exchanges tensors between them."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from musae import parallel


def together(monkeypatch: pytest.MonkeyPatch, count: int, act: Callable[[int], Any]) -> list[Any]:
    """What ``act(rank)`` gives in each of `count` processes."""
    here, barrier = threading.local(), threading.Barrier(count)
    slots: list[Any] = [None] * count
    results: list[Any] = [None] * count
    failures: list[BaseException] = []

    def exchange(x: Tensor) -> list[Tensor]:
        slots[here.rank] = x.clone()
        barrier.wait(60)
        found = list(slots)
        barrier.wait(60)
        return found

    def run(rank: int) -> None:
        here.rank = rank
        try:
            results[rank] = act(rank)
        except BaseException as failure:
            failures.append(failure)
            barrier.abort()

    monkeypatch.setattr(parallel, "size", lambda: count)
    monkeypatch.setattr(parallel, "rank", lambda: here.rank)
    monkeypatch.setattr(parallel, "add", lambda x: x.copy_(torch.stack(exchange(x)).sum(0)))
    monkeypatch.setattr(parallel, "gather", lambda x: torch.cat(exchange(x)))
    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    monkeypatch.undo()
    if failures:
        raise failures[0]
    return results
