"""p-annealing: gradients against the dense definition, the course of p, and a penalty that stays as strong as it was."""

import pytest
import torch

from musae.dictionary import TensorFrames
from musae.errors import UserError
from musae.methods.p_anneal import SMALL, PAnneal
from musae.testing import sample_frames


def started() -> tuple[PAnneal, torch.Tensor]:
    """A method with parameters in float64 that are not as they start, and scaled frames."""
    method = PAnneal(width=40, k=5, sparsity_warmup=0.1)
    method.start(TensorFrames(sample_frames(300)))
    generator = torch.Generator().manual_seed(1)
    method.parameters = {
        name: (p + 0.1 * torch.randn(p.shape, generator=generator)).double().requires_grad_()
        for name, p in method.parameters.items()
    }
    return method, method.scaled(sample_frames(50)).double()


def test_loss_and_gradients_are_those_of_the_definition() -> None:
    method, z = started()
    method.buffers |= {"coefficient": torch.tensor(0.7), "ratio": torch.tensor(1.5)}
    method.progress = 0.475  # of p_end = 0.2, from 0.1 to 0.7: p = 0.5
    method.buffers["p"] = torch.tensor(method.power, dtype=torch.float64)
    loss, _, _, _ = method.objective(z)
    p = method.parameters
    h = torch.relu(z @ p["W_enc"].T + p["b_enc"])
    penalty = ((h + SMALL).sqrt() - SMALL**0.5).sum(1)
    expected = ((z - h @ p["W_dec"] - p["b_dec"]).square().sum(1) + float(0.7 * torch.tensor(1.5)) * penalty).mean() / z.shape[1]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    found = torch.autograd.grad(loss, list(p.values()))
    for name, mine, wanted in zip(p, found, torch.autograd.grad(expected, list(p.values())), strict=True):
        assert torch.allclose(mine, wanted, rtol=1e-7, atol=1e-12), name


def test_p_falls_between_the_warm_ups_end_and_the_decays_start() -> None:
    method = PAnneal(sparsity_warmup=0.1, decay=0.3)
    course = []
    for progress in (0, 0.1, 0.25, 0.4, 0.7, 1):
        method.progress = progress
        course.append(method.power)
    assert course == pytest.approx([1, 1, 0.8, 0.6, 0.2, 0.2])


def test_when_p_falls_the_penalty_stays() -> None:
    method, z = started()
    h = torch.relu(z @ method.parameters["W_enc"].T + method.parameters["b_enc"]).detach()
    method.progress = 0.475
    with torch.no_grad():
        method.objective(z)
        ratio = float(method.buffers["ratio"])
        assert ratio * float(((h + SMALL).sqrt() - SMALL**0.5).sum()) == pytest.approx(float(h.sum()), rel=1e-4)
        method.objective(z)
        assert float(method.buffers["ratio"]) == ratio


@pytest.mark.parametrize("p_end", [0, 1.5])
def test_a_power_that_is_no_norms_is_refused(p_end: float) -> None:
    with pytest.raises(UserError, match=r"p_anneal: p_end = .*above 0"):
        PAnneal(p_end=p_end)


def test_frames_without_an_active_latent_do_not_spoil_the_penalty() -> None:
    fitted = PAnneal(width=32, k=2, batch_size=100).fit(TensorFrames(torch.zeros(4000, 8)))
    assert bool(fitted.buffers["ratio"].isfinite())
