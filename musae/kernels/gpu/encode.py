"""The encoders in Triton: a screen that writes only what can be active, then a small exact selection among that.

Shapes and order as in `musae.kernels.portable`. x may be float32, bfloat16 or float16; W_enc is taken in x's dtype, products are
summed in float32, and values are float32. Every result is exact for the pre-activations that the screen computes: where its guess
at a threshold or its slots turn out not to have been enough, the frames concerned are done again with enough. In the usual case
`topk` waits for the device once, `jumprelu` twice and `batch_topk` a few times.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from musae.kernels.gpu.cut import keep
from musae.kernels.gpu.merge import order
from musae.kernels.gpu.screen import BLOCK_M, BLOCK_N, BUDGET, MOST_SPLITS, SPLITS, Entries, aligned, entries, split_count, whole

SAMPLE_FRAMES = 256
"""Frames, at most, of the sample from which BatchTopK's threshold and JumpReLU's number of slots are guessed."""
SAMPLE_LATENTS = 512
"""Latents of that sample: its rows are copied, widened and multiplied by PyTorch, so it is small beside the screen. Of 256 x 512
entries about 130 lie above the cut if k/F is 1/1000: a guess within some ten per cent."""


def topk(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k largest entries of each frame of ``ReLU(x W_enc^T + b_enc)``: values and indices ``[n, k]``, empty slots 0, 0.

    `among`: ascending indices of the latents that take part, whose weights are read where they lie.
    """
    x, W_enc = aligned(x, W_enc)
    if among is not None:
        among = among.contiguous()
        b_enc = b_enc[among]
    parts = []
    for rows in _chunks(x.shape[0], 12 * max(k, BLOCK_N) * SPLITS):
        values, indices, flags = order(entries(x[rows], W_enc, b_enc, k=k, among=among), k, 0.0)
        for again in _pieces(flags.nonzero().flatten(), 12 * b_enc.shape[0]):
            everything = _whole(x[rows][again], W_enc, b_enc, x.new_zeros(1, dtype=torch.float32), among)
            values[again], indices[again], _ = order(everything, k, 0.0)
        parts.append((values, indices))
    if len(parts) == 1:
        return parts[0]
    values, indices = _codes(x, k, 0.0)
    if parts:
        torch.cat([part[0] for part in parts], out=values)
        torch.cat([part[1] for part in parts], out=indices)
    return values, indices


def jumprelu(x: Tensor, W_enc: Tensor, b_enc: Tensor, threshold: Tensor, half_band: float) -> tuple[Tensor, Tensor]:
    """All entries above ``threshold [F] - half_band``: values before it and indices ``[n, s]``, falling; empty slots -inf, 0."""
    x, W_enc = aligned(x, W_enc)
    if x.shape[0] == 0:
        return _codes(x, 1, -math.inf)
    edges = threshold.float() - half_band
    sample, latents = _sample(x, W_enc, b_enc)
    cap = _slots(sample > edges[latents], x, W_enc)
    parts = []
    for rows in _chunks(x.shape[0], 6 * MOST_SPLITS * cap):
        found = entries(x[rows], W_enc, b_enc, edges=edges, cap=cap)
        most, longest = torch.stack([found.counts.amax(), found.counts.sum(0).amax()]).tolist()
        if most > cap:
            found = entries(x[rows], W_enc, b_enc, edges=edges, cap=1 << (most - 1).bit_length())
        parts.append(order(found, max(1, longest), -math.inf)[:2])
    pre, indices = _codes(x, max(part[0].shape[1] for part in parts), -math.inf)
    start = 0
    for some_pre, some_indices in parts:
        frames, slots = some_pre.shape
        pre[start : start + frames, :slots], indices[start : start + frames, :slots] = some_pre, some_indices
        start += frames
    return pre, indices


