"""JumpReLU: gradients against the dense definition, straight-through ones included."""

import pytest
import torch

from musae.dictionary import TensorFrames
from musae.errors import UserError
from musae.methods.jumprelu import SPEED, JumpRelu
from musae.testing import sample_frames


def test_loss_and_gradients_are_those_of_the_definition() -> None:
    method = JumpRelu(width=40, k=5, bandwidth=0.3)
    method.start(TensorFrames(sample_frames(300)))
    generator = torch.Generator().manual_seed(1)
    method.parameters = {
        name: (p + 0.1 * torch.randn(p.shape, generator=generator)).double().requires_grad_()
        for name, p in method.parameters.items()
    }
    method.buffers["coefficient"] = torch.tensor(0.7)
    z = method.scaled(sample_frames(50)).double()
    loss, figures, z_hat, _ = method.objective(z)

    p = method.parameters
    theta = (SPEED * p["log_threshold"]).exp()
    pi = z @ p["W_enc"].T + p["b_enc"]
    active = (pi > theta).double()
    near = ((pi - theta).abs() < 0.15).detach() / 0.3
    moved = theta - theta.detach()  # 0, with the gradient of the threshold
    h = pi * active - theta.detach() * near * moved
    l0 = active - near * moved
    dense = h @ p["W_dec"] + p["b_dec"]
    expected = ((z - dense).square().sum(1) + float(method.coefficient) * l0.sum(1)).mean() / z.shape[1]
    assert int(near.count_nonzero()) > 20
    assert torch.allclose(z_hat, dense, rtol=1e-9)
    assert float(figures["l0"]) == pytest.approx(float(active.sum(1).mean()))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    found = torch.autograd.grad(loss, list(p.values()))
    for name, mine, wanted in zip(p, found, torch.autograd.grad(expected, list(p.values())), strict=True):
        assert torch.allclose(mine, wanted, rtol=1e-7, atol=1e-12), name


@pytest.mark.parametrize("bandwidth", [0, -1.0])
def test_a_bandwidth_that_is_not_positive_is_refused(bandwidth: float) -> None:
    with pytest.raises(UserError, match=r"jumprelu: bandwidth = .* must be positive"):
        JumpRelu(bandwidth=bandwidth)
