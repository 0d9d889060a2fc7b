import torch
from torch.nn import functional

from musae.kernels.adam import adam


def test_many_steps_equal_torch_adam_in_float64() -> None:
    """Gradients that are 0 for some rows at some steps: moments of silent rows decay as torch's do."""
    param = torch.randn(12, 5, dtype=torch.float64)
    theirs = param.clone().requires_grad_()
    optimiser = torch.optim.Adam([theirs], lr=3e-3)
    mine, m, v, step = param.clone(), torch.zeros_like(param), torch.zeros_like(param), torch.zeros(())
    for _ in range(40):
        grad = torch.randn_like(param) * (torch.rand(12, 1) < 0.3)
        theirs.grad = grad.clone()
        optimiser.step()
        adam(mine, grad, m, v, step, 3e-3)
    assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-12)
    assert float(step) == 40


def test_atoms_stay_on_the_sphere_and_ignore_the_radial_gradient() -> None:
    atoms = functional.normalize(torch.randn(9, 6, dtype=torch.float64), dim=1)
    grad = torch.randn(9, 6, dtype=torch.float64)
    results = []
    for radial in (0.0, 50.0):
        state = [atoms.clone(), grad + radial * atoms, *(torch.zeros_like(atoms) for _ in range(2)), torch.zeros(())]
        results.append(adam(*state, lr=0.1, unit_norm=True)[0])
    assert torch.allclose(results[0].norm(dim=1), torch.ones(9, dtype=torch.float64))
    assert torch.allclose(results[0], results[1], atol=1e-9)
    assert not torch.allclose(results[0], atoms, atol=1e-3)
