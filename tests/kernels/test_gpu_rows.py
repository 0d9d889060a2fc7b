"""Sums over the rows of a code, their transposes and Adam, as Triton kernels: on a GPU, or in the interpreter."""

import os

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from musae.kernels import portable
from musae.kernels.adam import reference as adam_reference
from musae.kernels.transposed import Transposed
from musae.testing_kernels import poisoned

path = pytest.importorskip("musae.kernels.gpu.path")
ROW = pytest.importorskip("musae.kernels.gpu.adam").ROW
SPAN = pytest.importorskip("musae.kernels.gpu.rows").SPAN
SEGMENT = pytest.importorskip("musae.kernels.gpu.transpose").SEGMENT

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = pytest.mark.skipif(
    not (INTERPRETED or torch.cuda.is_available()), reason="Triton kernels need a GPU or TRITON_INTERPRET=1"
)
DEVICE = "cpu" if INTERPRETED else "cuda"
TOLERANCE = 2e-5
"""Of float32 sums, relative to the largest value; the rows are exact in any dtype."""
SHAPES = {
    "ones": (1, 1, 1, 1),
    "odd": (13, 3, 7, 5),
    "wide rows": (3, 4, 9, 2050),
    "many slots": (5, 1030, 40, 33),
    "one slot": (70, 1, 9, 16),
    "rows in parts": (4, 3, 5, SPAN + 5),
    "frames in blocks": (131, 9, 6, 12),
    "no frames": (0, 4, 8, 16),
    "no slots": (4, 0, 8, 16),
}
"""n, s, F, d."""
COUNTS = {
    "a hot latent starts at a cut": [SEGMENT, 2 * SEGMENT, 7],
    "hot latents share a block": [5, 2 * SEGMENT + 188, 0, SEGMENT + 44, SEGMENT + 1],
    "a hot latent ends at a cut": [3, 2 * SEGMENT - 3, 40],
    "exactly one segment is not hot": [0, SEGMENT, SEGMENT, 1, 0],
    "one latent has all": [4 * SEGMENT + 6],
    "hot, then silent": [SEGMENT + 1, 0, 0],
}
"""Slots of each latent."""


