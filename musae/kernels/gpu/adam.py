"""Dense Adam in one pass over memory, with the projection of atoms to unit norm, in Triton; see `musae.kernels.adam`.

``adam_outer`` takes the gradient as factors (`musae.kernels.factored`): a latent's program sums its gradient row into
registers and updates parameters and moments at once, so that the gradient never reaches memory, save for pieces of hot latents.

An atom that is projected lies in one program's registers as a whole. Rows longer than `ROW` are taken in blocks that are read
again for each of three sums: they were read a moment ago, and come from the cache.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from musae.kernels import portable
from musae.kernels.gpu.launch import launch
from musae.kernels.gpu.rows import TILE, tile
from musae.kernels.gpu.transpose import SEGMENT, hot, inverse, outer, sum_latents
from musae.kernels.transposed import Transposed

ROW = 8192
"""Columns of the longest row that one program holds."""
HELD = 8
"""Elements of a row in each thread: those of four tensors, and what is being summed, fit its registers; 16 for long rows."""
SLOTS = 4
"""Rows in flight, with `HELD` elements of each in a thread; 2 for long rows."""
BETA1, BETA2 = (tl.constexpr(beta) for beta in portable.BETAS)
EPS = tl.constexpr(portable.EPS)
TINY = tl.constexpr(portable.TINY)


@triton.jit
def adam_step(param, grad, exp_avg, exp_avg_sq, rate, root):
    """New parameter and moments; `rate` is lr over the first bias correction, `root` 1 over the square root of the second."""
    exp_avg = BETA1 * exp_avg + (1 - BETA1) * grad
    exp_avg_sq = BETA2 * exp_avg_sq + (1 - BETA2) * grad * grad
    return param - rate * exp_avg / (root * tl.sqrt(exp_avg_sq) + EPS), exp_avg, exp_avg_sq


@triton.jit
def update(masters, grad, exp_avgs, exp_avg_sqs, place, wanted, rate, root, UNIT_NORM: tl.constexpr):
    """One step for the elements at `place`: whole rows, along axis 1, if UNIT_NORM. `grad` is in registers."""
    param = tl.load(masters + place, mask=wanted, other=0.0)
    if UNIT_NORM:
        grad -= param * tl.sum(param * grad, axis=1)[:, None]
    exp_avg = tl.load(exp_avgs + place, mask=wanted, other=0.0)
    exp_avg_sq = tl.load(exp_avg_sqs + place, mask=wanted, other=0.0)
    param, exp_avg, exp_avg_sq = adam_step(param, grad, exp_avg, exp_avg_sq, rate, root)
    tl.store(exp_avgs + place, exp_avg, mask=wanted)
    tl.store(exp_avg_sqs + place, exp_avg_sq, mask=wanted)
    if UNIT_NORM:
        param /= tl.maximum(tl.sqrt(tl.sum(param * param, axis=1)), TINY)[:, None]
    tl.store(masters + place, param, mask=wanted)


@triton.jit
def _adam_flat(masters, grads, exp_avgs, exp_avg_sqs, rate, root, size, TILE: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    grad = tl.load(grads + place, mask=place < size, other=0.0).to(tl.float32)
    update(masters, grad, exp_avgs, exp_avg_sqs, place, place < size, rate, root, False)


@triton.jit
def _adam_atoms(
    masters, grads, exp_avgs, exp_avg_sqs, rate, root, width, D: tl.constexpr, ATOMS: tl.constexpr, COLUMNS: tl.constexpr
):
    atom = tl.program_id(0).to(tl.int64) * ATOMS + tl.arange(0, ATOMS)
    column = tl.arange(0, COLUMNS)
    place = atom[:, None] * D + column[None, :]
    wanted = (atom < width)[:, None] & (column < D)[None, :]
    grad = tl.load(grads + place, mask=wanted, other=0.0).to(tl.float32)
    update(masters, grad, exp_avgs, exp_avg_sqs, place, wanted, rate, root, True)


@triton.jit
def _adam_long_atoms(masters, grads, exp_avgs, exp_avg_sqs, rate, root, D: tl.constexpr, COLUMNS: tl.constexpr):
    base = tl.program_id(0).to(tl.int64) * D
    products = tl.zeros([COLUMNS], tl.float32)
    for start in range(0, D, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        param = tl.load(masters + base + column, mask=column < D, other=0.0)
        products += param * tl.load(grads + base + column, mask=column < D, other=0.0).to(tl.float32)
    radial = tl.sum(products, axis=0)
    squares = tl.zeros([COLUMNS], tl.float32)
    for start in range(0, D, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        place = base + column
        param = tl.load(masters + place, mask=column < D, other=0.0)
        grad = tl.load(grads + place, mask=column < D, other=0.0).to(tl.float32) - param * radial
        exp_avg = tl.load(exp_avgs + place, mask=column < D, other=0.0)
        exp_avg_sq = tl.load(exp_avg_sqs + place, mask=column < D, other=0.0)
        param, exp_avg, exp_avg_sq = adam_step(param, grad, exp_avg, exp_avg_sq, rate, root)
        squares += param * param
        tl.store(exp_avgs + place, exp_avg, mask=column < D)
        tl.store(exp_avg_sqs + place, exp_avg_sq, mask=column < D)
        tl.store(masters + place, param, mask=column < D)
    norm = tl.maximum(tl.sqrt(tl.sum(squares, axis=0)), TINY)
    for start in range(0, D, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        param = tl.load(masters + base + column, mask=column < D, other=0.0) / norm
        tl.store(masters + base + column, param, mask=column < D)


@triton.jit
def _adam_outer(
    masters, exp_avgs, exp_avg_sqs, slots, inverse, weights, rows, offsets, partials, rate, root, width,
    D: tl.constexpr, UNIT_NORM: tl.constexpr, SEGMENT: tl.constexpr, SLOTS: tl.constexpr, LATENTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    latent = tl.program_id(0).to(tl.int64) * LATENTS + tl.arange(0, LATENTS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    grad = sum_latents(slots, inverse, weights, rows, offsets, partials, latent, column, width, D, SEGMENT, SLOTS)
    place = latent[:, None] * D + column[None, :]
    wanted = (latent < width)[:, None] & (column < D)[None, :]
    update(masters, grad, exp_avgs, exp_avg_sqs, place, wanted, rate, root, UNIT_NORM)


def adam(param: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, step: int, lr: float, unit_norm: bool) -> None:
    """One step in place, the `step`-th (from 1), of ``[F, d]`` tensors, or of ``[F]`` without unit norm."""
    arguments = (param, grad.contiguous(), exp_avg, exp_avg_sq, *_corrected(step, lr))
    if not unit_norm:
        size = param.numel()
        launch(_adam_flat, (triton.cdiv(size, TILE),), *arguments, size, TILE=TILE, num_warps=_warps(TILE))
        return
    width, d = param.shape
    if d > ROW:
        launch(_adam_long_atoms, (width,), *arguments, D=d, COLUMNS=TILE, num_warps=_warps(TILE))
        return
    atoms, columns = tile(d)[0], triton.next_power_of_2(d)
    launch(
        _adam_atoms, (triton.cdiv(width, atoms),), *arguments, width,
        D=d, ATOMS=atoms, COLUMNS=columns, num_warps=_warps(atoms * columns),
    )  # fmt: skip


def adam_outer(
    param: Tensor,
    t: Transposed,
    weights: Tensor,
    rows: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: int,
    lr: float,
    unit_norm: bool,
) -> None:
    """`adam` with the gradient ``outer(t, weights, rows)``."""
    width, d = param.shape
    if unit_norm and d > ROW:
        adam(param, outer(t, weights, rows), exp_avg, exp_avg_sq, step, lr, unit_norm)
        return
    weights, rows = weights.contiguous(), rows.contiguous()
    latents, columns = tile(d)
    if unit_norm:
        columns = triton.next_power_of_2(d)
    warps = _warps(latents * columns)
    launch(
        _adam_outer, (triton.cdiv(width, latents), triton.cdiv(d, columns)),
        param, exp_avg, exp_avg_sq, t.slots, inverse(weights), weights, rows, t.offsets, hot(t, weights, rows),
        *_corrected(step, lr), width,
        D=d, UNIT_NORM=unit_norm, SEGMENT=SEGMENT, SLOTS=min(SLOTS, 32 * 32 * warps // (latents * columns)), LATENTS=latents,
        COLUMNS=columns, num_warps=warps,
    )  # fmt: skip


def _corrected(step: int, lr: float) -> tuple[float, float]:
    """lr over the bias correction of the first moment, and 1 over the square root of the second's."""
    first, second = (1 - beta**step for beta in portable.BETAS)
    return lr / first, second**-0.5


def _warps(elements: int) -> int:
    """Warps for a tile of so many elements."""
    return max(1, min(16, elements // (32 * HELD)))
