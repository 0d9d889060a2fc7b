"""The compiled CPU path: the functions of `musae.kernels.portable`, on float32 tensors of an x86 CPU.

Encoding screens all latents with bfloat16 products and a proven error bound, and computes in float32 those that can be selected
(screen.h, topk.h, above.h). A selected value is a float32 dot product of 64 accumulators plus the bias: its error is below
(d / 64 + 10) 2^-24 times ``|x| . |w| + |b|``, and a row's result does not depend on the other rows, nor on the number of threads.

Calls with another dtype or device go to the portable path, and so do frames with infinite or NaN entries. Threads are as many as
`torch.get_num_threads` says.
"""

from __future__ import annotations

import torch
from torch import Tensor

from musae.errors import UserError
from musae.kernels import portable
from musae.kernels.cpu import extension
from musae.kernels.portable import BETAS, EPS, TINY
from musae.kernels.portable import mean_squares as mean_squares
from musae.kernels.portable import relative_gradients as relative_gradients
from musae.kernels.transposed import Transposed

NAME = "extension"
FEW = 16
"""Frames below which a screen costs more than it saves."""
SAMPLE = 128
"""Frames that the cut of `batch_topk` is guessed from."""


def topk(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k largest positive pre-activations of each frame, of the latents `among`; see `musae.kernels.topk_encode`."""
    if among is not None:
        values, indices = topk(x, W_enc[among], b_enc[among], k)
        return values, among[indices].masked_fill_(values == 0, 0)
    if not _ours(x, W_enc, b_enc):
        return portable.topk(x, W_enc, b_enc, k)
    values, indices, unfit, _ = screened(x, W_enc, b_enc, k)
    if bool(unfit.any()):
        values[unfit], indices[unfit] = portable.topk(x[unfit], W_enc, b_enc, k)
    return values, indices


def screened(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """`topk` of float32 tensors, and how it went.

    Returns values and indices ``[n, k]``; which frames have none, as they or the weights are not finite (bool ``[n]``); and how
    many frames were settled after the screen in bytes, after that in bfloat16, and by the exact pass.
    """
    (n, d), width = x.shape, len(W_enc)
    x, W_enc, b_enc = x.contiguous(), W_enc.contiguous(), b_enc.contiguous()
    values, indices = _new(n, k), _new(n, k, dtype=torch.int64)
    unfit, passes = _new(n, dtype=torch.bool), _new(3, dtype=torch.int64)
    _call("topk", x, W_enc, b_enc, n, width, d, k, values, indices, unfit, passes, torch.get_num_threads())
    return values, indices, unfit, passes.tolist()


def batch_topk(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The n * k largest positive pre-activations of the batch; see `musae.kernels.batch_topk`.

    Everything above a guessed cut is found; a guess that leaves too few, which is rare, sends the batch to the portable path.
    """
    n, width = len(x), len(W_enc)
    if not _ours(x, W_enc, b_enc) or n < FEW or 4 * k > width:
        return portable.batch_topk(x, W_enc, b_enc, k)
    sample = topk(x[:: -(-n // SAMPLE)], W_enc, b_enc, 4 * k)[0]
    wanted = len(sample) * k
    rank = min(sample.numel(), int(1.3 * wanted + 4 * wanted**0.5))
    guess = sample.flatten().kthvalue(sample.numel() - rank + 1).values
    values, indices, counts, unfit = _above(x, W_enc, b_enc, guess.expand(width), k, 0.0)
    found, budget = int(counts.sum()), n * k
    if bool(unfit.any()) or (found < budget and guess > 0):
        return portable.batch_topk(x, W_enc, b_enc, k)
    if found > budget:
        cut = values[values > 0].kthvalue(found - budget + 1).values
        kept, equal = values > cut, values == cut
        # slots run by frame, and equals within a frame by latent: the first of those at the cut stay
        kept |= equal & (equal.flatten().cumsum(0).view_as(equal) <= budget - kept.sum())
        values, indices = values.where(kept, 0), indices.where(kept, 0)
        s = max(1, int(kept.sum(1).max()))
        values, indices = values[:, :s].contiguous(), indices[:, :s].contiguous()
    return values, indices


def jumprelu(x: Tensor, W_enc: Tensor, b_enc: Tensor, threshold: Tensor, half_band: float) -> tuple[Tensor, Tensor]:
    """Pre-activations above ``threshold - half_band``; see `musae.kernels.jumprelu`. Empty slots are -inf.

    Frames with more entries than there is room for are the portable path's.
    """
    if not _ours(x, W_enc, b_enc, threshold) or len(x) < FEW:
        return portable.jumprelu(x, W_enc, b_enc, threshold, half_band)
    values, indices, _, unfit = _above(x, W_enc, b_enc, threshold - half_band, len(W_enc) // 256, -torch.inf)
    if bool(unfit.any()):
        more, where = portable.jumprelu(x[unfit], W_enc, b_enc, threshold, half_band)
        s = max(values.shape[1] if not bool(unfit.all()) else 1, more.shape[1])
        values, indices = _padded(values, s, -torch.inf), _padded(indices, s, 0)
        values[unfit], indices[unfit] = _padded(more, s, -torch.inf), _padded(where, s, 0)
    return values, indices


def _above(
    x: Tensor, W_enc: Tensor, b_enc: Tensor, floors: Tensor, expected: int, empty: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Entries above ``floors [F]``: values and indices ``[n, s]``, falling; counts ``[n]``; and which frames have no result."""
    (n, d), width = x.shape, len(W_enc)
    x, W_enc, b_enc, floors = x.contiguous(), W_enc.contiguous(), b_enc.contiguous(), floors.contiguous()
    room = min(width + 64, 1024 + width // 16)
    values, indices = _new(n, room), _new(n, room, dtype=torch.int64)
    counts, unfit = _new(n, dtype=torch.int64), _new(n, dtype=torch.bool)
    sizes = (n, width, d, max(1, expected), room)
    _call("above", x, W_enc, b_enc, floors, *sizes, values, indices, counts, unfit, torch.get_num_threads())
    counts.masked_fill_(unfit, 0)
    s = max(1, int(counts.max()))
    unused = torch.arange(s, device=x.device) >= counts.unsqueeze(1)
    return values[:, :s].masked_fill(unused, empty), indices[:, :s].masked_fill(unused, 0), counts, unfit


def _padded(slots: Tensor, s: int, empty: float) -> Tensor:
    return torch.nn.functional.pad(slots, (0, s - slots.shape[1]), value=empty)


def gather_sum(
    weights: Tensor, indices: Tensor, rows: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """For each frame, the weighted sum of the rows of its latents: ``[n, s], [n, s], [F, d] -> [n, d]``, and `bias [d]`."""
    if not _ours(weights, rows, *([] if bias is None else [bias])):
        return portable.gather_sum(weights, indices, rows, bias, dtype)
    weights, indices, rows = weights.contiguous(), indices.contiguous(), rows.contiguous()
    bias = None if bias is None else bias.contiguous()
    out = _new(len(indices), rows.shape[1])
    _call("gather_sum", weights, indices, rows, bias, out, *indices.shape, *rows.shape, torch.get_num_threads())
    return out.to(dtype or out.dtype)


def gather_dot(upstream: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """For each slot, ``upstream[frame] . rows[latent]``: ``[n, d], [n, s], [F, d] -> [n, s]``."""
    if not _ours(upstream, rows):
        return portable.gather_dot(upstream, indices, rows)
    upstream, indices, rows = upstream.contiguous(), indices.contiguous(), rows.contiguous()
    out = _new(*indices.shape)
    _call("gather_dot", upstream, indices, rows, out, *indices.shape, *rows.shape, torch.get_num_threads())
    return out


def dots_and_sum(upstream: Tensor, indices: Tensor, rows: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """`gather_dot` in `dtype` (as it comes where None), and the sum of the rows of `upstream`, ``[d]``."""
    dots = gather_dot(upstream, indices, rows)
    return dots.to(dtype or dots.dtype), upstream.sum(0)


def transpose(indices: Tensor, weights: Tensor, width: int) -> Transposed:
    """Sort the slots of ``indices [n, s]`` by latent, stably; slots whose weight is 0 are left out."""
    if not _ours(weights):
        return portable.transpose(indices, weights, width)
    indices, weights = indices.contiguous(), weights.contiguous()
    slots, frames = (_new(indices.numel(), dtype=torch.int64) for _ in range(2))
    offsets = _new(width + 1, dtype=torch.int64)
    _call("transpose", indices, weights, *indices.shape, width, slots, frames, offsets)
    return Transposed(slots, frames, offsets)


def outer(t: Transposed, weights: Tensor, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """For each latent, the sum over its slots of ``weights[slot] * rows[frame]``: ``[n, s], [n, d] -> [F, d]``."""
    if not _ours(weights, rows):
        return portable.outer(t, weights, rows, dtype)
    weights, rows = weights.contiguous(), rows.contiguous()
    out = _new(t.width, rows.shape[1])
    _call("outer", t.slots, t.frames, t.offsets, weights, rows, out, *out.shape, torch.get_num_threads())
    return out.to(dtype or out.dtype)


def total(t: Transposed, weights: Tensor) -> Tensor:
    """For each latent, the sum of its slots' weights: ``[n, s] -> [F]``."""
    if not _ours(weights):
        return portable.total(t, weights)
    weights = weights.contiguous()
    out = _new(t.width)
    _call("total", t.slots, t.offsets, weights, out, t.width)
    return out


def adam(param: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, step: int, lr: float, unit_norm: bool) -> None:
    """One step in place, the `step`-th; see `musae.kernels.adam`."""
    if not _ours(param, grad, exp_avg, exp_avg_sq) or not _in_place(param, exp_avg, exp_avg_sq):
        return portable.adam(param, grad, exp_avg, exp_avg_sq, step, lr, unit_norm)
    rows, d = param.shape if param.dim() == 2 else (1, param.numel())
    _call("adam", param, grad.contiguous(), exp_avg, exp_avg_sq, rows, d, *_adam_tail(step, lr, unit_norm))
    return _changed(param, exp_avg, exp_avg_sq)


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
    """`adam` with the gradient ``outer(t, weights, rows)``, of which one row exists at a time."""
    if not _ours(param, weights, rows, exp_avg, exp_avg_sq) or not _in_place(param, exp_avg, exp_avg_sq):
        return portable.adam_outer(param, t, weights, rows, exp_avg, exp_avg_sq, step, lr, unit_norm)
    tensors = (param, t.slots, t.frames, t.offsets, weights.contiguous(), rows.contiguous(), exp_avg, exp_avg_sq)
    _call("adam_outer", *tensors, *param.shape, *_adam_tail(step, lr, unit_norm))
    return _changed(param, exp_avg, exp_avg_sq)


def _new(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Memory for a kernel to write: on the CPU and of this dtype, whatever PyTorch's defaults are set to."""
    return torch.empty(shape, dtype=dtype, device="cpu")


def _ours(*tensors: Tensor) -> bool:
    """Whether all of them are float32 on the CPU."""
    return all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)


def _in_place(*tensors: Tensor) -> bool:
    """Whether they can be written through their addresses."""
    return all(t.is_contiguous() for t in tensors)


def _adam_tail(step: int, lr: float, unit_norm: bool) -> tuple[float, ...]:
    return step, lr, *BETAS, EPS, TINY, unit_norm, torch.get_num_threads()


def _changed(*tensors: Tensor) -> None:
    """Tell autograd that they were written to: it could not see it."""
    for tensor in tensors:
        torch.autograd.graph.increment_version(tensor)


def _call(name: str, *arguments: Tensor | float | None) -> None:
    """Call an entry point, tensors by their addresses. Raises UserError for an index out of range and for lack of memory."""
    function = getattr(extension.library(), f"musae_{name}")
    code = function(*(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))
    if code == 2:
        raise UserError(f"{name}: an index lies outside of the latents there are; the code belongs to another dictionary.")
    if code:
        raise UserError(f"{name}: the compiled kernel ran out of memory; take fewer frames at a time.")