def code(n: int, s: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Weights and indices of a code with empty slots and repeated latents."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(n, s, generator=generator)
    weights[torch.rand(n, s, generator=generator) < 0.2] = 0
    indices = torch.randint(0, width, (n, s), generator=generator).masked_fill_(weights == 0, 0)
    return weights.to(DEVICE), indices.to(DEVICE)


def rows_of(n: int, d: int, dtype: torch.dtype, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def dense(weights: Tensor, indices: Tensor, width: int) -> Tensor:
    """The code as float64 ``[n, F]``."""
    return torch.zeros(len(weights), width, dtype=torch.float64, device=DEVICE).scatter_add_(1, indices, weights.double())


def assert_close(got: Tensor, expected: Tensor) -> None:
    assert got.dtype == torch.float32
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gathers_and_their_transposes_match_the_dense_code(
    shape: tuple[int, int, int, int], dtype: torch.dtype, seed: int
) -> None:
    n, s, width, d = shape
    weights, indices = code(n, s, width, seed)
    atoms, frames = rows_of(width, d, dtype, seed + 1), rows_of(n, d, dtype, seed + 2)
    matrix = dense(weights, indices, width)
    with poisoned():
        assert_close(path.gather_sum(weights, indices, atoms), matrix @ atoms.double())
        dots, sums = path.dots_and_sum(frames, indices, atoms)
        assert_close(dots, (frames.double() @ atoms.double().T).gather(1, indices))
        assert_close(sums, frames.double().sum(0))
        t = path.transpose(indices, weights, width)
        assert_close(path.outer(t, weights, frames), matrix.T @ frames.double())
        assert_close(path.total(t, weights), matrix.sum(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_results_are_rounded_once_to_the_dtype_asked_for(dtype: torch.dtype, seed: int) -> None:
    weights, indices = code(9, 4, 11, seed)
    atoms, frames = rows_of(11, 33, dtype, seed + 1), rows_of(9, 33, dtype, seed + 2)
    atoms[0, 0] = torch.nan
    t = path.transpose(indices, weights, 11)
    for run in (
        lambda *asked: path.gather_sum(weights, indices, atoms, frames[0], *asked),
        lambda *asked: path.outer(t, weights, frames, *asked),
        lambda *asked: path.dots_and_sum(frames, indices, atoms, *asked)[0],
    ):
        assert torch.equal(run(dtype).nan_to_num(7.0), run().to(dtype).nan_to_num(7.0))


def test_a_bias_is_added(seed: int) -> None:
    weights, indices = code(9, 4, 11, seed)
    atoms, bias = rows_of(11, 1030, torch.float32, seed + 1), rows_of(1, 1030, torch.bfloat16, seed + 2)[0]
    expected = dense(weights, indices, 11) @ atoms.double() + bias.double()
    assert_close(path.gather_sum(weights, indices, atoms, bias), expected)


def test_an_empty_slot_does_not_read_its_row() -> None:
    atoms = torch.full((3, 4), torch.nan, device=DEVICE)
    atoms[2] = 1.0
    weights, indices = torch.tensor([[2.0, 0.0]], device=DEVICE), torch.tensor([[2, 0]], device=DEVICE)
    assert path.gather_sum(weights, indices, atoms).tolist() == [[2.0] * 4]


def test_transposes_as_the_portable_path_does(seed: int) -> None:
    weights, indices = code(40, 9, 23, seed)
    mine, theirs = (p.transpose(indices, weights, 23) for p in (path, portable))
    assert torch.equal(mine.offsets, theirs.offsets)
    kept = int(mine.offsets[-1])
    assert kept == int((weights != 0).sum())
    assert torch.equal(mine.slots[:kept], theirs.slots[:kept])
    assert torch.equal(mine.frames[:kept], theirs.frames[:kept])


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_hot_latents(counts: list[int], seed: int) -> None:
    """Sums over pieces of hot latents, also by Adam; what follows the last entry of the transposed code is never used."""
    generator = torch.Generator().manual_seed(seed)
    width, n, d = len(counts), sum(counts), 24
    latents = torch.arange(width).repeat_interleave(torch.tensor(counts))[torch.randperm(n, generator=generator)]
    indices, weights = latents[:, None].to(DEVICE), torch.randn(n, 1, generator=generator).to(DEVICE)
    frames = rows_of(n, d, torch.float32, seed + 1)
    expected = dense(weights, indices, width).T @ frames.double()
    t = path.transpose(indices, weights, width)
    beyond = torch.full((SEGMENT + 9,), 2**62, device=DEVICE)
    t = Transposed(torch.cat([t.slots, beyond]), torch.cat([t.frames, beyond]), t.offsets)
    with poisoned():
        assert_close(path.outer(t, weights, frames), expected)
        assert_close(path.total(t, weights), dense(weights, indices, width).sum(0))
        state, wanted = adam_case(width, d, expected, True, seed)
        path.adam_outer(state[0], t, weights, frames, state[1], state[2], 3, 1e-2, True)
    for got, want in zip(state, wanted, strict=True):
        assert_close(got, want)


def adam_case(width: int, d: int, grad: Tensor, unit_norm: bool, seed: int) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """A parameter with its moments, and what the third step at a rate of 0.01 makes of them."""
    param, exp_avg, exp_avg_sq = (rows_of(width, d, torch.float32, seed + i) for i in range(3))
    state = [functional.normalize(param) if unit_norm else param, exp_avg, exp_avg_sq.square()]
    return state, adam_reference(state[0].double(), grad, state[1].double(), state[2].double(), 3, 1e-2, unit_norm)


@pytest.mark.parametrize("unit_norm", [False, True])
@pytest.mark.parametrize("d", [1, 7, 64, 2048, ROW + 9])
def test_adam(d: int, unit_norm: bool, seed: int) -> None:
    """A dense gradient and a factored one."""
    width = 5
    weights, indices = code(6, 3, width, seed)
    frames = rows_of(6, d, torch.bfloat16, seed + 3)
    grad = dense(weights, indices, width).T @ frames.double()
    t = path.transpose(indices, weights, width)
    state, expected = adam_case(width, d, grad, unit_norm, seed)
    fused = [s.clone() for s in state]
    path.adam(state[0], grad.float(), state[1], state[2], 3, 1e-2, unit_norm)
    with poisoned():
        path.adam_outer(fused[0], t, weights, frames, fused[1], fused[2], 3, 1e-2, unit_norm)
    for i, want in enumerate(expected):
        assert_close(state[i], want)
        assert_close(fused[i], want)


def test_adam_of_a_vector(seed: int) -> None:
    grad = rows_of(1, 1500, torch.float32, seed + 4)[0]
    state, expected = adam_case(1, 1500, grad.double(), False, seed)
    vectors = [s[0].clone() for s in state]
    path.adam(vectors[0], grad, vectors[1], vectors[2], 3, 1e-2, False)
    for got, want in zip(vectors, expected, strict=True):
        assert_close(got, want[0])


@pytest.mark.parametrize("unit_norm", [False, True])
def test_adam_reads_gradients_of_16_bits(unit_norm: bool, seed: int) -> None:
    grad = rows_of(5, 40, torch.bfloat16, seed + 4)
    state, expected = adam_case(5, 40, grad.double(), unit_norm, seed)
    path.adam(state[0], grad, state[1], state[2], 3, 1e-2, unit_norm)
    for got, want in zip(state, expected, strict=True):
        assert_close(got, want)


def test_an_atom_of_zeros_stays_finite() -> None:
    atoms, grad, exp_avg, exp_avg_sq = (torch.zeros(3, 8, device=DEVICE) for _ in range(4))
    path.adam(atoms, grad, exp_avg, exp_avg_sq, 1, 1e-3, True)
    assert atoms.tolist() == [[0.0] * 8] * 3


def test_a_whole_backward_matches_autograd_in_float64(seed: int) -> None:
    """Decoding, the gradients of values, of both weights and of the bias, and both updates."""
    n, s, width, d = 37, 6, 50, 48
    values, indices = code(n, s, width, seed)
    x, upstream, W_enc, W_dec = (rows_of(m, d, torch.float32, seed + i) for i, m in enumerate((n, n, width, width)))
    exact = [w.double().requires_grad_() for w in (W_enc, W_dec)]
    bias = torch.zeros(width, dtype=torch.float64, device=DEVICE, requires_grad=True)
    # pre-activations whose values are the code's, with the gradient of the encoder
    pre = ((x.double() @ exact[0].T + bias).gather(1, indices)) * (values != 0)
    chosen = (values.double() + pre - pre.detach()) * (values != 0)
    decoded = torch.einsum("ns,nsd->nd", chosen, exact[1][indices])
    decoded.backward(upstream.double())

    with poisoned():
        assert_close(path.gather_sum(values, indices, W_dec), decoded.detach())
        through = path.gather_dot(upstream, indices, W_dec) * (values != 0)
        t = path.transpose(indices, values, width)
        assert_close(path.outer(t, through, x), exact[0].grad)
        assert_close(path.outer(t, values, upstream), exact[1].grad)
        assert_close(path.total(t, through), bias.grad)
        for factors, rows, grad, unit_norm in ((through, x, exact[0].grad, False), (values, upstream, exact[1].grad, True)):
            state, expected = adam_case(width, d, grad, unit_norm, seed)
            path.adam_outer(state[0], t, factors, rows, state[1], state[2], 3, 1e-2, unit_norm)
            for got, want in zip(state, expected, strict=True):
                assert_close(got, want)


def test_repeats_bitwise(seed: int) -> None:
    weights, indices = code(60, 12, 3, seed)  # about 200 slots a latent, the last of them hot
    weights[:, :5], indices[:, :5] = 1.0, 2
    frames = rows_of(60, 40, torch.float32, seed)
    runs = []
    for _ in range(2):
        t = path.transpose(indices, weights, 3)
        state, _ = adam_case(3, 40, torch.zeros(3, 40, dtype=torch.float64, device=DEVICE), True, seed)
        path.adam_outer(state[0], t, weights, frames, state[1], state[2], 3, 1e-2, True)
        dots, sums = path.dots_and_sum(frames, indices, frames[:3])
        decoded = path.gather_sum(weights, indices, frames[:3])
        runs.append([path.outer(t, weights, frames), path.total(t, weights), decoded, dots, sums, *state])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
