"""What the gate looks at: every op of `musae.kernels`, and Adam over a factored gradient; at which sizes; the least they move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from musae.kernels import adam, dispatch, factored
from musae.kernels.op import Op, Shape, accumulator, dyadic, ops
from musae.kernels.transposed import Transposed

D = 2048
"""Width of MusicGen-Large's residual stream."""
WIDTHS = (32_768, 65_536)
KS = (32, 100)
DTYPE = torch.bfloat16
"""Of frames, weights and the gradients that a step is given; master weights and moments are float32."""
FRAMES = 8192
"""Frames of a batch, at which bytes per token are stated."""
COUNTED = (64, 128)
"""Frames at which bytes are counted; the programs along frames are alike, so that bytes grow in proportion from there on."""


def subjects() -> dict[str, Op]:
    """What is compiled and counted, by name."""
    return {**ops(), ADAM_OUTER.name: ADAM_OUTER}


def _adam_outer(
    param: Tensor, slots: Tensor, frames: Tensor, offsets: Tensor, weights: Tensor, rows: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return adam.adam(param, factored.Outer(Transposed(slots, frames, offsets), weights, rows), *rest)


def _reference(
    param: Tensor, slots: Tensor, frames: Tensor, offsets: Tensor, weights: Tensor, rows: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    latents = torch.repeat_interleave(offsets.diff())
    grad = torch.zeros_like(param).index_add_(0, latents, weights.flatten()[slots][:, None] * rows[frames].to(param.dtype))
    return adam.reference(param, grad, *rest)


def _inputs(shape: Shape, dtype: torch.dtype, device: torch.device, seed: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(seed)
    indices = torch.stack([torch.randperm(shape.width, generator=generator)[: shape.k] for _ in range(shape.n)]).to(device)
    weights = dyadic((shape.n, shape.k), accumulator(dtype), device, generator) + 1 / 16  # none is 0
    t = dispatch.path_for(weights).transpose(indices, weights, shape.width)
    rows = dyadic((shape.n, shape.d), dtype, device, generator)
    param, _, exp_avg, exp_avg_sq, *rest = adam.OP.inputs(shape, dtype, device, seed)
    return param, t.slots, t.frames, t.offsets, weights, rows, exp_avg, exp_avg_sq, *rest


def _min_bytes(shape: Shape, itemsize: int) -> int:
    """Parameters and moments are read and written; frames, weights and the transposed code are read."""
    slots = shape.n * shape.k
    return 24 * shape.width * shape.d + itemsize * shape.n * shape.d + (4 + 8 + 8) * slots + 8 * (shape.width + 1)


ADAM_OUTER = Op(
    name="adam_outer",
    fn=_adam_outer,
    reference=_reference,
    inputs=_inputs,
    min_bytes=_min_bytes,
    tolerance=adam.OP.tolerance,
    differentiable=False,
)
"""`adam` over a gradient that is given by its factors and never reaches memory."""


def backward_bytes(inputs: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    """Bytes that a backward pass must at least read and write, for these arguments and results of the forward pass.

    It reads the upstream gradient of every float output, a code that the forward pass returned (its values tell where a gradient
    flows), every index, and every float input with an axis to sum over; of a matrix ``[F, d]`` no more rows than there are
    indices. It writes a gradient for every float input. Biases are not needed.
    """
    tensors = [tensor for tensor in inputs if isinstance(tensor, Tensor)]
    indices = [t for t in (*tensors, *outputs) if not t.is_floating_point()]
    floats = [t for t in tensors if t.is_floating_point()]
    width = max((t.shape[0] for t in floats if t.dim() == 2), default=0)
    named = sum(t.numel() for t in indices)
    total = sum(t.nbytes for t in indices)
    for tensor in floats:
        total += tensor.nbytes  # its gradient
        if tensor.dim() == 2:
            unread = max(0, width - named) if tensor.shape[0] == width and named else 0
            total += tensor.nbytes - unread * tensor.shape[1] * tensor.element_size()
    returned = [t for t in outputs if t.is_floating_point()]
    is_code = any(not t.is_floating_point() for t in outputs)
    return total + sum(t.nbytes for t in returned) * (2 if is_code else 1)
