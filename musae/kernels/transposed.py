"""A fixed-k code read by latent instead of by frame (CSC): weight gradients become bags, with no atomics and no [n, k, d].

For indices ``[n, k]`` and F latents, slot s is ``frame * k + j``. Bags are summed in the order of frames: deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Transposed:
    """Slots sorted by latent; latent f owns entries ``offsets[f]`` to ``offsets[f + 1]``."""

    slots: Tensor
    """Positions in the flattened code, int64 ``[n * k]``; ascending within a latent."""
    frames: Tensor
    """The frame of each slot, int64 ``[n * k]``."""
    offsets: Tensor
    """Int64 ``[F + 1]``."""

    @classmethod
    def of(cls, indices: Tensor, width: int) -> Transposed:
        """Sort the slots of ``indices [n, k]`` by latent, stably."""
        latents, slots = indices.flatten().sort(stable=True)
        offsets = torch.searchsorted(latents, torch.arange(width + 1, device=indices.device))
        return cls(slots, slots // indices.shape[1], offsets)

    def outer(self, weights: Tensor, rows: Tensor) -> Tensor:
        """For each latent, the sum over its slots of ``weights[slot] * rows[frame]``: ``[n, k], [n, d] -> [F, d]``."""
        return functional.embedding_bag(
            self.frames,
            rows,
            self.offsets,
            mode="sum",
            per_sample_weights=weights.flatten()[self.slots],
            include_last_offset=True,
        )

    def total(self, weights: Tensor) -> Tensor:
        """For each latent, the sum of its slots' weights: ``[n, k] -> [F]``."""
        return torch.segment_reduce(weights.flatten()[self.slots], "sum", offsets=self.offsets, initial=0)


def gather_sum(weights: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """For each frame, the weighted sum of the rows of its latents: ``[n, k], [n, k], [F, d] -> [n, d]``."""
    return functional.embedding_bag(indices, rows, mode="sum", per_sample_weights=weights)


def gather_dot(upstream: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """For each slot, ``upstream[frame] . rows[latent]``: ``[n, d], [n, k], [F, d] -> [n, k]``; the adjoint of `gather_sum`."""
    n, k = indices.shape
    offsets = torch.arange(0, n * k, k, device=indices.device)
    frames = torch.arange(n, device=indices.device).repeat_interleave(k)
    # the backward of embedding_bag for its weights, called directly: it fuses the gather with the dot product
    dots: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        upstream, rows, indices.flatten(), offsets, frames, 0
    )
    return dots.view(n, k)
