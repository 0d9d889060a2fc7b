"""The transposed code (CSC) and sums over it, in Triton: weight gradients without atomics and without an [n, s, d] temporary.

``outer``: for each latent, the sum over its slots of ``weights[slot] * rows[frame]``, ``[F, d]``, each row written once. A few
latents can be active on almost every frame while most have a handful of slots. So the stream of slots is cut at every multiple
of `SEGMENT`; a latent with more slots than that is *hot*: each piece of it between two cuts is summed by a program of its own
into a row of ``partials``, and its latent's program adds those up. A latent with at most `SEGMENT` slots is summed directly,
wherever the cuts fall. All orders are fixed, so results repeat bit for bit.

A block between two cuts can touch two hot latents at most: one that covers its start, whose piece goes to row 2 * block, and one
that begins inside it and covers its end, whose piece goes to row 2 * block + 1. Hence ``partials [2 * blocks, d]`` needs neither
counting nor a synchronisation with the host.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from musae.kernels.gpu.launch import INTERPRET, launch
from musae.kernels.gpu.rows import SLOTS, TILE, narrowed, tile, warps
from musae.kernels.transposed import Transposed

SEGMENT = 256
"""Slots that one program sums at most: 16 times the mean of 8,192 frames with 64 of 32,768 latents."""
TOTALS = (8, 128)
"""Latents and slots that one program of `total` takes at a time."""


@triton.jit
def _keys(indices, weights, keys, counts, slots, width, TILE: tl.constexpr):
    slot = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    index = tl.load(indices + slot, mask=slot < slots, other=0)
    weight = tl.load(weights + slot, mask=slot < slots, other=0.0).to(tl.float32)
    tl.store(keys + slot, tl.where(weight != 0, index, width).to(tl.int32), mask=slot < slots)
    tl.atomic_add(counts + index + 1, 1, mask=weight != 0, sem="relaxed")  # integers: the order makes no difference


@triton.jit
def sum_slots(slots, inverse, weights, rows, start, stop, column, D: tl.constexpr, SLOTS: tl.constexpr):
    """For each latent, the sum over entries `start` to `stop` of the CSC of weight * row, ``[latents, columns]``."""
    total = tl.zeros([start.shape[0], column.shape[0]], tl.float32)
    for step in range(0, tl.max(stop - start, axis=0).to(tl.int32), SLOTS):
        entry = (start + step)[None, :] + tl.arange(0, SLOTS)[:, None]
        here = entry < stop[None, :]
        slot = tl.load(slots + entry, mask=here, other=0)
        frame = tl.umulhi(slot.to(tl.uint64) * 4, inverse.to(tl.uint64)).to(tl.int64)[:, :, None]  # slot // s
        weight = tl.load(weights + slot, mask=here, other=0.0).to(tl.float32)[:, :, None]
        wanted = here[:, :, None] & (column < D)[None, None, :]
        row = tl.load(rows + frame * D + column[None, None, :], mask=wanted, other=0.0).to(tl.float32)
        total += tl.sum(weight * row, axis=0)
    return total


@triton.jit
def sum_latents(
    slots, inverse, weights, rows, offsets, partials, latent, column, width,
    D: tl.constexpr, SEGMENT: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """`outer` for some latents and columns, ``[latents, columns]``; hot latents are summed from `partials`."""
    start = tl.load(offsets + latent, mask=latent < width, other=0)
    stop = tl.load(offsets + latent + 1, mask=latent < width, other=0)
    hot = stop - start > SEGMENT
    total = sum_slots(slots, inverse, weights, rows, start, tl.where(hot, start, stop), column, D, SLOTS)
    block = start // SEGMENT
    pieces = tl.where(hot, (stop - 1) // SEGMENT - block + 1, 0)
    inside = start % SEGMENT != 0  # the first piece begins inside its block
    for step in range(0, tl.max(pieces, axis=0).to(tl.int32), SLOTS):
        piece = step + tl.arange(0, SLOTS)[:, None]
        place = 2 * (block[None, :] + piece) + tl.where((piece == 0) & inside[None, :], 1, 0)
        wanted = (piece < pieces[None, :])[:, :, None] & (column < D)[None, None, :]
        part = tl.load(partials + place[:, :, None] * D + column[None, None, :], mask=wanted, other=0.0)
        total += tl.sum(part, axis=0)
    return total


@triton.jit
def _pieces(
    slots, inverse, weights, rows, offsets, owners, partials, width,
    D: tl.constexpr, SEGMENT: tl.constexpr, SLOTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    block = place // 2
    # one latent, as a vector: the one that covers the block's start, or its end for odd places
    latent = tl.load(owners + (block + place % 2) + tl.arange(0, 1))
    start = tl.load(offsets + latent)
    stop = tl.load(offsets + tl.minimum(latent + 1, width))
    begin = tl.maximum(start, block * SEGMENT)
    end = tl.minimum(stop, block * SEGMENT + SEGMENT)
    mine = (stop - start > SEGMENT) & (begin < end) & ((place % 2 == 0) | (start > block * SEGMENT))
    total = sum_slots(slots, inverse, weights, rows, begin, tl.where(mine, end, begin), column, D, SLOTS)
    wanted = mine[:, None] & (column < D)[None, :]
    tl.store(partials + (place * D + column)[None, :], total, mask=wanted)


@triton.jit
def _outer(
    slots, inverse, weights, rows, offsets, partials, sums, width,
    D: tl.constexpr, SEGMENT: tl.constexpr, SLOTS: tl.constexpr, LATENTS: tl.constexpr, COLUMNS: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    latent = tl.program_id(0).to(tl.int64) * LATENTS + tl.arange(0, LATENTS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = sum_latents(slots, inverse, weights, rows, offsets, partials, latent, column, width, D, SEGMENT, SLOTS)
    wanted = (latent < width)[:, None] & (column < D)[None, :]
    tl.store(sums + latent[:, None] * D + column[None, :], narrowed(total, sums, WIDEN), mask=wanted)


@triton.jit
def _total(slots, weights, offsets, sums, width, LATENTS: tl.constexpr, SLOTS: tl.constexpr):
    latent = tl.program_id(0).to(tl.int64) * LATENTS + tl.arange(0, LATENTS)
    start = tl.load(offsets + latent, mask=latent < width, other=0)
    stop = tl.load(offsets + latent + 1, mask=latent < width, other=0)
    total = tl.zeros([LATENTS, SLOTS], tl.float32)
    for step in range(0, tl.max(stop - start, axis=0), SLOTS):
        entry = (start + step)[:, None] + tl.arange(0, SLOTS)[None, :]
        here = entry < stop[:, None]
        slot = tl.load(slots + entry, mask=here, other=0)
        total += tl.load(weights + slot, mask=here, other=0.0).to(tl.float32)
    tl.store(sums + latent, tl.sum(total, axis=1), mask=latent < width)


def transpose(indices: Tensor, weights: Tensor, width: int) -> Transposed:
    """Sort the slots of ``indices [n, s]`` by latent, stably; slots whose weight is 0 are left out.

    The host learns nothing of the outcome: `slots` keeps its length n * s, and what lies beyond ``offsets[F]`` means nothing.
    Sorted are 32-bit keys, half as many radix passes as for the 64-bit indices.
    """
    keys = torch.empty(indices.numel(), dtype=torch.int32, device=indices.device)
    counts = torch.zeros(width + 1, dtype=torch.int32, device=indices.device)
    launch(
        _keys, (triton.cdiv(len(keys), TILE),), indices.contiguous(), weights.contiguous(), keys, counts, len(keys), width,
        TILE=TILE, num_warps=4,
    )  # fmt: skip
    return Transposed(keys.sort(stable=True).indices, indices.shape[1], counts.cumsum(0))


def outer(t: Transposed, weights: Tensor, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """For each latent, the sum over its slots of ``weights[slot] * rows[frame]``: ``[n, s], [n, d] -> [F, d]``.

    `dtype`: of the result; float32 where None.
    """
    weights, rows = weights.contiguous(), rows.contiguous()
    d = rows.shape[1]
    latents, columns = tile(d)
    sums = torch.empty(t.width, d, dtype=dtype or torch.float32, device=rows.device)
    partials = hot(t, weights, rows)
    launch(
        _outer, (triton.cdiv(t.width, latents), triton.cdiv(d, columns)),
        t.slots, inverse(weights), weights, rows, t.offsets, partials, sums, t.width,
        D=d, SEGMENT=SEGMENT, SLOTS=SLOTS, LATENTS=latents, COLUMNS=columns, WIDEN=INTERPRET,
        num_warps=warps(latents * columns, rows),
    )  # fmt: skip
    return sums


def hot(t: Transposed, weights: Tensor, rows: Tensor) -> Tensor:
    """The sums of the pieces of hot latents, float32 ``[2 * blocks, d]``; rows that are no piece hold anything."""
    blocks, d = triton.cdiv(t.slots.shape[0], SEGMENT), rows.shape[1]
    partials = torch.empty(2 * blocks, d, dtype=torch.float32, device=rows.device)
    if blocks < 2:  # no latent can be hot
        return partials
    cuts = torch.arange(blocks + 1, device=rows.device) * SEGMENT
    owners = torch.searchsorted(t.offsets, cuts, right=True) - 1
    _, columns = tile(d)
    launch(
        _pieces, (2 * blocks, triton.cdiv(d, columns)),
        t.slots, inverse(weights), weights, rows, t.offsets, owners, partials, t.width,
        D=d, SEGMENT=SEGMENT, SLOTS=SLOTS, COLUMNS=columns, num_warps=warps(columns, rows),
    )  # fmt: skip
    return partials


def inverse(weights: Tensor) -> int:
    """``1 / s``, rounded up to 62 binary places, for ``weights [n, s]``: slot // s is the whole part of slot times that.

    So it is as long as n * s * s < 2**62 (Granlund and Montgomery, Division by Invariant Integers using Multiplication, 1994). A
    division of 64-bit integers takes many instructions and registers.
    """
    return -(-(2**62) // max(1, weights.shape[1]))


def total(t: Transposed, weights: Tensor) -> Tensor:
    """For each latent, the sum of its slots' weights: ``[n, s] -> [F]``, float32."""
    sums = torch.empty(t.width, dtype=torch.float32, device=weights.device)
    latents, slots = TOTALS
    launch(
        _total, (triton.cdiv(t.width, latents),), t.slots, weights.contiguous(), t.offsets, sums, t.width,
        LATENTS=latents, SLOTS=slots, num_warps=4,
    )  # fmt: skip
    return sums
