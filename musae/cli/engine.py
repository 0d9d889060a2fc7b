"""The engine that ``--engine`` names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from musae.engines.ray import Cluster


@contextmanager
def connected(engine: str, workers: int | None) -> Iterator[Cluster | None]:
    """A Ray cluster for the length of the block; None for the local engine."""
    if engine == "local":
        yield None
        return
    from musae.engines.ray import Cluster

    with Cluster(workers) as cluster:
        yield cluster
