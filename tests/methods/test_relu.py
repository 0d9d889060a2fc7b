"""ReLU with either L1 penalty: gradients against the dense definition, and what freezing does to atoms of any length."""

import pytest
import torch

from musae.dictionary import TensorFrames
from musae.errors import UserError
from musae.methods.relu import Relu
from musae.testing import sample_frames


def started(penalty: str) -> tuple[Relu, torch.Tensor]:
    """A method with parameters in float64 that are not as they start, and scaled frames."""
    method = Relu(width=40, k=5, penalty=penalty)
    method.start(TensorFrames(sample_frames(300)))
    generator = torch.Generator().manual_seed(1)
    method.parameters = {
        name: (p + 0.1 * torch.randn(p.shape, generator=generator)).double().requires_grad_()
        for name, p in method.parameters.items()
    }
    method.buffers["coefficient"] = torch.tensor(0.7)
    return method, method.scaled(sample_frames(50)).double()


@pytest.mark.parametrize("penalty", ["unit_norm", "decoder_norm"])
def test_loss_and_gradients_are_those_of_the_definition(penalty: str) -> None:
    method, z = started(penalty)
    loss, figures, z_hat, _ = method.objective(z)
    p = method.parameters
    h = torch.relu(z @ p["W_enc"].T + p["b_enc"])
    dense = h @ p["W_dec"] + p["b_dec"]
    lengths = p["W_dec"].norm(dim=1) if penalty == "decoder_norm" else 1
    expected = ((z - dense).square().sum(1) + float(method.coefficient) * (h * lengths).sum(1)).mean() / z.shape[1]
    assert torch.allclose(z_hat, dense, rtol=1e-9)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    assert float(figures["l0"]) == pytest.approx(float((h > 0).sum(1).double().mean()))
    found = torch.autograd.grad(loss, list(p.values()))
    for name, mine, wanted in zip(p, found, torch.autograd.grad(expected, list(p.values())), strict=True):
        assert torch.allclose(mine, wanted, rtol=1e-7, atol=1e-12), name


def test_free_atoms_differ_in_length_while_they_learn_and_have_norm_1_when_frozen() -> None:
    frames = TensorFrames(sample_frames())
    sizes = {"width": 40, "k": 4, "batch_size": 50, "epochs": 2}
    free, unit = (Relu(**sizes, penalty=penalty).fit(frames) for penalty in ("decoder_norm", "unit_norm"))
    assert float(free.parameters["W_dec"].norm(dim=1).std()) > 1e-2
    assert torch.allclose(unit.parameters["W_dec"].norm(dim=1), torch.ones(40), atol=1e-5)
    assert torch.allclose(free.atoms.norm(dim=1), torch.ones(40), atol=1e-5)


def test_an_unknown_penalty_is_refused() -> None:
    with pytest.raises(UserError, match=r"relu: penalty = 'l2'.*unit_norm.*decoder_norm"):
        Relu(penalty="l2")
