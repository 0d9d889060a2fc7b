import pytest
import torch

from musae.errors import UserError
from musae.kernels import dense
from musae.kernels.portable import gather_dot, gather_sum, outer
from musae.kernels.sparse_decode import sparse_decode
from musae.kernels.transposed import shared, transpose


def test_empty_slots_add_nothing_and_repeated_latents_add_up(place) -> None:
    atoms, bias = torch.randn(5, 7).to(place.device), torch.randn(7).to(place.device)
    values = torch.tensor([[0.0, 0.0], [2.0, 3.0]], device=place.device)
    indices = torch.tensor([[0, 0], [4, 4]], device=place.device)
    assert torch.allclose(sparse_decode(values, indices, atoms, bias), torch.stack([bias, 5 * atoms[4] + bias]))


def test_decodes_what_scatter_and_matmul_decode(place) -> None:
    values, atoms, bias = (torch.randn(size).to(place.device) for size in ((90, 6), (40, 11), (11,)))
    indices = torch.rand(90, 40).argsort(1)[:, :6].contiguous().to(place.device)
    code = torch.zeros(90, 40, device=place.device).scatter_(1, indices, values)
    assert torch.allclose(sparse_decode(values, indices, atoms, bias), code @ atoms + bias, atol=1e-5)


def test_sums_over_dense_codes_are_those_over_sparse_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks of three latents or frames, with empty slots and a latent that no frame has."""
    n, s, width, d = 31, 4, 17, 6
    weights = torch.randn(n, s) * (torch.rand(n, s) < 0.7)
    indices = torch.rand(n, width - 1).argsort(1)[:, :s].contiguous().masked_fill(weights == 0, 0)
    rows, x = torch.randn(width, d), torch.randn(n, d)
    by_latent = transpose(indices, weights, width)
    monkeypatch.setattr(dense, "CHUNK_BYTES", 3 * 4 * width)
    assert torch.allclose(dense.gather_sum(weights, indices, rows), gather_sum(weights, indices, rows), atol=1e-5)
    assert torch.allclose(dense.gather_dot(x, indices, rows), gather_dot(x, indices, rows), atol=1e-5)
    assert torch.allclose(dense.outer(by_latent, weights, x), outer(by_latent, weights, x), atol=1e-5)


def test_a_code_is_transposed_once_until_it_changes() -> None:
    calls = []

    def sort(indices: torch.Tensor, weights: torch.Tensor, width: int):
        calls.append(width)
        return transpose(indices, weights, width)

    indices, weights = torch.randint(0, 5, (4, 2)), torch.rand(4, 2)
    first = shared.of(sort, indices, weights, 5)
    assert shared.of(sort, indices.detach(), weights, 5) is first
    weights[0, 0] = 0
    assert shared.of(sort, indices, weights, 5) is not first
    shared.of(sort, indices, weights.clone(), 5)
    assert len(calls) == 3
    shared.clear()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"indices": torch.full((3, 2), 8)}, "index 8 is no latent"),
        ({"indices": torch.full((3, 2), -1)}, "index -1 is no latent"),
        ({"indices": torch.zeros(3, 2, dtype=torch.int32)}, "int32"),
        ({"indices": torch.zeros(3, 3, dtype=torch.int64)}, "indices has the shape"),
        ({"b_dec": torch.ones(5)}, r"b_dec has the shape \[5\]"),
        ({"W_dec": torch.ones(8, 0), "b_dec": torch.ones(0)}, "d > 0"),
    ],
)
def test_bad_arguments_are_one_sentence(change: dict, says: str) -> None:
    arguments = {"values": torch.ones(3, 2), "indices": torch.zeros(3, 2, dtype=torch.int64)}
    arguments |= {"W_dec": torch.ones(8, 4), "b_dec": torch.ones(4)} | change
    with pytest.raises(UserError, match=says):
        sparse_decode(**arguments)
