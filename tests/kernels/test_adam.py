import gc
import weakref

import pytest
import torch
from torch.nn import functional

from musae.errors import UserError
from musae.kernels.adam import adam, reference
from musae.kernels.factored import Outer, collect
from musae.kernels.sparse_decode import sparse_decode
from musae.kernels.topk_encode import topk_encode
from musae.kernels.transposed import transpose


def test_many_steps_equal_torch_adam_in_float64() -> None:
    """Gradients that are 0 for some rows at some steps: moments of silent rows decay as torch's do."""
    param = torch.randn(12, 5, dtype=torch.float64)
    theirs = param.clone().requires_grad_()
    optimiser = torch.optim.Adam([theirs], lr=3e-3)
    mine, m, v = param.clone(), torch.zeros_like(param), torch.zeros_like(param)
    for step in range(1, 41):
        grad = torch.randn_like(param) * (torch.rand(12, 1) < 0.3)
        theirs.grad = grad.clone()
        optimiser.step()
        adam(mine, grad, m, v, step, 3e-3)
    assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-12)


def test_many_steps_on_every_path(place) -> None:
    """Forty steps in float32 against the float64 reference, of a matrix and of a vector."""
    for size, unit_norm in (((33, 20), True), ((33, 20), False), ((33,), False)):
        param = torch.randn(size, dtype=torch.float64)
        param = functional.normalize(param, dim=1) if unit_norm else param
        exact = [param, torch.zeros_like(param), torch.zeros_like(param)]
        mine = [t.float().to(place.device) for t in exact]
        for step in range(1, 41):
            grad = torch.randn(size, dtype=torch.float64) * (torch.rand(33) < 0.5).view(33, *(1,) * (len(size) - 1))
            exact = list(reference(exact[0], grad, *exact[1:], step, 3e-3, unit_norm))
            adam(mine[0], grad.float().to(place.device), *mine[1:], step, 3e-3, unit_norm)
        assert torch.allclose(mine[0].cpu().double(), exact[0], rtol=0, atol=2e-5)


def test_atoms_stay_on_the_sphere_and_ignore_the_radial_gradient(place) -> None:
    atoms = functional.normalize(torch.randn(9, 6), dim=1).to(place.device)
    grad = torch.randn(9, 6).to(place.device)
    results = []
    for radial in (0.0, 50.0):
        state = [atoms.clone(), grad + radial * atoms, *(torch.zeros_like(atoms) for _ in range(2))]
        results.append(adam(*state, step=1, lr=0.1, unit_norm=True)[0])
    assert torch.allclose(results[0].norm(dim=1), torch.ones(9, device=place.device))
    assert torch.allclose(results[0], results[1], atol=1e-4)
    assert not torch.allclose(results[0], atoms, atol=1e-3)


@pytest.mark.parametrize("unit_norm", [False, True])
@pytest.mark.parametrize("slots", [1, 5])
def test_a_factored_gradient_is_the_dense_one(place, unit_norm: bool, slots: int) -> None:
    """Hot latents (half of the slots), latents without slots, and slots of weight 0."""
    n, d, width = 70, 19, 48
    indices = torch.where(torch.rand(n, slots) < 0.5, 3, torch.randint(0, width - 8, (n, slots))).to(place.device)
    weights, rows = (torch.randn(n, slots) * (torch.rand(n, slots) < 0.8)).to(place.device), torch.randn(n, d).to(place.device)
    dense = torch.zeros(width, d, dtype=torch.float64, device=place.device)
    dense.index_add_(0, indices.flatten(), (weights.double().unsqueeze(2) * rows.double().unsqueeze(1)).flatten(0, 1))
    state = [functional.normalize(torch.randn(width, d), dim=1), 0.1 * torch.randn(width, d), 0.1 * torch.rand(width, d)]
    state = [t.to(place.device) for t in state]
    exact = reference(state[0].double(), dense, state[1].double(), state[2].double(), 7, 1e-2, unit_norm)
    adam(state[0], Outer(transpose(indices, weights, width), weights, rows), *state[1:], 7, 1e-2, unit_norm)
    for got, want in zip(state, exact, strict=True):
        assert torch.allclose(got.double(), want, rtol=0, atol=1e-5 * max(1.0, float(want.abs().max())))


