"""The screen: ``x W_enc^T + b_enc`` on tensor cores, of which only the entries above a threshold are ever written.

A program owns `BLOCK_M` frames and one of S *splits* of the latents; it walks through the tiles s, s + S, s + 2 S, ... Tile t of
all T holds the latents t, t + T, t + 2 T, ...: neighbours in a dictionary are often related, and a tile should be a fair sample.
What survives a tile is appended to the frame's slots in ``values, places [S, n, CAP]``, which no other program touches; the
program counts them in registers. So there are no atomics, and two runs agree bit for bit. `places` is the latent's place in its
split, in 16 bits: place p of split s is latent ``(p % BLOCK_N) T + (p // BLOCK_N) S + s``.

The threshold is given, one for all (`SHARED`) or one for each latent (`PER_LATENT`), or it is learned on the way (`LEARNED`), so
that neither x nor W_enc is read a second time to estimate it. It starts at 0, ReLU's floor. Whenever a program has seen
N = BLOCK_N, 2 BLOCK_N, 4 BLOCK_N, ... latents of its split, it raises each frame's floor to about the r-th largest value among
them, and drops the entries below: all that lie above the old floor are at hand. Whatever the distribution of the values is, N
latents in no particular order hold a hypergeometric number of the frame's k largest, of mean m = N k / F, and the floor passes
the k-th largest only where that number is at least r. With r = m + 4.5 sqrt(m) + 3.5 this is rarer than one in a million a step
(exact tails for k from 32 to 100 and F from 4,096 to 65,536), and than one in 80,000 frames over all steps and 8 splits. The
result does not rest on it: ``floors [S, n]`` and ``counts [S, n]`` tell whether all that is needed is there, and a frame for
which it is not is done again.

An entry that is NaN counts as above any shared or learned threshold, so that it reaches the result instead of vanishing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from musae.kernels.gpu.launch import INTERPRET, launch

BLOCK_M = 128
"""Frames of a program."""
BLOCK_N = 128
"""Latents of a tile. 128 x 128 with 8 warps compiles to 213 (sm_80), 212 (sm_90), 234 (sm_100) registers at bfloat16, d = 2048,
and no spills; 128 x 256 spills 88 to 128 bytes. Compiled, not run: no choice in this file was timed on a device."""
BLOCK_K = {2: 64, 4: 32}
"""Columns of x and W_enc in flight at a time, by bytes of an element: 128 bytes a row, a cache line."""
SPLITS = 4
"""Least number of splits where the latents fill as many. With 4, the frames in flight at one time on 132 multiprocessors are 33
blocks, whose x (17 MB at d = 2048, bfloat16) stays in an L2 cache of 40 MB and more."""
MOST_SPLITS = 32
"""Largest number of splits: more would make the merge longer than 4,096 slots."""
PLACES = 1 << 16
"""Places that 16 bits tell apart."""
BUDGET = 1 << 29
"""Bytes of slots, at most, that exist at one time; frames are worked off in chunks of so many."""

SHARED, PER_LATENT, LEARNED = 0, 1, 2


@dataclass(frozen=True)
class Entries:
    """What a screen let through, for n frames."""

    values: Tensor
    """``[S, n, CAP]`` float32; only the first `counts` of a frame and split are set."""
    places: Tensor
    """``[S, n, CAP]`` int16, to be read as unsigned."""
    counts: Tensor
    """``[S, n]`` int32: entries above the threshold, stored or not. All are stored unless a count exceeds CAP."""
    floors: Tensor
    """``[S, n]`` float32: the threshold above which all entries are among these; empty unless it was learned."""
    tiles: int
    """T."""
    width: int
    """F."""
    among: Tensor | None = None
    """``[F]`` int64: the rows of W_enc that the F latents are; None where they are all, in order."""


@triton.jit
def _append(entries, entry_places, above, count, values, places, base, CAP: tl.constexpr):
    """Append each row's entries that are chosen in ``above [M, <= 32]`` to its slots, one of each row at a time; the new counts.

    What is chosen is kept as a bit mask a row, so that few registers are held while the slots are written.
    """
    column = tl.arange(0, above.shape[1])[None, :]
    left = tl.sum(tl.where(above, tl.full([1, 1], 1, tl.uint32) << column.to(tl.uint32), 0), 1)
    more = 1
    while more > 0:
        lowest = left & (0 - left)
        here = column == ((lowest.to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127)[:, None]  # a power of two's exponent
        slot = base + count
        wanted = (left != 0) & (count < CAP)
        tl.store(values + slot, tl.sum(tl.where(here, entries, 0.0), 1), mask=wanted)
        tl.store(places + slot, tl.sum(tl.where(here, entry_places, 0), 1).to(tl.int16), mask=wanted)
        count += (left != 0).to(tl.int32)
        left = left ^ lowest
        more = tl.max((left != 0).to(tl.int32), 0)
    return count


@triton.jit
def _filter(pre, floor, edges, count, values, places, base, first, CAP: tl.constexpr, PER_LATENT: tl.constexpr):
    """Append what lies above its floor in ``pre [M, N]``, whose column c is place `first` + c; in halves that fit registers."""
    N: tl.constexpr = pre.shape[1]
    if N > 32:
        left, right = tl.split(tl.permute(tl.reshape(pre, (pre.shape[0], 2, N // 2)), (0, 2, 1)))
        count = _filter(left, floor, edges, count, values, places, base, first, CAP, PER_LATENT)
        return _filter(right, floor, edges + N // 2, count, values, places, base, first + N // 2, CAP, PER_LATENT)
    else:  # noqa: RET505 (a compile-time choice)
        column = tl.arange(0, N)[None, :]
        above = pre > tl.load(edges + column) if PER_LATENT else (pre <= floor[:, None]) == 0
        return _append(pre, first + column, above, count, values, places, base, CAP)


@triton.jit
def _rise(values, places, base, floor, count, rank, CAP: tl.constexpr):
    """Raise each row's floor to about the `rank`-th largest of its entries, and drop what lies below."""
    tl.debug_barrier()
    held = tl.where(count <= CAP, count, 0)
    most = tl.max(held, 0)
    low = floor.to(tl.int32, bitcast=True)  # bits of positive floats: halving them finds outliers' scale and ours alike
    high = low
    for first in tl.range(0, most, 32, num_stages=1):
        slot = first + tl.arange(0, 32)[None, :]
        v = tl.load(values + (base[:, None] + slot), mask=slot // 8 * 8 < held[:, None], other=0.0)
        v = tl.where((slot < held[:, None]) & (v > 0), v, 0.0)
        high = tl.maximum(high, tl.max(v.to(tl.int32, bitcast=True), 1))
    for _ in tl.range(0, 15, num_stages=1):
        middle = low + (high - low) // 2
        limit = middle.to(tl.float32, bitcast=True)[:, None]
        over = tl.zeros(count.shape, tl.int32)
        for first in tl.range(0, most, 32, num_stages=1):
            slot = first + tl.arange(0, 32)[None, :]
            v = tl.load(values + (base[:, None] + slot), mask=slot // 8 * 8 < held[:, None], other=0.0)
            over += tl.sum(((v > limit) & (slot < held[:, None])).to(tl.int32), 1)
        low, high = tl.where(over >= rank, middle, low), tl.where(over >= rank, high, middle)
    floor = low.to(tl.float32, bitcast=True)
    kept = tl.zeros(count.shape, tl.int32)
    for first in tl.range(0, most, 32, num_stages=1):
        slot = first + tl.arange(0, 32)[None, :]
        v = tl.load(values + (base[:, None] + slot), mask=slot // 8 * 8 < held[:, None], other=0.0)
        p = tl.load(places + (base[:, None] + slot), mask=slot // 8 * 8 < held[:, None], other=0).to(tl.int32)
        tl.debug_barrier()
        above = ((v <= floor[:, None]) == 0) & (slot < held[:, None])
        kept = _append(v, p, above, kept, values, places, base, CAP)
    tl.debug_barrier()
    return floor, tl.where(count > CAP, count, kept)


@triton.jit
def screen(
    x,
    W_enc,
    b_enc,
    edges,
    among,
    values,
    places,
    counts,
    floors,
    n,
    F,
    T,
    S,
    share,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    CAP: tl.constexpr,
    RAGGED: tl.constexpr,
    AMONG: tl.constexpr,
    THRESHOLD: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Pre-activations of BLOCK_M frames and one of S splits of the latents, of which only entries above a threshold are written.

    ``x [n, D]``, ``W_enc [F, D]``, biases in the order of tiles -> ``values [S, n, CAP]`` float32, ``places [S, n, CAP]`` int16
    within the split, ``counts [S, n]`` int32 (more than CAP: entries were lost), ``floors [S, n]`` float32. THRESHOLD: 0 one for
    all, ``edges [1]``; 1 one for each latent, in the order of tiles; 2 learnt per frame, so that a little more than `share` =
    k / F of the latents may pass.
    """
    s = tl.program_id(0) % S
    start_row = (tl.program_id(0) // S).to(tl.int64) * BLOCK_M
    row = start_row + tl.arange(0, BLOCK_M)
    inside = row < n
    values += (s.to(tl.int64) * n + start_row) * CAP
    places += (s.to(tl.int64) * n + start_row) * CAP
    base = tl.arange(0, BLOCK_M) * CAP
    x_row = x + tl.minimum(row, n - 1)[:, None] * D
    count = tl.where(inside, 0, CAP + 1)  # a row beyond the last one counts as full
    floor = tl.zeros([BLOCK_M], tl.float32)
    if THRESHOLD == 0:
        floor += tl.load(edges)
    tiles = tl.cdiv(T - s, S)
    done = 0
    until = tiles
    if THRESHOLD == 2:
        until = 1
    while done < tiles:
        for j in range(done, until):
            t = s + j * S
            latent = tl.arange(0, BLOCK_N) * T + t
            if RAGGED:
                latent = tl.minimum(latent, F - 1)
            if AMONG:
                latent = tl.load(among + latent)
            W_row = W_enc + latent.to(tl.int64)[None, :] * D
            pre = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
            for start in range(0, D, BLOCK_K):
                k = start + tl.arange(0, BLOCK_K)
                if D % BLOCK_K == 0:
                    a = tl.load(x_row + k[None, :])
                    b = tl.load(W_row + k[:, None])
                else:
                    a = tl.load(x_row + k[None, :], mask=(k < D)[None, :], other=0.0)
                    b = tl.load(W_row + k[:, None], mask=(k < D)[:, None], other=0.0)
                if WIDEN:
                    a, b = a.to(tl.float32), b.to(tl.float32)
                pre = tl.dot(a, b, pre, input_precision="ieee")
            pre += tl.load(b_enc + t * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
            count = _filter(pre, floor, edges + t * BLOCK_N, count, values, places, base, j * BLOCK_N, CAP, THRESHOLD == 1)
        done = until
        if THRESHOLD == 2:  # noqa: SIM102 (a constant)
            if done < tiles:
                m = done * BLOCK_N * share
                rank = tl.ceil(m + 4.5 * tl.sqrt(m) + 3.5).to(tl.int32)
                floor, count = _rise(values, places, base, floor, count, rank, CAP)
        until = tl.minimum(2 * done, tiles)
    tl.store(counts + s.to(tl.int64) * n + row, count, mask=inside)
    if THRESHOLD == 2:
        tl.store(floors + s.to(tl.int64) * n + row, floor, mask=inside)


def entries(
    x: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    *,
    k: int = 0,
    shared: Tensor | None = None,
    edges: Tensor | None = None,
    among: Tensor | None = None,
    cap: int = 0,
) -> Entries:
    """The entries of ``x W_enc^T + b_enc`` above a threshold; x and W_enc as `aligned` returns them, n >= 1.

    The threshold is learned for the `k` largest of each frame, or is ``shared [1]`` >= 0, or ``edges [F]``, one for each latent.
    `among`: rows of W_enc, ascending, that take part; b_enc and `edges` are given for those alone. They are read where they lie.
    `cap` is the number of slots a frame and split, a power of two; with 0, as many as will probably do for `k`.
    """
    n, d = x.shape
    width = b_enc.shape[0]
    tiles = triton.cdiv(width, BLOCK_N)
    splits = split_count(n, tiles, x.device)
    threshold = LEARNED if k else SHARED if shared is not None else PER_LATENT
    cap = cap or capacity(k, width, tiles, splits)
    bias = _tiled(b_enc, tiles, -math.inf)
    given = shared if shared is not None else bias if edges is None else _tiled(edges, tiles, math.inf)
    values = torch.empty(splits, n, cap, dtype=torch.float32, device=x.device)
    places = torch.empty(splits, n, cap, dtype=torch.int16, device=x.device)
    counts = torch.empty(splits, n, dtype=torch.int32, device=x.device)
    floors = torch.empty(splits, n if k else 0, dtype=torch.float32, device=x.device)
    launch(
        screen,
        (triton.cdiv(n, BLOCK_M) * splits,),
        *(x, W_enc, bias, given, among, values, places, counts, floors, n, width, tiles, splits, k / width),
        num_warps=8,
        num_stages=3,
        D=d,
        BLOCK_M=BLOCK_M,
        BLOCK_N=BLOCK_N,
        BLOCK_K=BLOCK_K[x.element_size()],
        CAP=cap,
        RAGGED=width % BLOCK_N != 0,
        AMONG=among is not None,
        THRESHOLD=threshold,
        WIDEN=INTERPRET and x.dtype != torch.float32,
    )
    return Entries(values, places, counts, floors, tiles, width, among)


def aligned(x: Tensor, W_enc: Tensor) -> tuple[Tensor, Tensor]:
    """Both contiguous, in x's dtype, with zero columns added until a row is a multiple of 16 bytes, which fast loads need."""
    columns = -x.shape[1] % (16 // x.element_size())
    x, W_enc = x.contiguous(), W_enc.to(x.dtype).contiguous()
    return (functional.pad(x, (0, columns)), functional.pad(W_enc, (0, columns))) if columns else (x, W_enc)


def split_count(n: int, tiles: int, device: torch.device) -> int:
    """Splits of the latents: the fewest, from `SPLITS` on, with which the last wave of programs is nearly full."""
    needed = -(-tiles * BLOCK_N // PLACES)
    blocks, processors = -(-n // BLOCK_M), _processors(device)
    choices = range(max(1, needed, min(SPLITS, tiles)), max(needed, min(MOST_SPLITS, tiles)) + 1)

    def idle(splits: int) -> float:
        programs = blocks * splits
        return 1 - programs / (-(-programs // processors) * processors)

    return next((splits for splits in choices if idle(splits) < 0.15), min(choices, key=idle))


def capacity(k: int, width: int, tiles: int, splits: int) -> int:
    """Slots a frame and split that a learned threshold hardly ever exceeds: raised to rank r, it admits about r more."""
    seen = BLOCK_N << max(0, (-(-tiles // splits) - 1).bit_length() - 1)
    mean = seen * k / width
    rank = math.ceil(mean + 4.5 * math.sqrt(mean) + 3.5)
    likely = max(BLOCK_N, math.ceil(2 * rank + 6 * math.sqrt(2 * rank)))
    return min(1 << (likely - 1).bit_length(), whole(tiles, splits))


def whole(tiles: int, splits: int) -> int:
    """Slots a frame and split that no threshold can exceed."""
    return BLOCK_N << (-(-tiles // splits) - 1).bit_length()


@lru_cache
def _processors(device: torch.device) -> int:
    """Multiprocessors of a GPU; in the interpreter those of an H100."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def _tiled(per_latent: Tensor, tiles: int, fill: float) -> Tensor:
    """A vector over latents as ``[T, BLOCK_N]`` float32 in the order of the tiles."""
    padded = torch.full((BLOCK_N * tiles,), fill, dtype=torch.float32, device=per_latent.device)
    padded[: per_latent.shape[0]] = per_latent
    return padded.view(BLOCK_N, tiles).t().contiguous()
