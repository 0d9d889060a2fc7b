"""The relative error of a guess in Triton, and its gradients: both arrays are read once, in whatever float dtype they have.

``error``, ``guess`` ``[n, d]``. A program sums the squares of `TILE` x `TILES` neighbouring elements in float32, always in the
same order; a second kernel sums what those programs found. There are no atomics, and two runs agree bit for bit.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from musae.kernels.gpu.launch import INTERPRET, launch
from musae.kernels.gpu.rows import narrowed

TILE = 2048
"""Elements that a program reads at a time: with 8 warps, 16 bytes of a 16-bit array and 32 of a float32 one for each thread."""
TILES = 16
"""Tiles of one program. 8,192 frames of d = 2,048 then make 512 programs, about four for each multiprocessor."""
PARTS = 1024
"""Programs' sums that the last program reads at a time."""


@triton.jit
def _squares(error, guess, parts, N, TILE: tl.constexpr, TILES: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * (TILE * TILES)
    of_rest = tl.zeros([TILE], tl.float32)
    of_error = tl.zeros([TILE], tl.float32)
    for tile in range(TILES):
        element = start + tile * TILE + tl.arange(0, TILE)
        e = tl.load(error + element, mask=element < N, other=0.0).to(tl.float32)
        rest = e - tl.load(guess + element, mask=element < N, other=0.0).to(tl.float32)
        of_rest += rest * rest
        of_error += e * e
    tl.store(parts + tl.program_id(0), tl.sum(of_rest, 0))
    tl.store(parts + tl.num_programs(0) + tl.program_id(0), tl.sum(of_error, 0))


@triton.jit
def _means(parts, means, count, N, PARTS: tl.constexpr):
    which = tl.program_id(0)
    total = tl.zeros([PARTS], tl.float32)
    for start in range(0, count, PARTS):
        part = start + tl.arange(0, PARTS)
        total += tl.load(parts + which * count + part, mask=part < count, other=0.0)
    tl.store(means + which, tl.sum(total, 0) / N)


@triton.jit
def _relative_gradients(
    error, guess, factors, d_error, d_guess, N, OF_ERROR: tl.constexpr, TILE: tl.constexpr, WIDEN: tl.constexpr
):  # fmt: skip
    element = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    e = tl.load(error + element, mask=element < N, other=0.0).to(tl.float32)
    surplus = tl.load(guess + element, mask=element < N, other=0.0).to(tl.float32) - e
    pull = surplus * tl.load(factors)
    tl.store(d_guess + element, narrowed(pull, d_guess, WIDEN), mask=element < N)
    if OF_ERROR:
        tl.store(d_error + element, narrowed(-pull - e * tl.load(factors + 1), d_error, WIDEN), mask=element < N)


def mean_squares(error: Tensor, guess: Tensor) -> Tensor:
    """Means of ``(error - guess)^2`` and ``error^2``: ``[n, d], [n, d] -> [2]``, float32."""
    count = triton.cdiv(error.numel(), TILE * TILES)
    parts, means = (torch.empty(2, size, dtype=torch.float32, device=error.device) for size in (count, 1))
    arguments = error.contiguous(), guess.contiguous(), parts, error.numel()
    launch(_squares, (count,), *arguments, TILE=TILE, TILES=TILES, num_warps=8)
    launch(_means, (2,), parts, means, count, error.numel(), PARTS=PARTS, num_warps=4)
    return means.view(2)


def relative_gradients(error: Tensor, guess: Tensor, factors: Tensor, of_error: bool) -> tuple[Tensor | None, Tensor]:
    """Gradients by error, ``-f_0 (guess - error) - f_1 error`` or None without `of_error`, and by guess.

    By guess it is ``f_0 (guess - error)``. ``factors [2]`` is float32; each gradient has its tensor's dtype.
    """
    error, guess = error.contiguous(), guess.contiguous()
    d_error, d_guess = torch.empty_like(error) if of_error else None, torch.empty_like(guess)
    launch(
        _relative_gradients, (triton.cdiv(error.numel(), TILE),), error, guess, factors, d_error, d_guess, error.numel(),
        OF_ERROR=of_error, TILE=TILE, WIDEN=INTERPRET, num_warps=8,
    )  # fmt: skip
    return d_error, d_guess
