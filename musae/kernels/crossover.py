"""Where sparse sums over rows start losing to matrix products with the dense code: measured, per device and path.

A code of share k / F is decoded, and both its gradients taken, sparsely and densely; the largest share at which sparse is the
faster is found by doubling from 1/512. It is measured once and cached: near it, another measurement may choose otherwise, and
then sums round otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from musae.kernels import dense

if TYPE_CHECKING:
    from musae.kernels.dispatch import Path

SIZES = {"cpu": (128, 256, 2048), "cuda": (4096, 1024, 32768)}
"""Frames, d and F that it is measured at: rows of some hundred floats, more atoms than a core's cache holds."""
SHARES = tuple(2.0**-power for power in range(9, 0, -1))
REPEATS = 5


def measure(path: Path, device: torch.device) -> dict[str, Any]:
    """``share``, the largest k / F at which the path's sums beat dense ones (1/1024 if none), and ``ms``, what was timed."""
    n, d, width = SIZES["cuda" if device.type == "cuda" else "cpu"]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(width, d, generator=generator).to(device)
    x = torch.randn(n, d, generator=generator).to(device)
    found, timings = 1 / 1024, []
    for share in SHARES:
        k = int(share * width)
        indices = torch.rand(n, width, generator=generator).topk(k, dim=1).indices.to(device)
        weights = torch.rand(n, k, generator=generator).to(device)

        def sums(module: Any, indices: torch.Tensor = indices, weights: torch.Tensor = weights) -> None:
            module.gather_sum(weights, indices, rows)
            module.dots_and_sum(x, indices, rows)
            module.outer(path.transpose(indices, weights, width), weights, x)

        sparse, matrix = _seconds(lambda: sums(path), device), _seconds(lambda: sums(dense), device)
        timings.append({"share": share, "sparse_ms": round(1e3 * sparse, 3), "dense_ms": round(1e3 * matrix, 3)})
        if sparse > matrix:
            break
        found = share
    return {"share": found, "frames": n, "d": d, "width": width, "ms": timings}


def _seconds(run: Callable[[], None], device: torch.device) -> float:
    """The least time of a few runs; processor time on a CPU, where neighbours would be measured too."""
    run()
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    best = float("inf")
    for _ in range(REPEATS):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, clock() - start)
    return best
