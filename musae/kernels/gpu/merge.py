"""From screened entries to codes: each frame's entries by falling value, of equal values the lower latent first.

An entry becomes one int64 key, bits of the value that compare like the value in the high half, the latent counted backwards in
the low half: sorting keys gives that order, whatever slots the entries came from. -0 counts as 0, and NaN as the largest value.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from musae.kernels.gpu.launch import launch
from musae.kernels.gpu.screen import BLOCK_N, Entries

LONGEST = 4096
"""Slots that one program sorts, 16 keys a thread; a frame with more is sorted by torch.sort."""
CHUNK = 1 << 22
"""Keys that torch.sort is given at a time: 32 MB."""
LOWEST = -(1 << 63)
"""The key of an empty slot."""


@triton.jit
def ordered(value):
    """Bits of float32 values, int32, that compare as the values do."""
    value = tl.where(value == 0, 0.0, value)
    bits = tl.where(value != value, 0x7FC00000, value.to(tl.int32, bitcast=True))
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _merge_runs(cube, run: tl.constexpr, last: tl.constexpr, DIMS: tl.constexpr):
    """Sort runs of 2^run keys that rise then fall, or fall then rise: every other one rising, or all falling in the last step."""
    SHAPE: tl.constexpr = [1] * DIMS if last else [1] * (DIMS - run - 1) + [2] + [1] * run
    flip = tl.full(SHAPE, 1, tl.int32) if last else tl.reshape(tl.arange(0, 2), SHAPE)
    for step in tl.static_range(run):
        partner = tl.sum(cube, DIMS - run + step, keep_dims=True) - cube  # of a pair: exact in integers that wrap
        right = tl.reshape(tl.arange(0, 2), [1] * (DIMS - run + step) + [2] + [1] * (run - 1 - step))
        cube = tl.where((cube > partner) != ((flip ^ right) != 0), partner, cube)
    return cube


@triton.jit
def falling(keys, ROWS: tl.constexpr, DIMS: tl.constexpr, LENGTH: tl.constexpr, K: tl.constexpr):
    """The 2^K largest of each row of 2^LENGTH int64 keys, falling: ``[ROWS, 2^K]``; 2^DIMS keys in all.

    A bitonic selection like `tl.topk`, whose exclusive or would be a loop over single elements in Triton's interpreter.
    """
    cube = tl.reshape(keys, [2] * DIMS)
    for run in tl.static_range(1, K + 1):
        cube = _merge_runs(cube, run, run == LENGTH, DIMS)
    for run in tl.static_range(K + 1, LENGTH + 1):
        cube = _merge_runs(tl.max(cube, DIMS - run), K, run == LENGTH, DIMS - run + K)
    return tl.reshape(cube, [ROWS, 2**K])


@triton.jit
def merge(
    values,
    places,
    counts,
    floors,
    limits,
    among,
    out_values,
    out_indices,
    flags,
    n,
    F,
    T,
    S,
    k,
    empty,
    CAP: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    ROWS: tl.constexpr,
    DIMS: tl.constexpr,
    LENGTH: tl.constexpr,
    K: tl.constexpr,
    LIMITED: tl.constexpr,
    AMONG: tl.constexpr,
    CHECKED: tl.constexpr,
):
    """The first k of each frame's entries, falling, of equals the lower latent first: ``out_values, out_indices [n, k]``.

    ``values``, ``places [S, n, CAP]``, ``counts``, ``floors [S, n]`` come from `screen`. If CHECKED, ``flags [n]`` int32 is 1
    where an entry of the first k may be missing. If LIMITED, a frame keeps ``limits [n]`` entries; if AMONG, latents are
    renumbered by ``among``.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    split = tl.arange(0, SPLITS)
    slot = tl.arange(0, CAP)[None, None, :]
    own = split[None, :] * n + row[:, None]
    there = (row < n)[:, None] & (split < S)[None, :]
    count = tl.load(counts + own, mask=there, other=0)
    held = tl.minimum(count, CAP)[:, :, None]
    offset = own[:, :, None] * CAP + slot
    value = tl.load(values + offset, mask=slot // 8 * 8 < held, other=0.0)
    place = tl.load(places + offset, mask=slot // 8 * 8 < held, other=0).to(tl.int32) & 0xFFFF
    latent = (place % BLOCK_N) * T + (place // BLOCK_N) * S + split[None, :, None]
    real = (slot < held) & (latent < F)
    key = (ordered(value).to(tl.int64) << 32) | (0x7FFFFFFF - latent).to(tl.int64)
    keys = tl.reshape(tl.where(real, key, -0x8000000000000000), (ROWS, SPLITS * CAP))
    keys = falling(keys, ROWS, DIMS, LENGTH, K)
    column = tl.arange(0, 2**K)[None, :]
    filled = keys != -0x8000000000000000
    if LIMITED:
        filled = filled & (column < tl.load(limits + row, mask=row < n, other=0)[:, None])
    bits = (keys >> 32).to(tl.int32)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    wanted = (row < n)[:, None] & (column < k)
    tl.store(out_values + row[:, None] * k + column, tl.where(filled, bits.to(tl.float32, bitcast=True), empty), mask=wanted)
    index = tl.where(filled, 0x7FFFFFFF - (keys & 0xFFFFFFFF), 0)
    if AMONG:
        index = tl.load(among + index, mask=wanted & filled, other=0)
    tl.store(out_indices + row[:, None] * k + column, index, mask=wanted)
    if CHECKED:
        floor = tl.max(tl.load(floors + own, mask=there, other=0.0), 1)
        above = tl.sum(tl.sum((real & ((value <= floor[:, None, None]) == 0)).to(tl.int32), 2), 1)
        overflow = tl.max((count > CAP).to(tl.int32), 1)
        short = ((floor > 0) & (above < k)).to(tl.int32)
        tl.store(flags + row, overflow | short, mask=row < n)


def order(found: Entries, k: int, empty: float, limits: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The first k of each frame's entries: values, indices ``[n, k]``; ``flags [n]`` int32, 1 where a learned threshold failed.

    Empty slots are `empty` and index 0. With ``limits [n]`` int32, a frame's entries from that number on are dropped.
    """
    splits, n, cap = found.values.shape
    length = int(triton.next_power_of_2(splits)) * cap
    if length > LONGEST or k > length:
        return _order_long(found, k, empty, limits)
    values = torch.empty(n, k, dtype=torch.float32, device=found.values.device)
    indices = torch.empty(n, k, dtype=torch.int64, device=found.values.device)
    flags = torch.zeros(n, dtype=torch.int32, device=found.values.device)
    launch(
        merge,
        (triton.cdiv(n, rows := LONGEST // length),),
        *(found.values, found.places, found.counts, found.floors, found.counts if limits is None else limits, found.among),
        *(values, indices, flags, n, found.width, found.tiles, splits, k, empty),
        num_warps=8,
        CAP=cap,
        SPLITS=int(triton.next_power_of_2(splits)),
        BLOCK_N=BLOCK_N,
        ROWS=rows,
        DIMS=(rows * length).bit_length() - 1,
        LENGTH=length.bit_length() - 1,
        K=(k - 1).bit_length(),
        LIMITED=limits is not None,
        AMONG=found.among is not None,
        CHECKED=found.floors.numel() > 0,
    )
    return values, indices, flags


def _order_long(found: Entries, k: int, empty: float, limits: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """`order` where a frame has too many slots for one program."""
    splits, n, cap = found.values.shape
    device = found.values.device
    values = torch.full((n, k), empty, dtype=torch.float32, device=device)
    indices = torch.zeros(n, k, dtype=torch.int64, device=device)
    split, slot = torch.arange(splits, device=device).view(-1, 1, 1), torch.arange(cap, device=device)
    size = max(1, CHUNK // (splits * cap))
    for start in range(0, n, size):
        rows = slice(start, start + size)
        place = found.places[:, rows].long() & 0xFFFF
        latent = (place % BLOCK_N) * found.tiles + (place // BLOCK_N) * splits + split
        value = torch.where(found.values[:, rows] == 0, 0.0, found.values[:, rows])
        bits = torch.where(value.isnan(), 0x7FC00000, value.contiguous().view(torch.int32).long())
        bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
        real = (slot < found.counts[:, rows, None]) & (latent < found.width)
        keys = (
            torch.where(real, (bits << 32) | (0x7FFFFFFF - latent), LOWEST).transpose(0, 1).flatten(1).sort(1, True).values[:, :k]
        )
        filled = keys != LOWEST
        if limits is not None:
            filled &= torch.arange(keys.shape[1], device=device) < limits[rows, None]
        bits = keys >> 32
        bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).int()
        values[rows, : keys.shape[1]] = torch.where(filled, bits.view(torch.float32), empty)
        latents = torch.where(filled, 0x7FFFFFFF - (keys & 0xFFFFFFFF), 0)
        indices[rows, : keys.shape[1]] = latents if found.among is None else torch.where(filled, found.among[latents], 0)
    if found.floors.numel() == 0:
        return values, indices, torch.zeros(n, dtype=torch.int32, device=device)
    floor = found.floors.amax(0)
    inside = values[:, k - 1] > floor
    flags = (found.counts > cap).any(0) | ((floor > 0) & ~(inside | values[:, k - 1].isnan()))
    return values, indices, flags.int()
