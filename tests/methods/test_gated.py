"""Gated: gradients against the dense definition, with the decoder that is frozen for the gates alone."""

from collections.abc import Mapping

import pytest
import torch
from torch.nn import functional

from musae.dictionary import TensorFrames
from musae.methods.gated import Gated
from musae.methods.relu import Relu
from musae.testing import sample_frames


def test_loss_and_gradients_are_those_of_the_definition() -> None:
    method = Gated(width=40, k=5)
    method.start(TensorFrames(sample_frames(300)))
    generator = torch.Generator().manual_seed(1)
    method.parameters = {
        name: (p + 0.1 * torch.randn(p.shape, generator=generator)).double().requires_grad_()
        for name, p in method.parameters.items()
    }
    method.buffers["coefficient"] = torch.tensor(0.7)
    z = method.scaled(sample_frames(50)).double()
    loss, figures, z_hat, fired = method.objective(z)

    p = method.parameters
    direction = z @ p["W_enc"].T
    gate = torch.relu(direction + p["gate_bias"])
    h = torch.relu(p["log_magnitude"].exp() * direction + p["magnitude_bias"]) * (gate > 0)
    dense = h @ p["W_dec"] + p["b_dec"]
    by_gate = gate @ p["W_dec"].detach() + p["b_dec"].detach()
    errors = (z - dense).square().sum(1) + (z - by_gate).square().sum(1)
    expected = (errors + float(method.coefficient) * gate.sum(1)).mean() / z.shape[1]
    assert torch.allclose(z_hat, dense, rtol=1e-9)
    assert fired.tolist() == (h > 0).sum(0).tolist()
    assert (gate > 0).sum() > (h > 0).sum(), "some gates are open where the magnitude is 0"
    assert float(figures["l0"]) == pytest.approx(float((h > 0).sum(1).double().mean()))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    found = torch.autograd.grad(loss, list(p.values()))
    for name, mine, wanted in zip(p, found, torch.autograd.grad(expected, list(p.values())), strict=True):
        assert torch.allclose(mine, wanted, rtol=1e-7, atol=1e-12), name


def test_the_penalty_shrinks_relus_code_and_not_the_gated_one() -> None:
    """By the paper's measure, the factor by which reconstructions should be divided to fit best: 1 without shrinkage."""
    generator = torch.Generator().manual_seed(2)
    atoms = functional.normalize(torch.randn(64, 32, generator=generator), dim=1)
    on = torch.rand(12_000, 64, generator=generator).argsort(1)[:, :3]
    x = torch.zeros(12_000, 64).scatter_(1, on, 1 + torch.rand(12_000, 3, generator=generator)) @ atoms
    factor = {}
    for method in (Relu, Gated):
        dictionary = method(width=96, k=3, batch_size=64, learning_rate=1e-2).fit(TensorFrames(x))
        x_hat, centred = dictionary.decode(dictionary.encode(x)) - dictionary.bias, x - dictionary.bias
        factor[method.name] = float(x_hat.square().sum() / (x_hat * centred).sum())
    assert factor["gated"] == pytest.approx(1, abs=0.05)
    assert factor["relu"] < 0.8


def test_dead_latents_may_have_an_auxiliary_loss() -> None:
    """Its gradient reaches the gates' biases, which are the encoder's here."""
    lines: list[Mapping[str, float]] = []
    gated = Gated(width=96, k=2, batch_size=100, aux_weight=0.03, dead_after=0.001)
    gated.fit(TensorFrames(sample_frames(2000)), reports=[lines.append])
    assert max(line["dead"] for line in lines) > 0
    assert bool(gated.atoms.isfinite().all())
