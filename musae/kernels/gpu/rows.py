"""Sums and dot products over the rows that a code names, in Triton.

``gather_sum``: weights ``[n, s]``, indices ``[n, s]``, rows ``[F, d]`` -> ``[n, d]``, each output written once by the one program
that owns it; the slots of a frame are summed in a fixed order. ``gather_dot``: its adjoint for the weights, ``[n, s]``; a slot's
row is read by one warp, so that its sum stays within that warp.

Rows may be float32, bfloat16 or float16; they are widened as they are read, and sums are float32,
rounded once to the dtype asked for. d is a compile-time constant:
it is the same throughout a run, and a row's alignment, hence 128-bit loads, follows from it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from musae.kernels.gpu.launch import INTERPRET, launch

TILE = 1024
"""Elements of one tile of the output, rows times columns, at most."""
ROWS = 64
"""Rows of a tile, at most: what is kept for each row, not each element, has to fit registers too."""
SLOTS = 8
"""Rows in flight for each output element of a sum: eight 128-bit loads a thread hide the latency of memory."""
BYTES = 8192
"""Bytes of rows that one program of `gather_dot` reads at a time: 16 bytes of a row for each lane of a warp, four rows a warp."""


@triton.jit
def narrowed(value, pointers, WIDEN: tl.constexpr):
    """float32 values in the dtype that `pointers` point to, rounded to the nearest, ties to even."""
    if WIDEN and pointers.dtype.element_ty == tl.bfloat16:  # the interpreter cuts bits off: round, so that it cuts zeros off
        bits = value.to(tl.int32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
        value = tl.where(value == value, rounded.to(tl.float32, bitcast=True), value)
    return value.to(pointers.dtype.element_ty)


@triton.jit
def _gather_sum(
    weights, indices, rows, bias, sums, n, s,
    HAS_BIAS: tl.constexpr, D: tl.constexpr, FRAMES: tl.constexpr, SLOTS: tl.constexpr, COLUMNS: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    frame = tl.program_id(0).to(tl.int64) * FRAMES + tl.arange(0, FRAMES)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([FRAMES, COLUMNS], tl.float32)
    if HAS_BIAS:
        total += tl.load(bias + column, mask=column < D, other=0.0).to(tl.float32)[None, :]
    for start in range(0, s, SLOTS):
        slot = start + tl.arange(0, SLOTS)
        place = frame[None, :] * s + slot[:, None]
        here = (frame < n)[None, :] & (slot < s)[:, None]
        weight = tl.load(weights + place, mask=here, other=0.0).to(tl.float32)[:, :, None]
        index = tl.load(indices + place, mask=here, other=0)[:, :, None]
        wanted = (weight != 0) & (column < D)[None, None, :]  # an empty slot's row is not read
        row = tl.load(rows + index * D + column[None, None, :], mask=wanted, other=0.0).to(tl.float32)
        total += tl.sum(weight * row, axis=0)
    wanted = (frame < n)[:, None] & (column < D)[None, :]
    tl.store(sums + frame[:, None] * D + column[None, :], narrowed(total, sums, WIDEN), mask=wanted)


@triton.jit
def _gather_dot(upstream, indices, rows, dots, slots, s, D: tl.constexpr, DOTS: tl.constexpr, COLUMNS: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * DOTS
    slot = first + tl.arange(0, DOTS)
    here = slot < slots
    index = tl.load(indices + slot, mask=here, other=0)
    frame = first // s + ((first % s).to(tl.int32) + tl.arange(0, DOTS)) // s
    products = tl.zeros([DOTS, COLUMNS], tl.float32)
    for start in range(0, D, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        wanted = here[:, None] & (column < D)[None, :]
        row = tl.load(rows + index[:, None] * D + column[None, :], mask=wanted, other=0.0).to(tl.float32)
        other = tl.load(upstream + frame[:, None] * D + column[None, :], mask=wanted, other=0.0).to(tl.float32)
        products += row * other
    tl.store(dots + slot, tl.sum(products, axis=1), mask=here)


def gather_sum(
    weights: Tensor, indices: Tensor, rows: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """For each frame, the weighted sum of the rows of its latents: ``[n, s], [n, s], [F, d] -> [n, d]``.

    `bias [d]` is added. `dtype`: of the result; float32 where None.
    """
    (n, s), d = weights.shape, rows.shape[1]
    sums = torch.empty(n, d, dtype=dtype or torch.float32, device=rows.device)
    frames, columns = tile(d)
    launch(
        _gather_sum, (triton.cdiv(n, frames), triton.cdiv(d, columns)),
        weights.contiguous(), indices.contiguous(), rows.contiguous(),
        None if bias is None else bias.contiguous(), sums, n, s, HAS_BIAS=bias is not None,
        D=d, FRAMES=frames, SLOTS=SLOTS, COLUMNS=columns, WIDEN=INTERPRET, num_warps=warps(frames * columns, rows),
    )  # fmt: skip
    return sums


def gather_dot(upstream: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """For every slot, ``upstream[frame] . rows[latent]``: ``[n, d], [n, s], [F, d] -> [n, s]``, float32."""
    (n, s), d = indices.shape, rows.shape[1]
    dots = torch.empty(n, s, dtype=torch.float32, device=rows.device)
    size = rows.element_size()
    columns = min(triton.next_power_of_2(d), 512 // size)
    count = min(ROWS, BYTES // (columns * size))
    launch(
        _gather_dot, (triton.cdiv(n * s, count),),
        upstream.contiguous(), indices.contiguous(), rows.contiguous(), dots, n * s, s,
        D=d, DOTS=count, COLUMNS=columns, num_warps=4,
    )  # fmt: skip
    return dots


def tile(d: int) -> tuple[int, int]:
    """Rows and columns of a tile of ``[any, d]``: a power of two of each."""
    columns = min(triton.next_power_of_2(d), TILE)
    return min(ROWS, TILE // columns), columns


def warps(elements: int, rows: Tensor) -> int:
    """Warps for a tile of so many elements: as many as give each thread 16 bytes of the rows that are summed into it."""
    return max(1, elements * rows.element_size() // (16 * 32))
