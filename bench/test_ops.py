"""Every op on every path that runs here beside its reference: forward alone, and forward with backward.

The sample inputs are nudged off their grid of dyadic fractions: equals, which they are full of, are rare in real data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from musae.bench import workloads
from musae.errors import UserError
from musae.kernels import dispatch
from musae.kernels.op import Op, Shape, ops

OPS = ops()
SHAPES = {
    "n=256 d=256 F=2048 k=32": Shape(n=256, d=256, width=2048, k=32),
    "n=256 d=512 F=8192 k=64": Shape(n=256, d=512, width=8192, k=64),
}
WAYS = ("reference", "portable", "extension", "triton")
SEED = 0


def chosen(op: Op, way: str, device: torch.device) -> Callable[..., Any]:
    """The function to time; skips a path that does not run here."""
    if way == "reference":
        return op.reference
    if way == "triton" and device.type == "cpu":
        pytest.skip("Triton's interpreter is for correctness; its times mean nothing")
    try:
        with dispatch.forced(way):
            pass
    except UserError as error:
        pytest.skip(str(error))

    def run(*arguments: Any) -> Any:
        with dispatch.forced(way):
            return op.fn(*arguments)

    return run


def arguments(op: Op, shape: Shape, device: torch.device) -> tuple[Any, ...]:
    """Sample inputs off the grid."""
    generator = torch.Generator().manual_seed(SEED)
    sample = op.inputs(shape, torch.float32, device, SEED)
    return tuple(
        a + 1e-3 * torch.rand(a.shape, generator=generator).to(a.device) if isinstance(a, Tensor) and a.is_floating_point() else a
        for a in sample
    )


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
@pytest.mark.benchmark(min_rounds=5, max_time=0.3, warmup=True, warmup_iterations=1)
def test_forward(benchmark: BenchmarkFixture, op: Op, shape: Shape, way: str, device: torch.device) -> None:
    run = chosen(op, way, device)
    given = arguments(op, shape, device)
    benchmark.group = f"{op.name} forward, {_named(shape)}"
    with torch.no_grad():
        benchmark(workloads.finished, run, *given)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("op", [op for op in OPS.values() if op.differentiable], ids=lambda op: op.name)
@pytest.mark.benchmark(min_rounds=5, max_time=0.3, warmup=True, warmup_iterations=1)
def test_forward_backward(benchmark: BenchmarkFixture, op: Op, shape: Shape, way: str, device: torch.device) -> None:
    run = chosen(op, way, device)
    given = [a.requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments(op, shape, device)]
    leaves = [a for a in given if isinstance(a, Tensor) and a.requires_grad]

    def step() -> tuple[Tensor | None, ...]:
        made = run(*given)
        outputs = [o for o in (made if isinstance(made, tuple) else (made,)) if o.requires_grad]
        return torch.autograd.grad(outputs, leaves, [torch.ones_like(o) for o in outputs], allow_unused=True)

    benchmark.group = f"{op.name} forward and backward, {_named(shape)}"
    benchmark(workloads.finished, step)


def _named(shape: Shape) -> str:
    return next(name for name, known in SHAPES.items() if known == shape)
