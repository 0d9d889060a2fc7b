"""Sums over rows by matrix products: what pays where a code is not sparse enough (see `musae.kernels.dispatch.sums`).

The same functions as in a path, over codes made dense a chunk of frames or latents at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from musae.kernels.op import accumulator
from musae.kernels.transposed import Transposed

CHUNK_BYTES = 64 << 20
"""Largest dense chunk."""


def gather_sum(
    weights: Tensor, indices: Tensor, rows: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """For each frame, the weighted sum of the rows of its latents: ``[n, s], [n, s], [F, d] -> [n, d]``, plus `bias [d]`."""
    rows = rows.to(accumulator(rows.dtype))
    size = _size(rows)
    parts = [
        rows.new_zeros(len(w), len(rows)).scatter_add_(1, i, w.to(rows.dtype)) @ rows
        for w, i in zip(torch.split(weights, size), torch.split(indices, size), strict=True)
    ]
    sums = torch.cat(parts)
    return (sums if bias is None else sums.add_(bias)).to(dtype or sums.dtype)


def gather_dot(upstream: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """For each slot, ``upstream[frame] . rows[latent]``: ``[n, d], [n, s], [F, d] -> [n, s]``."""
    rows = rows.to(accumulator(rows.dtype))
    size = _size(rows)
    parts = [
        (g.to(rows.dtype) @ rows.T).gather(1, i)
        for g, i in zip(torch.split(upstream, size), torch.split(indices, size), strict=True)
    ]
    return torch.cat(parts)


def dots_and_sum(upstream: Tensor, indices: Tensor, rows: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """`gather_dot` in `dtype` (as it comes where None), and the sum of the rows of `upstream`, ``[d]``."""
    dots = gather_dot(upstream, indices, rows)
    return dots.to(dtype or dots.dtype), upstream.sum(0)


def outer(t: Transposed, weights: Tensor, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """For each latent, the sum over its slots of ``weights[slot] * rows[frame]``: ``[n, s], [n, d] -> [F, d]``."""
    rows = rows.to(accumulator(rows.dtype))
    width, size = t.width, _size(rows)
    result = rows.new_empty(width, rows.shape[1])
    by_slot = weights.flatten()[t.slots[: int(t.offsets[-1])]].to(rows.dtype)
    latents = torch.repeat_interleave(t.offsets.diff())
    bounds = t.offsets[::size].tolist() + t.offsets[-1:].tolist()
    for start in range(0, width, size):
        entries = slice(bounds[start // size], bounds[start // size + 1] if start + size < width else int(t.offsets[-1]))
        stop = min(start + size, width)
        code = rows.new_zeros((stop - start) * len(rows))
        code.scatter_add_(0, (latents[entries] - start) * len(rows) + t.frames[entries], by_slot[entries])
        torch.mm(code.view(stop - start, len(rows)), rows, out=result[start:stop])
    return result.to(dtype or result.dtype)


def _size(rows: Tensor) -> int:
    """Frames or latents in a chunk, beside so many rows."""
    return max(1, CHUNK_BYTES // max(1, len(rows) * rows.element_size()))
