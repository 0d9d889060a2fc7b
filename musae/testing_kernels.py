"""The conformance suite of ops: what every `musae.kernels.op.Op` has to hold on every path, device and dtype.

`check_op` runs it all; pytest users call the single checks with shapes of their own. Everything is compared with the op's float64
reference: values, every gradient under random upstream gradients, with uninitialised memory filled with NaN. A check raises
AssertionError and says which op, output and seed it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from musae.kernels.op import HALF, Op, Shape

SHAPES = {
    "ones": Shape(n=1, d=1, width=1, k=1),
    "odd": Shape(n=7, d=5, width=13, k=3),
    "chunks": Shape(n=300, d=24, width=96, k=8),
    "two stages": Shape(n=19, d=12, width=256, k=5),
    "many slots": Shape(n=21, d=40, width=300, k=70),
    "k is width": Shape(n=9, d=17, width=24, k=24),
    "k is 1": Shape(n=65, d=8, width=160, k=1),
    "one frame": Shape(n=1, d=100, width=520, k=33),
    "empty batch": Shape(n=0, d=8, width=16, k=4),
}
"""Shapes that are rarely a kernel's own: no powers of two, fewer frames than a tile, single elements, nothing at all."""

CPU = torch.device("cpu")


def check_op(op: Op, device: torch.device = CPU, dtypes: Sequence[torch.dtype] | None = None, seed: int = 0) -> None:
    """Run the whole suite on `op`. `dtypes`: those that it says a tolerance for, where None. Raises AssertionError."""
    for dtype in dtypes or tuple(op.tolerance):
        for shape in SHAPES.values():
            check_values(op, shape, dtype, device, seed)
            check_gradients(op, shape, dtype, device, seed)
    check_repeats(op, device, seed)
    check_rows(op, device, seed)
    check_layouts(op, device, seed)
    check_inputs(op)
    check_least_traffic(op)


def check_values(op: Op, shape: Shape, dtype: torch.dtype, device: torch.device = CPU, seed: int = 0) -> None:
    """Every output is the reference's: integers equal, floats within the tolerance of float32, which they are (or of float64)."""
    arguments = op.inputs(shape, dtype, device, seed)
    expected = _tensors(op.reference(*_exact(arguments)))
    with poisoned():
        got = _tensors(op.fn(*arguments))
    tolerance = op.tolerance[torch.float32 if dtype in HALF else dtype]
    for i, (mine, want) in enumerate(zip(got, expected, strict=True)):
        _assert_close(f"{op.name}, output {i} ({shape}, {dtype}, seed {seed})", mine, want, tolerance)


def check_gradients(op: Op, shape: Shape, dtype: torch.dtype, device: torch.device = CPU, seed: int = 0) -> None:
    """Every gradient is the reference's, under random upstream gradients of every output."""
    if not op.differentiable:
        return
    arguments = op.inputs(shape, dtype, device, seed)
    fast, exact = _leaves(arguments), _leaves(_exact(arguments))
    with poisoned():
        got, want = _tensors(op.fn(*fast)), _tensors(op.reference(*exact))
        generator = torch.Generator().manual_seed(seed)
        upstream = [torch.randn(w.shape, dtype=torch.float64, generator=generator).to(device) for w in want]
        for outputs in (got, want):
            pairs = [(o, u.to(o.dtype)) for o, u in zip(outputs, upstream, strict=True) if o.requires_grad]
            assert pairs or not shape.n, f"{op.name}: no output requires a gradient"
            if pairs:
                torch.autograd.backward([o for o, _ in pairs], [u for _, u in pairs])
    for i, (a, b) in enumerate(zip(fast, exact, strict=True)):
        if isinstance(a, Tensor) and a.requires_grad and b.grad is not None:
            where = f"{op.name}, gradient of argument {i} ({shape}, {dtype}, seed {seed})"
            assert a.grad is not None, f"{where}: there is none"
            assert a.grad.dtype == a.dtype, f"{where}: its dtype is {a.grad.dtype}"
            _assert_close(where, a.grad, b.grad, op.tolerance[dtype])


