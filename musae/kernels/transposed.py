"""A code read by latent instead of by frame (CSC): weight gradients become sums over a latent's slots.

For indices ``[n, s]`` and F latents, slot i is ``frame * s + j``. Sums run in the order of frames: deterministic, no atomics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Transposed:
    """Slots sorted by latent; latent f owns entries ``offsets[f]`` to ``offsets[f + 1]``.

    Entries from ``offsets[F]`` on mean nothing.
    """

    slots: Tensor
    """Positions in the flattened code, int64 ``[m]``; ascending within a latent."""
    given: Tensor | int
    """`frames`, or the number of slots of a frame, from which they follow."""
    offsets: Tensor
    """Int64 ``[F + 1]``."""

    @cached_property
    def frames(self) -> Tensor:
        """The frame of each slot, int64 ``[m]``."""
        return self.slots // max(1, self.given) if isinstance(self.given, int) else self.given

    @property
    def width(self) -> int:
        """Number of latents F."""
        return self.offsets.shape[0] - 1


@torch.no_grad()
def transpose(indices: Tensor, weights: Tensor, width: int) -> Transposed:
    """Sort the slots of ``indices [n, s]`` by latent, stably; slots whose weight is 0 are left out."""
    kept = weights.flatten() != 0
    latents, slots = indices.flatten().masked_fill(~kept, width).sort(stable=True)
    offsets = torch.searchsorted(latents, torch.arange(width + 1, device=indices.device))
    return Transposed(slots, indices.shape[1], offsets)


class Shared:
    """The last transposed code, for the backward passes of encoder and decoder over one code: sorted once, not twice."""

    def __init__(self) -> None:
        self._last: tuple[tuple[object, ...], tuple[Tensor, Tensor], Transposed] | None = None

    def of(self, sort: Callable[[Tensor, Tensor, int], Transposed], indices: Tensor, weights: Tensor, width: int) -> Transposed:
        """``sort(indices, weights, width)``, or the last result where that was for the same, unchanged tensors."""
        key = (*((t.data_ptr(), t._version, t.shape) for t in (indices, weights)), width, sort)
        last = self._last
        if last is None or last[0] != key:
            # the tensors are held too, so that no other tensor can come to lie at their addresses
            last = self._last = key, (indices, weights), sort(indices, weights, width)
        return last[2]

    def clear(self) -> None:
        """Forget it, and free its memory."""
        self._last = None


shared = Shared()
