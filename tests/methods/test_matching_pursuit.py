"""Matching pursuit: its steps by hand, its gradients by autograd through the residuals, and what is kept of a frame."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from musae.dictionary import TensorFrames
from musae.errors import UserError
from musae.methods import matching_pursuit
from musae.methods.matching_pursuit import MatchingPursuit, choose, merged, until_repeated
from musae.testing import sample_frames


def pursued(x: Tensor, atoms: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The definition: the dense code and the last residual."""
    code, left = x.new_zeros(len(x), len(atoms)), x
    stopped = torch.zeros(len(x), 1, dtype=torch.bool)
    for _ in range(k):
        correlation = left @ atoms.T
        best = correlation.argmax(1, keepdim=True)
        value = correlation.gather(1, best).clamp_min(0).masked_fill(stopped, 0)
        stopped = stopped | (code.gather(1, best) > 0)
        step = torch.zeros_like(code).scatter(1, best, value)
        code, left = code + step, left - step @ atoms
    return code, left


def unit(width: int, d: int, seed: int = 0) -> Tensor:
    return functional.normalize(torch.randn(width, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_two_steps_by_hand() -> None:
    """Atoms (1, 0) and (0.6, 0.8); the frame (3, 4) is 5 of the second; (2, 0.5) is 2 of the first, then 0.4 of the second."""
    method = MatchingPursuit(width=2, k=2)
    method.tensors = {"W_dec": torch.tensor([[1.0, 0], [0.6, 0.8]]), "b_dec": torch.tensor([0.0, 0])}
    code = method.encode(torch.tensor([[3.0, 4], [2, 0.5], [-1, -1]]))
    assert torch.allclose(code.dense(), torch.tensor([[0, 5.0], [2, 0.4], [0, 0]]), atol=1e-6)
    assert code.offsets.tolist() == [0, 1, 3, 3]


def test_an_atom_that_is_chosen_again_adds_to_its_value_and_is_the_last() -> None:
    values, indices = merged(torch.tensor([[3.0, 2, 1, 0]]), torch.tensor([[4, 7, 4, -1]]))
    assert dict(zip(indices[0].tolist(), values[0].tolist(), strict=True)) == {0: 0, 4: 4, 7: 2}
    assert until_repeated(torch.tensor([[4, 7, 4, 2, 7], [1, 1, 0, 1, 2], [3, 0, -1, -1, -1], [5, 4, 3, 2, 1]])).tolist() == [
        [4, 7, 4, -1, -1],
        [1, 1, -1, -1, -1],
        [3, 0, -1, -1, -1],
        [5, 4, 3, 2, 1],
    ]
    assert until_repeated(torch.empty(0, 3, dtype=torch.int64)).shape == (0, 3)
    x, atoms = 2 * torch.randn(300, 4), unit(12, 4)
    method = MatchingPursuit(width=12, k=12)
    method.tensors = {"W_dec": atoms, "b_dec": torch.zeros(4)}
    expected, _ = pursued(x.double(), atoms.double(), 12)
    assert torch.allclose(method.encode(x).dense().double(), expected, atol=1e-4)
    steps = until_repeated(choose(x, atoms, 12))
    assert int((steps >= 0).sum()) > len(method.encode(x).values)
    assert int((steps >= 0).sum()) < int((choose(x, atoms, 12) >= 0).sum())


def test_the_learning_rate_falls_as_entries_of_atoms_do() -> None:
    narrow, wide = (MatchingPursuit(width=8, k=2, learning_rate=0.1) for _ in range(2))
    narrow.parameters, wide.parameters = {"W_dec": torch.ones(8, 256)}, {"W_dec": torch.ones(8, 1024)}
    assert narrow.rate(20, 100) == pytest.approx(0.1)
    assert wide.rate(20, 100) == pytest.approx(0.05)


@pytest.mark.parametrize("gram", [matching_pursuit.GRAM, 0])
def test_loss_and_gradients_are_those_of_the_definition(monkeypatch: pytest.MonkeyPatch, gram: int) -> None:
    monkeypatch.setattr(matching_pursuit, "GRAM", gram)
    monkeypatch.setattr(matching_pursuit, "ROWS", 32)
    x = sample_frames(90)
    method = MatchingPursuit(width=70, k=5, seed=1)
    method.start(TensorFrames(x))
    method.parameters["b_dec"] += 0.1
    for p in method.parameters.values():
        p.requires_grad_()
    loss, figures = method.loss(x)
    (3 * loss).backward()
    p = {name: t.detach().double().requires_grad_() for name, t in method.parameters.items()}
    code, left = pursued(method.scaled(x).double() - p["b_dec"], p["W_dec"], 5)
    expected = left.square().mean()
    (3 * expected).backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(figures["l0"]) == pytest.approx(int((code > 0).sum()) / 90)
    for name, tensor in method.parameters.items():
        assert torch.allclose(tensor.grad.double(), p[name].grad, rtol=1e-3, atol=1e-6), name


def test_freezing_folds_the_scaling_in() -> None:
    x = 20 * sample_frames() + 50
    method = MatchingPursuit(width=40, k=4, batch_size=100).fit(TensorFrames(x))
    assert set(method.tensors) == {"W_dec", "b_dec"}
    with torch.no_grad():
        loss, _ = method.loss(x)
    left = (method.decode(method.encode(x)) - x) * method.buffers["scale"]
    assert float(left.square().mean()) == pytest.approx(float(loss), rel=1e-3)


def test_dead_atoms_start_anew() -> None:
    """Atoms that point away from all frames are never chosen, until they are resampled."""

    class HalfDead(MatchingPursuit):
        def start(self, frames: TensorFrames) -> None:
            super().start(frames)
            self.parameters["W_dec"][::2] = -functional.normalize(self.parameters["b_dec"] + 1, dim=0)

    x = sample_frames(2000).abs()
    alive = {}
    for resample in (0, 2):
        recipe = {"batch_size": 100, "epochs": 4, "learning_rate": 5e-3, "dead_after": 0.01, "resample": resample}
        method = HalfDead(width=64, k=2, **recipe).fit(TensorFrames(x))
        alive[resample] = float(method.encode(x).dense()[:, ::2].any(0).float().mean())
    assert alive[2] > alive[0] + 0.3, alive


def test_an_auxiliary_loss_is_refused() -> None:
    with pytest.raises(UserError, match="aux_weight"):
        MatchingPursuit(aux_weight=0.1)


def test_bfloat16_learns_nearly_the_same() -> None:
    x = sample_frames(1000)
    losses = []
    for precision in ("float32", "bfloat16"):
        method = MatchingPursuit(width=48, k=4, batch_size=100, precision=precision).fit(TensorFrames(x))
        losses.append(float((method.decode(method.encode(x)) - x).square().mean()))
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
