"""The physical limit of a training step and of an encoding pass on this machine, from rates that are measured in the same run.

A step must at least multiply every frame with every row of ``W_enc`` (a dense encoder; ``2 n d F`` floating-point operations, at
the best matrix-product rate seen) and read and write parameters and both of Adam's moments once (at the best rate seen of a pass
that does just that). Encoding must do the product alone. The screen of a fast path may run in bfloat16, so there is a limit for
either precision.

The rates come from a worker that takes its turn in every round; the best of all rounds counts, since noise only ever slows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from musae.bench.peers.worker import serve
from musae.kernels.op import Shape

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
BLOCK = 256
"""Frames in a timed product: more are no faster, and its results stay in a core's cache."""
COLUMNS = (1024, 4096)
"""Rows of ``W_enc`` in a timed product."""
REPEATS = 5


def flops(shape: Shape) -> int:
    """Floating-point operations of the dense encoder."""
    return 2 * shape.n * shape.d * shape.width


def state_bytes(shape: Shape) -> int:
    """Bytes moved by reading and writing float32 parameters (both weights, both biases) and Adam's two moments of each once."""
    return 2 * 4 * 3 * (2 * shape.width * shape.d + shape.width + shape.d)


def encoding_seconds(shape: Shape, flops_per_s: float) -> float:
    """Least time of encoding one batch."""
    return flops(shape) / flops_per_s


def training_seconds(shape: Shape, flops_per_s: float, bytes_per_s: float) -> float:
    """Least time of one training step."""
    return encoding_seconds(shape, flops_per_s) + state_bytes(shape) / bytes_per_s


def product_rate(x: Tensor, W: Tensor) -> float:
    """Best rate of ``x W^T`` in floating-point operations a second, over the ways that PyTorch offers."""
    return max(
        2 * rows.shape[0] * rows.shape[1] * part.shape[0] / _seconds(lambda: multiply(rows, part), x.device)  # noqa: B023
        for rows, part, multiply in _ways(x, W)
    )


def pass_rate(state: list[Tensor]) -> float:
    """Best rate of reading and writing every tensor once, in bytes a second."""

    def update() -> None:
        for tensor in state:
            tensor.mul_(0.999)

    return 2 * sum(t.numel() * t.element_size() for t in state) / _seconds(update, state[0].device)


class Limits:
    """Answers the requests of a comparison: `measure` what the machine can do at a size; see `musae.bench.peers.worker`."""

    def setup(self, size: dict[str, Any], threads: int, device: str) -> dict[str, Any]:
        """Allocate frames, a weight matrix, and tensors of the sizes of parameters and moments."""
        torch.set_num_threads(threads)
        n, d, width = size["n"], size["d"], size["width"]
        self.x, self.W = torch.randn(n, d, device=device), torch.randn(width, d, device=device)
        self.state = [torch.ones(count, device=device) for count in (width * d, width * d, width, d) for _ in range(3)]
        return {}

    def measure(self) -> dict[str, float]:
        """Rates of the products by precision (FLOP/s), and of the pass over the state (B/s)."""
        rates = {name: product_rate(self.x.to(dtype), self.W.to(dtype)) for name, dtype in PRECISIONS.items()}
        return rates | {"pass": pass_rate(self.state)}


def _ways(x: Tensor, W: Tensor) -> Iterator[tuple[Tensor, Tensor, Callable[[Tensor, Tensor], object]]]:
    """Frames, rows of W, and a way to multiply them."""
    if x.device.type != "cpu":
        yield x, W, functional.linear
        return
    for columns in COLUMNS:
        yield x[:BLOCK], W[:columns], functional.linear
        if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            yield x[:BLOCK], W[:columns], _onednn


def _onednn(rows: Tensor, part: Tensor) -> object:
    return torch.ops.mkldnn._linear_pointwise(rows, part, None, "none", [], "")


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Least wall-clock time of `REPEATS` calls, after one that is not counted."""
    best = float("inf")
    for attempt in range(REPEATS + 1):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if attempt:
            best = min(best, time.perf_counter() - begun)
    return best


if __name__ == "__main__":
    serve(Limits)
