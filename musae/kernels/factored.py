"""Weight gradients that are kept as their factors, so that they never reach memory.

The gradient of ``W_enc`` and ``W_dec`` is, for each latent, a weighted sum of frames over the slots where the latent fired.
Inside `collect`, the backward passes of the ops do not write it for leaf parameters: they keep `(code, weights, rows)`, and the
optimiser sums, updates and renormalises a row while it is in registers (`musae.kernels.adam.adam`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from musae.kernels.transposed import Transposed, shared


@dataclass(frozen=True)
class Outer:
    """A gradient ``[F, d]``: for each latent, the sum over its slots of ``weights[slot] * rows[frame]``."""

    transposed: Transposed
    weights: Tensor
    """``[n, s]``."""
    rows: Tensor
    """``[n, d]``."""


class Factors:
    """Factors of the gradients of leaf parameters, kept by `collect`."""

    def __init__(self) -> None:
        self._kept: dict[int, list[Outer]] = {}

    def takes(self, parameter: Tensor) -> bool:
        """Whether gradients of this tensor are kept here: it is a leaf that requires them."""
        return parameter.is_leaf and parameter.requires_grad

    def add(self, parameter: int, gradient: Outer) -> None:
        """Keep one contribution to the gradient of the parameter with this `id`."""
        # detached: weights may have a history that holds these factors, a cycle that would keep every step's memory
        detached = Outer(gradient.transposed, gradient.weights.detach(), gradient.rows.detach())
        self._kept.setdefault(parameter, []).append(detached)

    def of(self, parameter: Tensor) -> list[Outer]:
        """Contributions to the gradient of a parameter, besides its ``.grad``."""
        return self._kept.get(id(parameter), [])


_local = threading.local()


@contextmanager
def collect() -> Iterator[Factors]:
    """Keep factors of gradients for forward passes of this thread inside the block, and for their backward wherever that runs."""
    outside, _local.factors = current(), Factors()
    try:
        yield _local.factors
    finally:
        _local.factors = outside
        shared.clear()


def current() -> Factors | None:
    """What `collect` keeps for this thread, or None outside of it. Ops ask in their forward pass."""
    factors: Factors | None = getattr(_local, "factors", None)
    return factors