def test_collected_factors_are_the_gradients_of_leaves(place) -> None:
    """A decoder and an encoder, and a second decoding of the same atoms: contributions add up."""
    x = torch.randn(30, 8).to(place.device)
    W_enc, W_dec = (torch.randn(40, 8).to(place.device).requires_grad_() for _ in range(2))
    b_enc, b_dec = (
        torch.zeros(40, device=place.device, requires_grad=True),
        torch.zeros(8, device=place.device, requires_grad=True),
    )

    def loss() -> torch.Tensor:
        values, indices = topk_encode(x, W_enc, b_enc, 4)
        return (x - sparse_decode(values, indices, W_dec, b_dec)).square().sum() + sparse_decode(
            values, indices, W_dec, b_dec
        ).square().sum()

    loss().backward()
    dense = {name: p.grad for name, p in {"enc": W_enc, "dec": W_dec, "b": b_enc}.items()}
    for p in (W_enc, W_dec, b_enc, b_dec):
        p.grad = None
    with collect() as factors:
        loss().backward()
    assert W_enc.grad is None
    assert W_dec.grad is None
    assert torch.allclose(b_enc.grad, dense["b"], atol=1e-4)
    assert (len(factors.of(W_enc)), len(factors.of(W_dec))) == (1, 2)
    for name, p in {"enc": W_enc, "dec": W_dec}.items():
        with torch.no_grad():
            one = [torch.zeros_like(p) for _ in range(2)]
            two = [torch.zeros_like(p) for _ in range(2)]
            a, _, _ = adam(p.detach().clone(), factors.of(p), *one, 1, 1e-2)
            b, _, _ = adam(p.detach().clone(), dense[name], *two, 1, 1e-2)
        assert torch.allclose(one[0], two[0], atol=1e-3), name
        assert torch.allclose(a, b, atol=1e-3), name


def test_factors_go_with_their_step() -> None:
    """Nothing of a step is kept alive by a cycle: memory would grow until Python looks for cycles."""
    x, W, W_dec = torch.randn(30, 8), torch.randn(40, 8, requires_grad=True), torch.randn(40, 8, requires_grad=True)
    gc.disable()
    try:
        with collect() as factors:
            values, indices = topk_encode(x, W, torch.zeros(40), 4)
            sparse_decode(values, indices, W_dec, torch.zeros(8)).square().sum().backward()
        kept = weakref.ref(factors.of(W_dec)[0].weights)
        assert kept() is not None
        del factors, values, indices
        assert kept() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"exp_avg": torch.zeros(4, 2)}, "exp_avg has the shape"),
        ({"param": torch.zeros(3, 4).T}, "not contiguous"),
        ({"param": torch.zeros(4, 3, dtype=torch.bfloat16)}, "master weights"),
        ({"grad": torch.zeros(4, 3, dtype=torch.int64)}, "int64"),
    ],
)
def test_bad_arguments_are_one_sentence(change: dict, says: str) -> None:
    arguments = {"param": torch.zeros(4, 3), "grad": torch.zeros(4, 3)}
    arguments |= {"exp_avg": torch.zeros(4, 3), "exp_avg_sq": torch.zeros(4, 3)} | change
    with pytest.raises(UserError, match=says):
        adam(**arguments, step=1, lr=1e-3)


def test_factors_of_another_code_are_refused() -> None:
    param = torch.zeros(6, 3)
    state = (torch.zeros(6, 3), torch.zeros(6, 3))
    by_latent = transpose(torch.randint(0, 6, (50, 2)), torch.ones(50, 2), 6)
    with pytest.raises(UserError, match="rows has the shape"):
        adam(param, Outer(by_latent, torch.ones(50, 2), torch.ones(50, 4)), *state, 1, 1e-3)
    with pytest.raises(UserError, match="weights has the shape"):
        adam(param, Outer(by_latent, torch.ones(50, 2), torch.ones(40, 3)), *state, 1, 1e-3)
    with pytest.raises(UserError, match="100 slots and there are 10 weights"):
        adam(param, Outer(by_latent, torch.ones(5, 2), torch.ones(5, 3)), *state, 1, 1e-3)
    with pytest.raises(UserError, match="step = 0"):
        adam(param, param, *state, 0, 1e-3)
