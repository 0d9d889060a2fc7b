"""The portable path: nothing but PyTorch, on any device and for every dtype; the others are measured against it.

Frames are taken in chunks whose pre-activations stay in a core's cache, so a dense code ``[n, F]`` never exists. Selection of the
k largest is exact in two stages: they lie in the k groups of latents with the largest maxima. One entry more than k is looked at:
where those k + 1 fall strictly, they have one answer; a frame with equals among them (rare for real-valued inputs) is sorted in
full, stably. Weighted sums of rows are embedding bags: forward over the code, for weight gradients over the transposed code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.adam import adam as torch_adam

from musae.kernels.op import accumulator
from musae.kernels.transposed import Transposed
from musae.kernels.transposed import transpose as transpose

NAME = "portable"
CHUNK = 256
"""Frames whose dense code exists at one time: 2 MB at F = 2,048, so that it stays in a core's cache."""
BLOCK = 2**18
"""Elements of a gradient that exist at one time in `adam_outer`: 1 MB, so that they stay in a core's cache."""
BETAS = (0.9, 0.999)
EPS = 1e-8
TINY = 1e-30
"""Keeps an all-zero row from dividing by zero."""


def topk(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k largest positive pre-activations of each frame, of the latents `among`; see `musae.kernels.topk_encode`."""
    if among is not None:
        values, indices = topk(x, W_enc[among], b_enc[among], k)
        return values, among[indices].masked_fill_(values == 0, 0)
    values = x.new_empty(x.shape[0], k, dtype=accumulator(x.dtype))
    indices = torch.empty(x.shape[0], k, dtype=torch.int64, device=x.device)
    for rows, h in _chunks(x, W_enc, b_enc, rectify=True):
        values[rows], indices[rows] = select(h, k)
    return values, indices


def batch_topk(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The n * k largest positive pre-activations of the batch; see `musae.kernels.batch_topk`.

    Of each chunk only what reaches the n * k-th largest entry so far is kept.
    """
    n = x.shape[0]
    budget = n * k
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    floor = x.new_zeros((), dtype=accumulator(x.dtype))
    for rows, h in _chunks(x, W_enc, b_enc, rectify=True):
        found = (h >= floor) & (h > 0)
        frame, latent = found.nonzero(as_tuple=True)
        kept.append((h[found], frame + rows.start, latent))
        if sum(len(values) for values, _, _ in kept) > 2 * budget:
            kept = [_reaching(kept, budget)]
            floor = kept[0][0].min()
    if not kept:
        return x.new_zeros(n, 1, dtype=floor.dtype), torch.zeros(n, 1, dtype=torch.int64, device=x.device)
    values, frame, latent = _reaching(kept, budget)
    if len(values) > budget:  # equals at the cut: the first by position stay
        cut = values.min()
        equal = values == cut
        surplus = equal & (equal.cumsum(0) > budget - (len(values) - equal.sum()))
        values, frame, latent = values[~surplus], frame[~surplus], latent[~surplus]
    return pack(values, frame, latent, n, 0.0)


def jumprelu(x: Tensor, W_enc: Tensor, b_enc: Tensor, threshold: Tensor, half_band: float) -> tuple[Tensor, Tensor]:
    """Pre-activations above ``threshold - half_band``; see `musae.kernels.jumprelu`. Empty slots are -inf."""
    floor = threshold.to(accumulator(x.dtype)) - half_band
    parts = []
    for rows, h in _chunks(x, W_enc, b_enc, rectify=False):
        found = h > floor
        frame, latent = found.nonzero(as_tuple=True)
        parts.append((h[found], frame + rows.start, latent))
    if not parts:
        return x.new_full((0, 1), -torch.inf, dtype=floor.dtype), torch.zeros(0, 1, dtype=torch.int64, device=x.device)
    values, frame, latent = (torch.cat(part) for part in zip(*parts, strict=True))
    return pack(values, frame, latent, x.shape[0], -torch.inf)


def gather_sum(
    weights: Tensor, indices: Tensor, rows: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """For each frame, the weighted sum of the rows of its latents: ``[n, s], [n, s], [F, d] -> [n, d]``.

    `bias [d]` is added. `dtype`: of the result; that of the accumulator where None.
    """
    rows = rows.to(accumulator(rows.dtype))
    sums = functional.embedding_bag(indices, rows, mode="sum", per_sample_weights=weights.to(rows.dtype))
    return (sums if bias is None else sums.add_(bias)).to(dtype or sums.dtype)


def gather_dot(upstream: Tensor, indices: Tensor, rows: Tensor) -> Tensor:
    """For each slot, ``upstream[frame] . rows[latent]``: ``[n, d], [n, s], [F, d] -> [n, s]``; the adjoint of `gather_sum`."""
    n, s = indices.shape
    offsets = torch.arange(0, n * s, s, device=indices.device)
    frames = torch.arange(n, device=indices.device).repeat_interleave(s)
    rows = rows.to(accumulator(rows.dtype))
    # the backward of embedding_bag for its weights, called directly: it fuses the gather with the dot product
    dots: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        upstream.to(rows.dtype), rows, indices.flatten(), offsets, frames, 0
    )
    return dots.view(n, s)


def dots_and_sum(upstream: Tensor, indices: Tensor, rows: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """`gather_dot` in `dtype` (as it comes where None), and the sum of the rows of `upstream`, ``[d]``."""
    dots = gather_dot(upstream, indices, rows)
    return dots.to(dtype or dots.dtype), upstream.sum(0)


def outer(t: Transposed, weights: Tensor, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """For each latent, the sum over its slots of ``weights[slot] * rows[frame]``: ``[n, s], [n, d] -> [F, d]``.

    `dtype`: of the result; that of the accumulator where None.
    """
    count = int(t.offsets[-1])
    sums = _bags(t.frames[:count], t.offsets, weights.flatten()[t.slots[:count]], rows)
    return sums.to(dtype or sums.dtype)


def total(t: Transposed, weights: Tensor) -> Tensor:
    """For each latent, the sum of its slots' weights: ``[n, s] -> [F]``."""
    return torch.segment_reduce(weights.flatten()[t.slots[: int(t.offsets[-1])]], "sum", offsets=t.offsets, initial=0)


def mean_squares(error: Tensor, guess: Tensor) -> Tensor:
    """Means of ``(error - guess)^2`` and of ``error^2``: ``[n, d], [n, d] -> [2]``, in the accumulator's dtype."""
    error = error.to(accumulator(error.dtype))
    return torch.stack([(error - guess).square_().mean(), error.square().mean()])


def relative_gradients(error: Tensor, guess: Tensor, factors: Tensor, of_error: bool) -> tuple[Tensor | None, Tensor]:
    """Gradients of a function of `mean_squares`, by error and by guess ``[n, d]``, each in its tensor's dtype.

    ``factors [2]``: by guess it is ``f_0 (guess - error)``; by error ``-f_0 (guess - error) - f_1 error``, or None without
    `of_error`.
    """
    wide = error.to(accumulator(error.dtype))
    d_guess = (guess - wide).mul_(factors[0])
    d_error = (wide * -factors[1]).sub_(d_guess).to(error.dtype) if of_error else None
    return d_error, d_guess.to(guess.dtype)


@torch.no_grad()
def adam(param: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, step: int, lr: float, unit_norm: bool) -> None:
    """One step in place, the `step`-th; see `musae.kernels.adam`."""
    grad = grad.to(param.dtype)
    if unit_norm:
        grad = grad.addcmul(param, torch.linalg.vecdot(param, grad).unsqueeze(1), value=-1)
    count = torch.tensor(step - 1.0, dtype=torch.float32, device=param.device)
    torch_adam(
        [param], [grad], [exp_avg], [exp_avg_sq], [], [count], fused=True,
        amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=lr, weight_decay=0.0, eps=EPS, maximize=False,
    )  # fmt: skip
    if unit_norm:
        param.div_(torch.linalg.vector_norm(param, dim=1, keepdim=True).clamp_min_(TINY))


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
    """`adam` with the gradient ``outer(t, weights, rows)``; on a CPU a block of latents at a time, so that it stays in cache."""
    size = max(1, BLOCK // max(1, param.shape[1])) if param.device.type == "cpu" else len(param)
    weights, rows = weights.flatten()[t.slots[: int(t.offsets[-1])]], rows.to(accumulator(rows.dtype))
    bounds = t.offsets[::size].tolist() + t.offsets[-1:].tolist()
    for start in range(0, len(param), size):
        block, first = slice(start, start + size), bounds[start // size]
        entries = slice(first, bounds[start // size + 1] if start + size < len(param) else bounds[-1])
        offsets = t.offsets[start : start + size + 1] - first
        grad = _bags(t.frames[entries], offsets, weights[entries], rows)
        adam(param[block], grad, exp_avg[block], exp_avg_sq[block], step, lr, unit_norm)


def select(h: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row of ``h [c, F]``, h >= 0, as `topk` orders them."""
    more = min(k + 1, h.shape[1])
    values, indices = _largest(h, more)
    equal = ((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > 0)).any(1)
    values, indices = values[:, :k], indices[:, :k]
    if bool(equal.any()):
        exact = h[equal].sort(dim=1, descending=True, stable=True)
        values[equal], indices[equal] = exact.values[:, :k], exact.indices[:, :k]
    return values, indices.masked_fill_(values == 0, 0)


def _bags(frames: Tensor, offsets: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
    """For each latent, the sum over its entries of ``weight * rows[frame]``; entries are given latent after latent."""
    rows = rows.to(accumulator(rows.dtype))
    return functional.embedding_bag(
        frames, rows, offsets, mode="sum", per_sample_weights=weights.to(rows.dtype), include_last_offset=True
    )


def pack(values: Tensor, frame: Tensor, latent: Tensor, n: int, empty: float) -> tuple[Tensor, Tensor]:
    """Entries, given by frame and then latent, as ``[n, s]``: falling value, of equals the lower latent first; s >= 1."""
    order = values.sort(descending=True, stable=True).indices
    order = order[frame[order].sort(stable=True).indices]
    values, frame, latent = values[order], frame[order], latent[order]
    counts = torch.bincount(frame, minlength=n)
    slots = max(1, int(counts.max()) if n else 1)
    place = torch.arange(len(frame), device=frame.device) - (counts.cumsum(0) - counts)[frame]
    packed = values.new_full((n, slots), empty)
    indices = torch.zeros(n, slots, dtype=torch.int64, device=frame.device)
    packed[frame, place], indices[frame, place] = values, latent
    return packed, indices


def _largest(h: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`torch.topk`, in two stages where that is less work: group j holds the columns j, j + G, j + 2 G, ..."""
    width = h.shape[1]
    size = next((size for size in (16, 8, 4) if width % size == 0 and size * size * k <= 2 * width), 1)
    if size == 1:
        return h.topk(k)
    groups = width // size
    best = h.view(-1, size, groups).amax(1).topk(k, sorted=False).indices
    columns = (best.unsqueeze(1) + torch.arange(0, width, groups, device=h.device).view(1, size, 1)).flatten(1)
    values, places = h.gather(1, columns).topk(k)
    return values, columns.gather(1, places)


def _reaching(parts: list[tuple[Tensor, Tensor, Tensor]], budget: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of entries in several parts, those that are not below the `budget`-th largest."""
    values, frame, latent = (torch.cat(part) for part in zip(*parts, strict=True))
    if len(values) <= budget:
        return values, frame, latent
    kept = values >= values.topk(budget, sorted=False).values.min()
    return values[kept], frame[kept], latent[kept]


def _chunks(x: Tensor, W_enc: Tensor, b_enc: Tensor, rectify: bool) -> Iterator[tuple[slice, Tensor]]:
    """Pre-activations (with `rectify`, after ReLU) of one chunk of frames after the other, and which frames those are."""
    wide = accumulator(x.dtype)
    W_enc, b_enc = W_enc.to(x.dtype).to(wide), b_enc.to(x.dtype).to(wide)
    linear = _linear(x.device, wide, rectify)
    for start in range(0, x.shape[0], CHUNK):
        rows = slice(start, min(start + CHUNK, x.shape[0]))
        yield rows, linear(x[rows].to(wide), W_enc, b_enc)


def _linear(device: torch.device, dtype: torch.dtype, rectify: bool) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """``x W^T + b``, by oneDNN where it is there: twice the speed of `mm` on AMD."""
    if device.type == "cpu" and dtype == torch.float32 and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        linear = torch.ops.mkldnn._linear_pointwise
        # its own ReLU turns NaN into 0, which would hide a broken frame
        return lambda x, W, b: linear(x, W, b, "none", [], "").relu_() if rectify else linear(x, W, b, "none", [], "")
    return lambda x, W, b: functional.linear(x, W, b).relu_() if rectify else functional.linear(x, W, b)
