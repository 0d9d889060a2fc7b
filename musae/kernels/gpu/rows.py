"""Sums and dot products over the rows that a code names, in Triton.

``gather_sum``: weights ``[n, s]``, indices ``[n, s]``, rows ``[F, d]`` -> ``[n, d]``, each output written once by the one program
that owns it; the slots of a frame are summed in a fixed order. ``gather_dot``: its adjoint for the weights, ``[n, s]``. A program
takes a group of slots of some frames, one frame after the other. The programs of those frames' other groups run beside it, so
that only one of them finds the upstream gradient not yet cached. The first group's program sums the rows of that gradient on the
way: the gradient of the bias needs no pass of its own. These sums are added in a fixed order.

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
"""Rows in flight in a thread: eight 128-bit loads hide the latency of memory."""
FRAMES = 64
"""Frames of one program of `gather_dot`: the sums that programs write are 1/64 of the rows that they add up."""
SPAN = 4096
"""Columns that one program of `gather_dot` holds, at most; longer rows are cut, and the dot products of their parts added."""


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
def _gather_dot(
    upstream, indices, rows, dots, sums, n, s, groups,
    D: tl.constexpr, FRAMES: tl.constexpr, SLOTS: tl.constexpr, COLUMNS: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    block, group = program // groups, program % groups
    part = tl.program_id(1).to(tl.int64)
    first = block * FRAMES
    slot = group * SLOTS + tl.arange(0, SLOTS)
    column = part * COLUMNS + tl.arange(0, COLUMNS)
    wanted = (slot < s)[:, None] & (column < D)[None, :]
    total = tl.zeros([COLUMNS], tl.float32)
    for step in range(tl.minimum(n - first, FRAMES).to(tl.int32)):
        frame = first + step
        own = tl.load(upstream + frame * D + column, mask=column < D, other=0.0).to(tl.float32)
        total += own
        index = tl.load(indices + frame * s + slot, mask=slot < s, other=0)
        row = tl.load(rows + index[:, None] * D + column[None, :], mask=wanted, other=0.0).to(tl.float32)
        dot = tl.sum(row * own[None, :], axis=1)
        tl.store(dots + (part * n + frame) * s + slot, narrowed(dot, dots, WIDEN), mask=slot < s)
    tl.store(sums + block * D + column, total, mask=(column < D) & (group == 0))


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
    return dots_and_sum(upstream, indices, rows)[0]


def dots_and_sum(upstream: Tensor, indices: Tensor, rows: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """`gather_dot`, and the sum of the rows of `upstream`, float32 ``[d]``, in one pass over it.

    `dtype`: of the dot products; float32 where None.
    """
    (n, s), d = indices.shape, rows.shape[1]
    dtype, columns = dtype or torch.float32, min(triton.next_power_of_2(d), SPAN)
    parts, blocks, groups = triton.cdiv(d, columns), triton.cdiv(n, FRAMES), max(1, triton.cdiv(s, SLOTS))
    dots = torch.empty(parts, n, s, dtype=dtype if parts == 1 else torch.float32, device=rows.device)
    sums = torch.empty(blocks, d, dtype=torch.float32, device=rows.device)
    launch(
        _gather_dot, (blocks * groups, parts),
        upstream.contiguous(), indices.contiguous(), rows.contiguous(), dots, sums, n, s, groups,
        D=d, FRAMES=FRAMES, SLOTS=SLOTS, COLUMNS=columns, WIDEN=INTERPRET, num_warps=min(16, warps(columns, rows)),
    )  # fmt: skip
    return dots[0] if parts == 1 else dots.sum(0).to(dtype), sums.sum(0)


def tile(d: int) -> tuple[int, int]:
    """Rows and columns of a tile of ``[any, d]``: a power of two of each."""
    columns = min(triton.next_power_of_2(d), TILE)
    return min(ROWS, TILE // columns), columns


def warps(elements: int, rows: Tensor) -> int:
    """Warps for a tile of so many elements: as many as give each thread 16 bytes of the rows that are summed into it."""
    return max(1, elements * rows.element_size() // (16 * 32))
