"""T-SAE: its loss and gradients, one step whatever the number of processes, and what slow latents are for."""

import math

import pytest
import torch
from definitions import dense_code, started
from processes import together
from torch import Tensor
from torch.nn import functional

from musae.dictionary import TensorFrames
from musae.errors import UserError
from musae.methods.temporal import Temporal, contrast_of
from musae.testing import sample_frames
from musae.training import Trainer


def pairs(n: int = 90) -> Tensor:
    """Adjacent frames ``[n / 2, 2, d]``."""
    x = sample_frames(n).view(-1, 2, 24)
    x[:, 1] = 0.7 * x[:, 0] + 0.3 * x[:, 1]
    return x


def test_contrast_by_hand() -> None:
    """Two pairs, of orthogonal codes: the right neighbour has cosine 1, the other 0."""
    later = torch.tensor([[2.0, 0], [0, 3]])
    assert float(contrast_of(later, later)) == pytest.approx(math.log(1 + math.exp(-1)))
    assert float(contrast_of(later, later.flip(0))) == pytest.approx(math.log(1 + math.e))
    assert float(contrast_of(torch.zeros(2, 2), later)) == pytest.approx(math.log(2))


def test_loss_and_gradients_are_those_of_the_definition() -> None:
    x = pairs()
    method = started(Temporal, high_level=0.3, contrast=0.5)
    loss, figures = method.loss(x)
    loss.backward()
    p = {name: t.detach().double().requires_grad_() for name, t in method.parameters.items()}
    z = method.scaled(x.flatten(0, 1)).double()
    code = dense_code(z, p, 3 * len(z))
    errors = [(code[:, :size] @ p["W_dec"][:size] + p["b_dec"] - z).square().mean() for size in (12, 40)]
    high = functional.normalize(code[:, :12], dim=1, eps=1e-8)
    similar = high[1::2] @ high[::2].T
    right = similar.diagonal()
    contrast = (similar.logsumexp(1) - right).mean() / 2 + (similar.logsumexp(0) - right).mean() / 2
    expected = sum(errors) / 2 + 0.5 * contrast
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(figures["contrast"]) == pytest.approx(float(contrast.detach()), rel=1e-5)
    for name, tensor in method.parameters.items():
        assert torch.allclose(tensor.grad.double(), p[name].grad, rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("count", [40, 45])
def test_two_processes_learn_as_one(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    x = pairs()[:count]
    x[7:12] = x[7, 0]
    one = started(Temporal)
    loss, _ = one.loss(x)
    loss.backward()
    two = [started(Temporal), started(Temporal)]

    def act(rank: int) -> float:
        mine = x[rank::2]
        loss, _ = two[rank].loss(mine)
        (loss * len(mine) / len(x)).backward()
        return float(loss.detach()) * len(mine) / len(x)

    assert sum(together(monkeypatch, 2, act)) == pytest.approx(float(loss.detach()), rel=1e-5)
    for name, p in one.parameters.items():
        assert torch.allclose(two[0].parameters[name].grad + two[1].parameters[name].grad, p.grad, atol=1e-6), name


def slow_and_fast(clips: int = 400, frames: int = 16) -> tuple[TensorFrames, Tensor]:
    """Clips of two atoms of 24 that last, and at each frame two of another 24; returns the lasting atoms, too."""
    generator = torch.Generator().manual_seed(6)
    atoms = functional.normalize(torch.randn(48, 24, generator=generator), dim=1)

    def code(*shape: int) -> Tensor:
        on = torch.rand(*shape, 24, generator=generator).argsort(-1)[..., :2]
        return torch.zeros(*shape, 24).scatter_(-1, on, 1.0)

    lasting, passing = code(clips, 1).expand(-1, frames, -1), code(clips, frames)
    x = torch.cat([lasting, passing], -1) @ atoms + 0.02 * torch.randn(clips, frames, 24, generator=generator)
    return TensorFrames(x.flatten(0, 1), frames_per_clip=frames), atoms[:24]


def test_high_level_latents_change_more_slowly_for_the_contrast() -> None:
    """Three seconds: how often a high-level latent that is active stays active in the next frame."""
    frames, _ = slow_and_fast()
    stays = {}
    for contrast in (0.0, 1.0):
        method = Temporal(width=64, k=5, high_level=0.4, contrast=contrast, batch_size=128, epochs=4).fit(frames)
        active = method.encode(frames._x).dense()[:, : method.high].view(400, 16, -1) > 0
        stays[contrast] = float((active[:, 1:] & active[:, :-1]).sum() / active[:, :-1].sum())
    assert stays[1.0] > stays[0.0] + 0.1, stays


def test_dead_latents_start_anew_from_pairs() -> None:
    x = TensorFrames(sample_frames(800), frames_per_clip=8)
    method = Temporal(width=48, k=2, batch_size=100, dead_after=0.01, resample=2, epochs=2)
    assert method.fit(x).trained["frames"] == 1600


def test_single_frames_and_tiny_batches_are_refused() -> None:
    x = sample_frames(80)
    with pytest.raises(UserError, match="frames_per_clip"):
        Temporal(width=40, k=3).fit(TensorFrames(x))
    with pytest.raises(UserError, match="hold no sequence of 2"):
        Temporal(width=40, k=3).fit(TensorFrames(x, frames_per_clip=1))
    with pytest.raises(UserError, match="batch_size = 1"):
        Temporal(width=40, k=3, batch_size=1).fit(TensorFrames(x, frames_per_clip=8))


def test_a_source_without_sequences_is_refused() -> None:
    class Single:
        d, frames, identity = 24, 80, "stream 7"

    with pytest.raises(UserError, match=r"temporal learns from sequences of 2.*'stream 7'"):
        Trainer(Temporal(width=40, k=3), Single())


@pytest.mark.parametrize(("option", "value"), [("high_level", 0), ("high_level", 1.0), ("contrast", -0.1)])
def test_senseless_values_are_refused(option: str, value: float) -> None:
    with pytest.raises(UserError, match=option):
        Temporal(**{option: value})
