"""The cut of BatchTopK: how many of each frame's screened entries are among the largest of the whole batch.

The value at the cut is found among the candidates by its bits, 8 at a time, each time with a histogram of those that
agree with the bits known so far; nothing is sorted. Integer counts are the only things added atomically: their sum has one value
in any order. Entries that equal the value at the cut are taken by frame, and within a frame by latent.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from musae.kernels.gpu.launch import launch
from musae.kernels.gpu.merge import ordered
from musae.kernels.gpu.screen import Entries

TILE = 4096
"""Slots that a program holds at a time."""
BINS = 256
DIGITS = ((24, 7), (16, 8), (8, 8), (0, 8))
"""Shift and width of the digits of a positive float's 31 bits, highest first."""


@triton.jit
def histogram(
    values,
    counts,
    known,
    bins,
    rows,
    SHIFT: tl.constexpr,
    WIDTH: tl.constexpr,
    BINS: tl.constexpr,
    CAP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Add to ``bins [BINS]`` int32 how often each digit occurs among the entries whose higher bits are `known`.

    A digit is WIDTH bits from bit SHIFT on. ``values [rows, CAP]`` float32, the first ``counts [rows]`` of a row being there.
    Atomics are on integers only: their order changes nothing.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    slot = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    held = tl.minimum(tl.load(counts + row, mask=row < rows, other=0), CAP)[:, None]
    bits = ordered(tl.load(values + row[:, None] * CAP + slot, mask=slot // 4 * 4 < held, other=0.0))
    counted = (slot < held) & ((bits >> (SHIFT + WIDTH)) == tl.load(known))
    digit = tl.reshape((bits >> SHIFT) & ((1 << WIDTH) - 1), (ROWS * COLUMNS,))
    found = tl.histogram(digit, BINS, mask=tl.reshape(counted, (ROWS * COLUMNS,)))
    tl.atomic_add(bins + tl.arange(0, BINS), found, mask=found > 0, sem="relaxed")


@triton.jit
def tally(values, counts, cut, above, equal, n, S, CAP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """For each frame, how many entries of its S splits lie above the `cut`, ``above [n]``, and on it, ``equal [n]`` (int32).

    ``values [S, n, CAP]`` float32, of which the first ``counts [S, n]`` are there.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    limit = tl.load(cut)
    more = tl.zeros([ROWS], tl.int32)
    same = tl.zeros([ROWS], tl.int32)
    own = row
    for _ in range(S):
        held = tl.minimum(tl.load(counts + own, mask=row < n, other=0), CAP)[:, None]
        for start in range(0, CAP, COLUMNS):
            slot = start + tl.arange(0, COLUMNS)[None, :]
            bits = ordered(tl.load(values + own[:, None] * CAP + slot, mask=slot // 4 * 4 < held, other=0.0))
            more += tl.sum(((slot < held) & (bits > limit)).to(tl.int32), 1)
            same += tl.sum(((slot < held) & (bits == limit)).to(tl.int32), 1)
        own += n
    tl.store(above + row, more, mask=row < n)
    tl.store(equal + row, same, mask=row < n)


def keep(parts: list[tuple[Tensor, Entries]], n: int, budget: int) -> Tensor:
    """``[n]`` int32: how many of its largest entries each frame keeps, so that `budget` are kept in all.

    `parts` are disjoint sets of frames and their entries; entries are positive, and at least `budget` of them in all. All of this
    stays on the device: nothing waits for it.
    """
    device = parts[0][0].device
    known = torch.zeros(1, dtype=torch.int32, device=device)
    wanted = torch.full((1,), budget, dtype=torch.int64, device=device)
    for shift, bits in DIGITS:
        bins = torch.zeros(BINS, dtype=torch.int32, device=device)
        for _, found in parts:
            splits, rows, cap = found.values.shape
            columns = min(cap, TILE)
            launch(
                histogram,
                (triton.cdiv(splits * rows, TILE // columns), cap // columns),
                *(found.values, found.counts, known, bins, splits * rows),
                num_warps=8,
                SHIFT=shift,
                WIDTH=bits,
                BINS=BINS,
                CAP=cap,
                ROWS=TILE // columns,
                COLUMNS=columns,
            )
        from_top = bins.flip(0).cumsum(0)
        place = torch.searchsorted(from_top, wanted)
        wanted = wanted - torch.where(place > 0, from_top[(place - 1).clamp_min(0)], 0)
        known = (known << bits) + (BINS - 1 - place).int()
    above, equal = (torch.zeros(n, dtype=torch.int32, device=device) for _ in range(2))
    for frames, found in parts:
        splits, rows, cap = found.values.shape
        more, same = torch.empty(2, rows, dtype=torch.int32, device=device)
        columns = min(cap, TILE)
        launch(
            tally,
            (triton.cdiv(rows, TILE // columns),),
            *(found.values, found.counts, known, more, same, rows, splits),
            num_warps=8,
            CAP=cap,
            ROWS=TILE // columns,
            COLUMNS=columns,
        )
        above[frames], equal[frames] = more, same
    before = equal.cumsum(0) - equal
    return (above + torch.minimum((wanted - before).clamp_min(0), equal)).int()
