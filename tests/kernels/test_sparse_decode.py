import torch

from musae.kernels.sparse_decode import sparse_decode


def test_empty_slots_add_nothing_and_repeated_latents_add_up() -> None:
    atoms, bias = torch.randn(5, 7), torch.randn(7)
    values = torch.tensor([[0.0, 0.0], [2.0, 3.0]])
    indices = torch.tensor([[0, 0], [4, 4]])
    assert torch.allclose(sparse_decode(values, indices, atoms, bias), torch.stack([bias, 5 * atoms[4] + bias]))


def test_decodes_what_scatter_and_matmul_decode() -> None:
    values, atoms, bias = torch.randn(90, 6), torch.randn(40, 11), torch.randn(11)
    indices = torch.rand(90, 40).argsort(1)[:, :6]
    dense = torch.zeros(90, 40).scatter_(1, indices, values)
    assert torch.allclose(sparse_decode(values, indices, atoms, bias), dense @ atoms + bias, atol=1e-5)