def batch_topk(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The n k largest positive entries of the batch, of equal ones the first: ``[n, s]``, each frame as in `topk`."""
    x, W_enc = aligned(x, W_enc)
    n, width = x.shape[0], W_enc.shape[0]
    if n == 0:
        return _codes(x, 1, 0.0)
    sample, _ = _sample(x, W_enc, b_enc)
    mean = sample.numel() * k / width
    rank = min(sample.numel(), math.ceil(1.15 * mean + 5 * math.sqrt(mean) + 4))
    guess = sample.flatten().topk(rank).values[-1:].nan_to_num(0.0).clamp_min(0.0)
    for lower in (1.0, 0.5, 0.0):
        guess = guess * lower
        parts = _above(x, W_enc, b_enc, guess, _slots(sample > guess, x, W_enc))
        present = torch.zeros(n, dtype=torch.int32, device=x.device)
        for frames, found in parts:
            present[frames] = found.counts.sum(0, dtype=torch.int32)
        if int(present.sum()) >= n * k:
            present = keep(parts, n, n * k)
            break
    values, indices = _codes(x, max(1, int(present.amax())), 0.0)
    for frames, found in parts:
        values[frames], indices[frames], _ = order(found, values.shape[1], 0.0, present[frames])
    return values, indices


def _above(x: Tensor, W_enc: Tensor, b_enc: Tensor, shared: Tensor, cap: int) -> list[tuple[Tensor, Entries]]:
    """All entries above ``shared [1]``, in parts: frames and their entries. One of two parts has all its entries in the last."""
    parts = []
    everyone = torch.arange(x.shape[0], device=x.device)
    for rows in _chunks(x.shape[0], 6 * MOST_SPLITS * cap):
        found = entries(x[rows], W_enc, b_enc, shared=shared, cap=cap)
        parts.append((everyone[rows], found))
        overfull = found.counts.amax(0) > cap
        for again in _pieces(everyone[rows][overfull], 12 * W_enc.shape[0]):
            found.counts.masked_fill_(overfull, 0)
            parts.append((again, _whole(x[again], W_enc, b_enc, shared)))
    return parts


def _whole(x: Tensor, W_enc: Tensor, b_enc: Tensor, shared: Tensor, among: Tensor | None = None) -> Entries:
    """`entries` with slots for all of them."""
    tiles = -(-b_enc.shape[0] // BLOCK_N)
    return entries(x, W_enc, b_enc, shared=shared, among=among, cap=whole(tiles, split_count(x.shape[0], tiles, x.device)))


def _sample(x: Tensor, W_enc: Tensor, b_enc: Tensor) -> tuple[Tensor, Tensor]:
    """Pre-activations of evenly spaced frames and latents, and which latents they are."""
    frames = torch.arange(0, x.shape[0], -(-x.shape[0] // SAMPLE_FRAMES), device=x.device)
    latents = torch.arange(0, W_enc.shape[0], -(-W_enc.shape[0] // SAMPLE_LATENTS), device=x.device)
    return x[frames].float() @ W_enc[latents].float().T + b_enc[latents].float(), latents


def _slots(above: Tensor, x: Tensor, W_enc: Tensor) -> int:
    """Slots a frame and split that probably do if these entries of the sample are above the threshold; waits for the device."""
    tiles = -(-W_enc.shape[0] // BLOCK_N)
    splits = split_count(x.shape[0], tiles, x.device)
    mean = float(above.float().mean(1).amax()) * W_enc.shape[0] / splits
    return min(whole(tiles, splits), max(BLOCK_N, 1 << (math.ceil(mean + 6 * math.sqrt(mean)) - 1).bit_length()))


def _chunks(n: int, size: int) -> list[slice]:
    """Slices of n frames whose slots, `size` bytes a frame, fit `BUDGET`."""
    most = _most_frames(size)
    return [slice(start, min(start + most, n)) for start in range(0, n, most)]


def _pieces(frames: Tensor, size: int) -> tuple[Tensor, ...]:
    return torch.split(frames, _most_frames(size)) if frames.numel() else ()


def _most_frames(size: int) -> int:
    return max(BLOCK_M, BUDGET // size // BLOCK_M * BLOCK_M)


def _codes(x: Tensor, slots: int, empty: float) -> tuple[Tensor, Tensor]:
    shape = (x.shape[0], slots)
    return torch.full(shape, empty, dtype=torch.float32, device=x.device), torch.zeros(shape, dtype=torch.int64, device=x.device)
