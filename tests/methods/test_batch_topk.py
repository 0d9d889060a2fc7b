"""BatchTopK: its gradients, the cut of several processes, and the threshold that it is frozen to."""

import pytest
import torch
from definitions import dense_code, started
from processes import together
from torch import Tensor

from musae.batch_budget import within
from musae.dictionary import TensorFrames
from musae.kernels.batch_topk import batch_topk
from musae.methods.batch_topk import BatchTopk
from musae.methods.matryoshka import Matryoshka
from musae.testing import sample_frames


def test_loss_and_gradients_are_those_of_the_definition() -> None:
    x = sample_frames(90)
    method = started(BatchTopk)
    loss, figures = method.loss(x)
    loss.backward()
    p = {name: t.detach().double().requires_grad_() for name, t in method.parameters.items()}
    z = method.scaled(x).double()
    code = dense_code(z, p, 3 * len(x))
    expected = (code @ p["W_dec"] + p["b_dec"] - z).square().mean()
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(figures["l0"]) == pytest.approx(3)
    assert float(figures["threshold"]) == pytest.approx(float(code[code > 0].min()), rel=1e-5)
    for name, tensor in method.parameters.items():
        assert torch.allclose(tensor.grad.double(), p[name].grad, rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("rows", [64, 65])
def test_two_processes_select_and_learn_as_one(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Also where equal frames lie at the cut: silence repeats."""
    x = sample_frames(rows)
    x[20:40] = x[20]
    one = started(BatchTopk)
    loss, _ = one.loss(x)
    loss.backward()
    two = [started(BatchTopk), started(BatchTopk)]

    def act(rank: int) -> float:
        mine = x[rank::2]
        loss, _ = two[rank].loss(mine)
        (loss * len(mine) / len(x)).backward()
        return float(loss.detach()) * len(mine) / len(x)

    assert sum(together(monkeypatch, 2, act)) == pytest.approx(float(loss.detach()), rel=1e-5)
    for name, p in one.parameters.items():
        assert torch.allclose(two[0].parameters[name].grad + two[1].parameters[name].grad, p.grad, atol=1e-6), name
    for name, buffer in one.buffers.items():
        assert torch.allclose(two[0].buffers[name], buffer), name
        assert torch.equal(two[0].buffers[name], two[1].buffers[name]), name


def test_equal_values_at_the_cut_stay_by_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight frames of one value in two processes; a budget of 5 keeps frames 0 to 4, whoever holds them."""
    values, indices = torch.ones(4, 1), torch.zeros(4, 1, dtype=torch.int64)
    kept = together(monkeypatch, 2, lambda rank: within(values, indices, 5, 10))
    assert [k.flatten().tolist() for k in kept] == [[True, True, True, False], [True, True, False, False]]
    x, W = torch.ones(8, 1), torch.ones(1, 1)
    assert batch_topk(x, W, torch.zeros(1), 1)[0].count_nonzero() == 8


def test_nothing_positive_gives_an_empty_code_and_no_threshold() -> None:
    method = started(BatchTopk)
    with torch.no_grad():
        method.parameters["b_enc"].fill_(-1e4)
        loss, figures = method.loss(sample_frames(50))
    assert bool(loss.isfinite())
    assert figures["l0"] == 0
    assert figures["threshold"] == 0


def test_threshold_is_a_mean_of_short_memory() -> None:
    """Memory of 64 frames in 32 * 64: the first batch counts whole, then batches of 32 by halves."""
    method = started(BatchTopk, x=sample_frames(32 * 64))
    for smallest in (3.0, 5.0, 2.0):
        method.follow(torch.tensor(smallest), 32)
    assert float(method.buffers["threshold"]) == pytest.approx(((3 + 5) / 2 + 2) / 2)


@pytest.mark.parametrize("cls", [BatchTopk, Matryoshka])
def test_frozen_codes_hold_k_on_average_and_are_the_trained_function(cls: type[BatchTopk] | type[Matryoshka]) -> None:
    x = 20 * sample_frames(8000) + 50
    method = cls(width=48, k=4, batch_size=200, epochs=2).fit(TensorFrames(x[:6000]))
    code = method.encode(x[6000:])
    assert len(code.values) / code.rows == pytest.approx(4, rel=0.05)
    scale = method.buffers["scale"]
    z = method.scaled(x[6000:6100])
    h = torch.relu(z @ method.parameters["W_enc"].T + method.parameters["b_enc"]).detach()
    h = h * (h > method.buffers["threshold"])
    assert torch.allclose(method.encode(x[6000:6100]).dense() * scale, h, atol=1e-4)
    assert torch.allclose(method.decode(method.encode(x[6000:6100])), _raw(h, method), atol=1e-2)
    assert float(code.values.min()) > float(method.tensors["threshold"][0]) > 0


def _raw(h: Tensor, method: BatchTopk | Matryoshka) -> Tensor:
    p = method.parameters
    return ((h @ p["W_dec"] + p["b_dec"]) / method.buffers["scale"] + method.buffers["centre"]).detach()


@pytest.mark.parametrize("cls", [BatchTopk, Matryoshka])
def test_bfloat16_learns_nearly_the_same(cls: type[BatchTopk] | type[Matryoshka]) -> None:
    x = sample_frames(2000)
    fvu = {}
    for precision in ("float32", "bfloat16"):
        method = cls(width=48, k=4, batch_size=100, epochs=2, precision=precision).fit(TensorFrames(x))
        left = method.decode(method.encode(x)) - x
        fvu[precision] = float(left.square().sum() / (x - x.mean(0)).square().sum())
    assert fvu["bfloat16"] == pytest.approx(fvu["float32"], rel=0.1), fvu