def check_repeats(op: Op, device: torch.device = CPU, seed: int = 0) -> None:
    """Two runs give the same bits, gradients included."""
    runs = []
    for _ in range(2):
        arguments = op.inputs(SHAPES["chunks"], torch.float32, device, seed)
        if op.differentiable:
            arguments = tuple(_leaves(arguments))
        outputs = _tensors(op.fn(*arguments))
        if op.differentiable:
            weights = torch.linspace(-1, 1, outputs[0].numel(), device=device).view_as(outputs[0])
            torch.autograd.backward((outputs[0] * weights).sum())
        runs.append([*outputs, *(a.grad for a in arguments if isinstance(a, Tensor) and a.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True)), f"{op.name}: two runs differ (seed {seed})"


def check_rows(op: Op, device: torch.device = CPU, seed: int = 0) -> None:
    """For an op that says so (`Op.rowwise`), a frame alone gives what it gives in a batch."""
    if not op.rowwise:
        return
    shape = SHAPES["chunks"]
    arguments = op.inputs(shape, torch.float32, device, seed)
    whole = _tensors(op.fn(*arguments))
    rows = slice(270, 275)
    some = tuple(a[rows] if isinstance(a, Tensor) and a.shape[:1] == (shape.n,) else a for a in arguments)
    for i, (part, full) in enumerate(zip(_tensors(op.fn(*some)), whole, strict=True)):
        expected = full[rows][:, : part.shape[1]] if part.dim() > 1 else full[rows]
        assert torch.equal(part, expected), f"{op.name}, output {i}: a frame depends on its neighbours (seed {seed})"


def check_layouts(op: Op, device: torch.device = CPU, seed: int = 0) -> None:
    """Strided and misaligned arguments give what contiguous, aligned ones give, bit for bit."""
    if not op.differentiable:  # updated in place: the op says what it needs
        return
    arguments = op.inputs(SHAPES["odd"], torch.float32, device, seed)
    expected = _tensors(op.fn(*arguments))
    for change in (_strided, _misaligned):
        changed = tuple(change(a) if isinstance(a, Tensor) and a.dim() else a for a in arguments)
        for i, (got, want) in enumerate(zip(_tensors(op.fn(*changed)), expected, strict=True)):
            how = change.__name__.removeprefix("_")
            assert torch.equal(got, want), f"{op.name}, output {i}: {how} arguments are read wrongly (seed {seed})"


def check_inputs(op: Op) -> None:
    """Sample inputs depend on the seed, and on nothing else."""
    one, same, other = (op.inputs(SHAPES["chunks"], torch.float32, CPU, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, same), f"{op.name}: two sample inputs of one seed differ"
    assert not torch.equal(one, other), f"{op.name}: sample inputs do not depend on the seed"


def check_least_traffic(op: Op) -> None:
    """The least number of bytes grows with every size and with the size of an element."""
    base = op.min_bytes(Shape(n=64, d=32, width=128, k=4), 4)
    assert 0 < base < op.min_bytes(Shape(n=128, d=64, width=256, k=4), 4), f"{op.name}: min_bytes does not grow with the problem"
    assert op.min_bytes(Shape(n=64, d=32, width=128, k=4), 2) < base, f"{op.name}: min_bytes ignores the size of an element"


@contextmanager
def poisoned() -> Iterator[None]:
    """Fill uninitialised memory with NaN (PyTorch does under deterministic algorithms) for the length of the block."""
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)


def _tensors(outputs: Any) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _exact(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Float arguments in float64."""
    return tuple(a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments)


def _leaves(arguments: tuple[Any, ...]) -> list[Any]:
    """Copies of float arguments that require gradients."""
    return [a.detach().clone().requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments]


def _strided(tensor: Tensor) -> Tensor:
    """The same numbers, every second element of a larger tensor along the last axis."""
    return torch.stack([tensor, torch.zeros_like(tensor)], dim=-1)[..., 0]


def _misaligned(tensor: Tensor) -> Tensor:
    """The same numbers, contiguous, starting one element after an allocation."""
    return torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view(tensor.shape)


def _assert_close(where: str, got: Tensor, expected: Tensor, tolerance: float) -> None:
    assert got.shape == expected.shape, f"{where}: its shape is {list(got.shape)}, not {list(expected.shape)}"
    if not expected.is_floating_point():
        assert torch.equal(got, expected), f"{where}: integers differ"
        return
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    error = float((got.double() - expected).abs().nan_to_num(torch.inf).max()) if expected.numel() else 0.0
    assert error <= tolerance * scale, f"{where}: off by {error:.3g} at a scale of {scale:.3g}; {tolerance:.3g} is allowed"
