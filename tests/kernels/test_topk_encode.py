import pytest
import torch

from musae.errors import UserError
from musae.kernels.topk_encode import reference, select, topk_encode


@pytest.mark.parametrize("width", [13, 64, 2048])
@pytest.mark.parametrize("k", [1, 2, 8])
def test_ties_go_to_the_lower_index(width: int, k: int) -> None:
    """Integer-valued pre-activations of few values: almost every frame has ties at its boundary."""
    h = torch.randint(0, 4, (64, width)).float()
    h[0] = 0
    h[1] = 3
    values, indices = select(h, k)
    exact = h.sort(dim=1, descending=True, stable=True)
    assert torch.equal(values, exact.values[:, :k])
    assert torch.equal(indices, exact.indices[:, :k].masked_fill(values == 0, 0))


def test_integer_inputs_give_the_reference_bit_for_bit() -> None:
    x, w, b = (torch.randint(-3, 4, size).float() for size in ((300, 16), (512, 16), (512,)))
    for got, want in zip(topk_encode(x, w, b, 8), reference(x.double(), w.double(), b.double(), 8), strict=True):
        assert torch.equal(got, want.to(got.dtype))


def test_real_inputs_differ_only_within_rounding() -> None:
    """A latent chosen in float32 but not in float64 lies within the accumulation's rounding bound of the k-th value."""
    n, d, k = 200, 64, 16
    x, w, b = torch.randn(n, d), torch.randn(1024, d), torch.randn(1024)
    _, indices = topk_encode(x, w, b, k)
    h = torch.relu(x.double() @ w.double().T + b.double())
    bound = 2 * (d + 1) * torch.finfo(torch.float32).eps * (x.abs().double() @ w.abs().double().T + b.abs())
    kth = h.topk(k).values[:, -1:]
    assert bool((h.gather(1, indices) >= kth - bound.gather(1, indices)).all())


def test_frames_without_positive_entries_are_empty_and_pass_no_gradient() -> None:
    x, w, b = torch.randn(5, 8), torch.randn(32, 8, requires_grad=True), torch.full((32,), -100.0, requires_grad=True)
    values, indices = topk_encode(x, w, b, 4)
    assert not values.any()
    assert not indices.any()
    values.sum().backward()
    assert w.grad is not None
    assert not w.grad.any()


def test_short_rows_end_in_empty_slots() -> None:
    w = torch.eye(6)
    values, indices = topk_encode(torch.tensor([[0.0, 2, -1, 3, 0, -5]]), w, torch.zeros(6), 4)
    assert values.tolist() == [[3, 2, 0, 0]]
    assert indices.tolist() == [[3, 1, 0, 0]]


def test_rows_do_not_depend_on_their_neighbours() -> None:
    x, w, b = torch.randn(600, 24), torch.randn(256, 24), torch.zeros(256)
    values, _ = topk_encode(x, w, b, 6)
    alone, _ = topk_encode(x[500:501], w, b, 6)
    assert torch.allclose(values[500:501], alone, rtol=1e-5)


def test_strided_inputs_are_read_right() -> None:
    x, w, b = torch.randn(16, 40).T, torch.randn(16, 32).T, torch.zeros(32)
    for got, want in zip(topk_encode(x, w, b, 4), topk_encode(x.contiguous(), w.contiguous(), b, 4), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize(
    ("k", "dtype", "w_dtype", "says"),
    [
        (0, torch.float32, torch.float32, "k = 0"),
        (9, torch.float32, torch.float32, "k = 9"),
        (2, torch.float32, torch.float64, "dtype"),
        (2, torch.int64, torch.int64, "int64"),
    ],
)
def test_bad_arguments_are_one_sentence(k: int, dtype: torch.dtype, w_dtype: torch.dtype, says: str) -> None:
    with pytest.raises(UserError, match=says):
        topk_encode(torch.ones(3, 4, dtype=dtype), torch.ones(8, 4, dtype=w_dtype), torch.ones(8, dtype=w_dtype), k)
