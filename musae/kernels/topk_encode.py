"""``topk_encode``: the k largest latents of ``ReLU(x W_enc^T + b_enc)``, without ever storing the dense code.

``x [n, d]``, ``W_enc [F, d]``, ``b_enc [F]`` -> ``values [n, k]``, ``indices [n, k]`` (int64), by falling value; of equal values
the lower index comes first (Gao et al. 2024, arXiv 2406.04093). An entry that ReLU makes 0 is no latent: a frame with fewer than
k positive entries ends in empty slots, value 0 and index 0, which carry no gradient.

On every path the set is the reference's, bit for bit, where pre-activations are exact; for real-valued inputs it may differ only
between entries that lie closer than the rounding of a sum of d products, ``2 (d + 1) eps (|x| |W_enc|^T + |b_enc|)`` in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from musae.errors import UserError
from musae.kernels.dispatch import Path
from musae.kernels.encoding import encode
from musae.kernels.op import TOLERANCE, Op, Shape, check_k, check_shapes, check_tensors, dyadic


def topk_encode(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Values and indices ``[n, k]``; differentiable in x, W_enc and b_enc.

    `among`: ascending indices (int64) of the latents that may be selected, dead ones, say; all where None. Raises UserError for
    bad k, shapes, dtypes or devices.
    """
    check_encoder("topk_encode", x, W_enc, b_enc)
    if among is not None:
        check_latents("topk_encode", "among", among, W_enc)
    check_k("topk_encode", k, len(W_enc) if among is None else len(among))

    def find(path: Path, x: Tensor, W_enc: Tensor, b_enc: Tensor) -> tuple[Tensor, Tensor]:
        return path.topk(x, W_enc, b_enc, k, among)

    return encode(x, W_enc, b_enc, find)


def reference(x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The definition."""
    values, indices = torch.relu(x @ W_enc.T + b_enc).sort(dim=1, descending=True, stable=True)
    values, indices = values[:, :k], indices[:, :k]
    return values, indices.masked_fill(values == 0, 0)


def check_encoder(op: str, x: Tensor, W_enc: Tensor, b_enc: Tensor, **more: Tensor) -> None:
    """Raise UserError unless frames, weights, biases and other tensors ``[F]`` fit together."""
    check_tensors(op, x=x, W_enc=W_enc, b_enc=b_enc, **more)
    d, width = x.shape[-1] if x.dim() else 0, W_enc.shape[0] if W_enc.dim() else 0
    others = {name: (tensor, (width,)) for name, tensor in more.items()}
    check_shapes(op, x=(x, (None, d)), W_enc=(W_enc, (None, d)), b_enc=(b_enc, (width,)), **others)


def check_latents(op: str, name: str, latents: Tensor, W_enc: Tensor) -> None:
    """Raise UserError unless `latents` are ascending indices of rows of ``W_enc`` (on a GPU, an assertion is tripped)."""
    if latents.dtype != torch.int64 or latents.device != W_enc.device or latents.dim() != 1:
        found = f"{list(latents.shape)} {latents.dtype} on {latents.device}"
        raise UserError(f"{op}: `{name}` is {found}; give a list of int64 indices on {W_enc.device}.")
    if latents.numel() == 0:
        return
    good = (latents.diff() > 0).all() & (latents[0] >= 0) & (latents[-1] < len(W_enc))
    if latents.is_cuda:
        torch._assert_async(good)
    elif not bool(good):
        raise UserError(f"{op}: `{name}` must ascend strictly, from 0 to {len(W_enc) - 1} at most; sort it, without repetitions.")


def encoder_inputs(shape: Shape, dtype: torch.dtype, device: torch.device, seed: int) -> tuple[Any, ...]:
    """Frames, weights, biases and k."""
    generator = torch.Generator().manual_seed(seed)
    sizes = ((shape.n, shape.d), (shape.width, shape.d), (shape.width,))
    return (*(dyadic(size, dtype, device, generator) for size in sizes), shape.k)


def encoder_bytes(shape: Shape, itemsize: int) -> int:
    """Frames, weights and biases are read once, values (float32) and indices (int64) written once."""
    return itemsize * (shape.n * shape.d + shape.width * shape.d + shape.width) + 12 * shape.n * shape.k


OP = Op(
    name="topk_encode",
    fn=topk_encode,
    reference=reference,
    inputs=encoder_inputs,
    tolerance=TOLERANCE,
    min_bytes=encoder_bytes,
    rowwise=True,
)
