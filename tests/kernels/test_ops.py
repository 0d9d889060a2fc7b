"""One suite for every op: values and gradients against the float64 reference, repeatability, no use of unset memory."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from musae.kernels.op import Op, Shape, ops

OPS = ops()
SHAPES = {
    "ones": Shape(n=1, d=1, width=1, k=1),
    "odd": Shape(n=7, d=5, width=13, k=3),
    "chunks": Shape(n=300, d=24, width=96, k=8),
    "two stages": Shape(n=19, d=12, width=256, k=5),
    "k is width": Shape(n=9, d=17, width=24, k=24),
    "k is 1": Shape(n=65, d=8, width=160, k=1),
    "empty batch": Shape(n=0, d=8, width=16, k=4),
}
CPU = torch.device("cpu")


@pytest.fixture(params=OPS)
def op(request: pytest.FixtureRequest) -> Op:
    return OPS[request.param]


@pytest.fixture
def seed() -> int:
    return secrets.randbelow(2**31)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Uninitialised memory is NaN for the length of a test."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def tensors(outputs: Any) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def leaves(arguments: tuple[Any, ...], dtype: torch.dtype) -> list[Any]:
    """Copies of the arguments, floats in `dtype` and requiring gradients."""
    return [a.to(dtype).clone().requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments]


def assert_close(name: str, got: Tensor, expected: Tensor, tolerance: float) -> None:
    if not expected.is_floating_point():
        assert torch.equal(got, expected), name
        return
    assert got.shape == expected.shape, name
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    assert torch.allclose(got.double(), expected, rtol=0, atol=tolerance * scale, equal_nan=False), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_values_match_reference(op: Op, shape: Shape, dtype: torch.dtype, seed: int, poisoned: None) -> None:
    arguments = op.inputs(shape, dtype, CPU, seed)
    exact = [a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments]
    expected = tensors(op.reference(*exact))
    for i, (got, want) in enumerate(zip(tensors(op.fn(*arguments)), expected, strict=True)):
        assert_close(f"{op.name} output {i}, seed {seed}", got, want, op.tolerance[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gradients_match_reference(op: Op, shape: Shape, dtype: torch.dtype, seed: int, poisoned: None) -> None:
    if not op.differentiable:
        return
    arguments = op.inputs(shape, dtype, CPU, seed)
    fast, exact = leaves(arguments, dtype), leaves(arguments, torch.float64)
    got, want = tensors(op.fn(*fast)), tensors(op.reference(*exact))
    upstream = [torch.randn(w.shape, dtype=torch.float64) for w in want]
    for outputs, up in ((got, [u.to(dtype) for u in upstream]), (want, upstream)):
        pairs = [(o, u) for o, u in zip(outputs, up, strict=True) if o.requires_grad]
        assert pairs
        torch.autograd.backward([o for o, _ in pairs], [u for _, u in pairs])
    for i, (a, b) in enumerate(zip(fast, exact, strict=True)):
        if isinstance(a, Tensor) and a.requires_grad:
            assert a.grad is not None, f"{op.name} argument {i} has no gradient"
            assert b.grad is not None
            assert_close(f"{op.name} gradient {i}, seed {seed}", a.grad, b.grad, op.tolerance[dtype])


def test_repeats_bitwise(op: Op, seed: int) -> None:
    runs = []
    for _ in range(2):
        arguments = op.inputs(SHAPES["chunks"], torch.float32, CPU, seed)
        if op.differentiable:
            arguments = tuple(leaves(arguments, torch.float32))
        outputs = tensors(op.fn(*arguments))
        if op.differentiable:
            (outputs[0] * torch.linspace(-1, 1, outputs[0].numel()).view_as(outputs[0])).sum().backward()
        runs.append([*outputs, *(a.grad for a in arguments if isinstance(a, Tensor) and a.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_sample_inputs_depend_on_the_seed_alone(op: Op) -> None:
    one, same, other = (op.inputs(SHAPES["chunks"], torch.float32, CPU, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_least_traffic_grows_with_every_size(op: Op) -> None:
    base = op.min_bytes(Shape(n=64, d=32, width=128, k=4))
    assert base > 0
    assert op.min_bytes(Shape(n=128, d=64, width=256, k=4)) > base
