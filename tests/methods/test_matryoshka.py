"""Matryoshka: groups of latents, and the loss of nested reconstructions with its gradients."""

import pytest
import torch
from definitions import dense_code, started

from musae.batch_budget import by_group
from musae.dictionary import TensorFrames
from musae.errors import UserError
from musae.methods.batch_topk import BatchTopk
from musae.methods.matryoshka import Matryoshka
from musae.testing import sample_frames


def test_loss_and_gradients_are_those_of_the_definition() -> None:
    x = sample_frames(90)
    method = started(Matryoshka, prefixes=(0.11, 0.5, 1))
    assert method.sizes() == [5, 20, 40]
    loss, figures = method.loss(x)
    loss.backward()
    p = {name: t.detach().double().requires_grad_() for name, t in method.parameters.items()}
    z = method.scaled(x).double()
    code = dense_code(z, p, 3 * len(x))
    losses = [(code[:, :size] @ p["W_dec"][:size] + p["b_dec"] - z).square().mean() for size in (5, 20, 40)]
    expected = torch.stack(losses).mean()
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(figures["fvu_first"]) == pytest.approx(float((losses[0] / z.var(0, correction=0).mean()).detach()), rel=1e-4)
    for name, tensor in method.parameters.items():
        assert torch.allclose(tensor.grad.double(), p[name].grad, rtol=1e-3, atol=1e-6), name


def test_a_code_is_cut_into_groups_of_few_slots() -> None:
    values = torch.tensor([[5.0, 4, 3, 2], [9, 1, 0, 0], [0, 0, 0, 0]])
    indices = torch.tensor([[7, 0, 3, 1], [2, 6, 0, 0], [0, 0, 0, 0]])
    first, second = by_group(values, indices, [3, 8])
    assert first[0].tolist() == [[4, 2], [9, 0], [0, 0]]
    assert first[1].tolist() == [[0, 1], [2, 0], [0, 0]]
    assert second[0].tolist() == [[5, 3], [1, 0], [0, 0]]
    assert second[1].tolist() == [[7, 3], [6, 0], [0, 0]]


def test_one_prefix_is_batch_topk() -> None:
    x = sample_frames(90)
    one, other = started(Matryoshka, prefixes=(1,)), started(BatchTopk)
    with torch.no_grad():
        for name, p in other.parameters.items():
            p.copy_(one.parameters[name])
    assert float(one.loss(x)[0]) == pytest.approx(float(other.loss(x)[0]), rel=1e-6)


def test_early_latents_reconstruct_better_alone_than_batch_topks() -> None:
    x = sample_frames(4000)
    fvu = {}
    for cls in (BatchTopk, Matryoshka):
        method = cls(width=48, k=4, batch_size=100, epochs=2).fit(TensorFrames(x))
        code = method.encode(x).dense()[:, :12]
        left = code @ method.atoms[:12] + method.bias - x
        fvu[cls.name] = float(left.square().sum() / (x - x.mean(0)).square().sum())
    assert fvu["matryoshka"] < fvu["batch_topk"] - 0.05, fvu


@pytest.mark.parametrize("prefixes", [(), (0.5,), (0.5, 0.5, 1), (0, 1), (1, 0.5), (0.5, 1.5)])
def test_prefixes_that_do_not_rise_to_one_are_refused(prefixes: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="prefixes"):
        Matryoshka(prefixes=prefixes)


def test_prefixes_of_a_small_width_merge() -> None:
    assert Matryoshka(width=6).sizes() == [1, 2, 3, 6]
