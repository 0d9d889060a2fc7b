"""What the suite for all ops does not say about encoders: ties, empty frames, rounding, and the cut of a batch."""

import pytest
import torch

from musae.errors import UserError
from musae.kernels.auxk import auxk
from musae.kernels.batch_topk import batch_topk
from musae.kernels.batch_topk import reference as batch_reference
from musae.kernels.jumprelu import jumprelu
from musae.kernels.portable import select
from musae.kernels.topk_encode import reference, topk_encode


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


@pytest.mark.parametrize(("encode", "expected"), [(topk_encode, reference), (batch_topk, batch_reference)])
@pytest.mark.parametrize(("n", "d", "width", "k"), [(100, 16, 512, 8), (50, 3, 640, 40), (33, 1, 700, 100)])
def test_integer_inputs_give_the_reference_bit_for_bit(place, encode, expected, n: int, d: int, width: int, k: int) -> None:
    """Few distinct pre-activations: ties far beyond any buffer of candidates."""
    x, w, b = (torch.randint(-3, 4, size).float().to(place.device) for size in ((n, d), (width, d), (width,)))
    for got, want in zip(encode(x, w, b, k), expected(x.double(), w.double(), b.double(), k), strict=True):
        assert torch.equal(got, want.to(got.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_real_inputs_differ_only_within_rounding(place, dtype: torch.dtype) -> None:
    """A latent that is chosen, but not in float64, lies within the accumulation's rounding bound of the k-th value."""
    n, d, k = 130, 64, 16
    x, w, b = (torch.randn(size).to(place.device, dtype) for size in ((n, d), (1024, d), (1024,)))
    values, indices = topk_encode(x, w, b, k)
    h = torch.relu(x.double() @ w.double().T + b.double())
    bound = 2 * (d + 1) * torch.finfo(torch.float32).eps * (x.abs().double() @ w.abs().double().T + b.abs())
    kth = h.topk(k).values[:, -1:]
    assert bool((h.gather(1, indices) >= kth - bound.gather(1, indices)).all())
    assert bool(((values.double() - h.gather(1, indices)).abs() <= bound.gather(1, indices)).all())
    assert bool((values.diff(dim=1) <= 0).all())
    assert all(len(set(row)) == k for row in indices.tolist())


@pytest.mark.parametrize("encode", [topk_encode, batch_topk])
def test_near_ties_are_told_apart(place, encode) -> None:
    """Weights that differ in the last bits of float32, far below the rounding of bfloat16: the order is still exact."""
    width, k = 600, 5
    order = torch.randperm(width)
    w = (1 + order.float() * 2**-22).unsqueeze(1).to(place.device)
    values, indices = encode(torch.ones(40, 1, device=place.device), w, torch.zeros(width, device=place.device), k)
    best = order.argsort(descending=True)[:k].tolist()
    assert indices.tolist() == [best] * 40
    assert torch.equal(values, w[:, 0][indices])


def test_frames_without_positive_entries_are_empty_and_pass_no_gradient(place) -> None:
    for encode in (topk_encode, batch_topk):
        x, w = torch.randn(5, 8).to(place.device), torch.randn(32, 8).to(place.device).requires_grad_()
        values, indices = encode(x, w, torch.full((32,), -100.0, device=place.device, requires_grad=True), 4)
        assert not values.any()
        assert not indices.any()
        values.sum().backward()
        assert w.grad is not None
        assert not w.grad.any()


def test_short_rows_end_in_empty_slots(place) -> None:
    w = torch.eye(6, device=place.device)
    x = torch.tensor([[0.0, 2, -1, 3, 0, -5]], device=place.device)
    values, indices = topk_encode(x, w, torch.zeros(6, device=place.device), 4)
    assert values.tolist() == [[3, 2, 0, 0]]
    assert indices.tolist() == [[3, 1, 0, 0]]


def test_frames_share_the_budget_of_a_batch(place) -> None:
    """Three frames, k = 2: the six largest; at the cut, 5 is tied between frames 1 and 2, and the earlier one stays."""
    h = torch.tensor([[9.0, 8, 7, 6], [1, 5, 0, 5], [5, -1, 2, 0]], device=place.device)
    values, indices = batch_topk(h, torch.eye(4, device=place.device), torch.zeros(4, device=place.device), 2)
    assert values.tolist() == [[9, 8, 7, 6], [5, 5, 0, 0], [0, 0, 0, 0]]
    assert indices.tolist() == [[0, 1, 2, 3], [1, 3, 0, 0], [0, 0, 0, 0]]


def test_a_selection_among_some_latents_is_numbered_by_all(place) -> None:
    x, w, b = torch.randn(20, 8).to(place.device), torch.randn(64, 8).to(place.device), torch.zeros(64, device=place.device)
    among = torch.arange(1, 64, 3, device=place.device)
    values, indices = topk_encode(x, w.requires_grad_(), b, 4, among=among)
    inside = torch.full((64,), -torch.inf, device=place.device).index_fill_(0, among, 0.0)
    want = (torch.relu(x @ w.T + inside)).detach().topk(4)
    assert torch.allclose(values, want.values, atol=1e-5)
    assert torch.equal(indices[values > 0], want.indices[want.values > 0])
    values.sum().backward()
    assert set(w.grad.abs().sum(1).nonzero().squeeze(1).tolist()) <= set(among.tolist())


def test_thresholds_learn_from_both_sides_and_from_nowhere_else(place) -> None:
    """One frame, pre-activations 0.9, 1.1, 1.6, 0.4 over thresholds of 1, bandwidth 0.5: two lie in the band, one of them off."""
    x = torch.tensor([[0.9, 1.1, 1.6, 0.4]], device=place.device)
    theta = torch.ones(4, device=place.device, requires_grad=True)
    values, indices, l0 = jumprelu(x, torch.eye(4, device=place.device), torch.zeros(4, device=place.device), theta, 0.5)
    assert indices.tolist() == [[2, 1, 0]]
    assert torch.allclose(values, torch.tensor([[1.6, 1.1, 0]], device=place.device))
    assert l0.tolist() == [2]
    (values * torch.tensor([[3.0, 5, 7]], device=place.device)).sum().backward(retain_graph=True)
    assert torch.allclose(theta.grad, torch.tensor([-14.0, -10, 0, 0], device=place.device))
    theta.grad = None
    l0.sum().backward()
    assert torch.allclose(theta.grad, torch.tensor([-2.0, -2, 0, 0], device=place.device))


def _arguments(**change: object) -> dict[str, object]:
    return {"x": torch.ones(3, 4), "W_enc": torch.ones(8, 4), "b_enc": torch.ones(8), "k": 2} | change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"k": 0}, "k = 0"),
        ({"k": 9}, "k = 9"),
        ({"W_enc": torch.ones(8, 4, dtype=torch.float64)}, "do not go together"),
        ({"x": torch.ones(3, 4).half(), "W_enc": torch.ones(8, 4).bfloat16()}, "do not go together"),
        ({"x": torch.ones(3, 4, dtype=torch.int64)}, "int64"),
        ({"x": torch.ones(3, 5)}, r"W_enc has the shape \[8, 4\]"),
        ({"x": torch.ones(4)}, r"x has the shape \[4\]"),
        ({"b_enc": torch.ones(7)}, r"b_enc has the shape \[7\]"),
        ({"x": torch.ones(3, 0), "W_enc": torch.ones(8, 0)}, "d > 0"),
        ({"x": torch.ones(3, 4, device="meta")}, "one device"),
    ],
)
@pytest.mark.parametrize("encode", [topk_encode, batch_topk])
def test_bad_arguments_are_one_sentence(encode, change: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        encode(**_arguments(**change))


def test_bad_bandwidths_are_one_sentence() -> None:
    x, w, b = torch.ones(3, 4), torch.ones(8, 4), torch.ones(8)
    with pytest.raises(UserError, match=r"bandwidth = 0\.0"):
        jumprelu(x, w, b, b, 0.0)
    with pytest.raises(UserError, match=r"threshold has the shape \[3\]"):
        jumprelu(x, w, b, torch.ones(3), 0.1)


def test_second_derivatives_are_refused(place) -> None:
    """Backward passes are kernels: rather than a gradient without its second-order part, there is a sentence."""
    x, w = torch.randn(6, 8).to(place.device).requires_grad_(), torch.randn(32, 8).to(place.device)
    values, _ = topk_encode(x, w, torch.zeros(32, device=place.device), 4)
    with pytest.raises(UserError, match="no second derivatives"):
        torch.autograd.grad(values.sum(), x, create_graph=True)


def test_nan_is_not_hidden(place) -> None:
    x, w = torch.randn(40, 8).to(place.device), torch.randn(64, 8).to(place.device)
    x[3, 2] = torch.nan
    values, _ = topk_encode(x, w, torch.zeros(64, device=place.device), 4)
    assert bool(values[3].isnan().any())
    assert bool(values[:3].isfinite().all())


@pytest.mark.parametrize(
    ("latents", "says"),
    [
        ([3, 1], "ascend strictly"),
        ([1, 1], "ascend strictly"),
        ([-1, 2], "from 0 to 7"),
        ([2, 8], "from 0 to 7"),
        ([[1, 2]], "give a list of int64"),
        ([1.0, 2.0], "float32"),
    ],
)
def test_bad_selections_of_latents_are_one_sentence(latents: list, says: str) -> None:
    x, w, b = torch.ones(3, 4), torch.ones(8, 4), torch.ones(8)
    with pytest.raises(UserError, match=f"`among`.*{says}"):
        topk_encode(x, w, b, 1, among=torch.tensor(latents))
    with pytest.raises(UserError, match=f"`dead`.*{says}"):
        auxk(x, x, w, b, w, torch.tensor(latents), 1)
