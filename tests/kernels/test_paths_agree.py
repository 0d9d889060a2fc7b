"""Training does not depend on the path: same seed, same losses."""

from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional

from musae.kernels import dispatch
from musae.kernels.adam import reference as adam_reference
from musae.kernels.auxk import reference as auxk_reference
from musae.kernels.sparse_decode import reference as decode_reference
from musae.kernels.topk_encode import reference as encode_reference
from musae.methods.topk import Topk
from musae.training import step

STEPS = 50
WIDTH, K, BATCH, D = 96, 6, 64, 24


def start() -> tuple[Topk, torch.Tensor]:
    """A dictionary in which every fourth latent starts dead, and frames with some structure."""
    torch.manual_seed(3)
    atoms = functional.normalize(torch.randn(40, D), dim=1)
    frames = (torch.rand(STEPS * BATCH, 40) * (torch.rand(STEPS * BATCH, 40) < 0.1)) @ atoms + 0.02 * torch.randn(
        STEPS * BATCH, D
    )
    topk = Topk(width=WIDTH, k=K, aux_k=8, learning_rate=1e-3)
    topk.parameters = {
        "W_enc": functional.normalize(torch.randn(WIDTH, D), dim=1),
        "b_enc": torch.where(torch.arange(WIDTH) % 4 == 0, -30.0, 0.0),
        "b_dec": torch.zeros(D),
    }
    topk.parameters["W_dec"] = topk.parameters["W_enc"].clone()
    topk.buffers = {
        "centre": frames.mean(0),
        "scale": torch.tensor(4.0),
        "silent": torch.zeros(WIDTH, dtype=torch.int64),
        "limit": torch.tensor(5 * BATCH),
    }
    return topk, frames


def losses(path: str | None) -> list[float]:
    """Losses of the product's training step, on one path."""
    topk, frames = start()
    moments = {f"{kind}.{name}": torch.zeros_like(p) for name, p in topk.parameters.items() for kind in ("avg", "sq")}
    for p in topk.parameters.values():
        p.requires_grad_()
    seen = []
    with dispatch.forced(path) if path else nullcontext():
        for number, x in enumerate(frames.split(BATCH), start=1):
            figures = step(topk, x, moments, number, 1e-3)
            assert figures is not None
            seen.append(float(figures["loss"]))
    return seen


def reference_losses() -> list[float]:
    """The same from the ops' references and autograd alone, in float64."""
    topk, frames = start()
    p = {name: t.double().requires_grad_() for name, t in topk.parameters.items()}
    moments = {name: (torch.zeros_like(t), torch.zeros_like(t)) for name, t in p.items()}
    silent, seen = torch.zeros(WIDTH, dtype=torch.int64), []
    for number, x in enumerate(frames.double().split(BATCH), start=1):
        z = (x - topk.buffers["centre"].double()) * 4
        values, indices = encode_reference(z, p["W_enc"], p["b_enc"], K)
        error = z - decode_reference(values, indices, p["W_dec"], p["b_dec"])
        loss = error.square().mean()
        silent += BATCH
        silent[indices[values > 0]] = 0
        dead = (silent > 5 * BATCH).nonzero().squeeze(1)
        if len(dead):
            loss = loss + topk.recipe.aux_weight * auxk_reference(z, error.detach(), p["W_enc"], p["b_enc"], p["W_dec"], dead, 8)
        grads = torch.autograd.grad(loss, list(p.values()))
        for (name, t), grad in zip(p.items(), grads, strict=True):
            new, *moments[name] = adam_reference(t.detach(), grad, *moments[name], number, 1e-3, name == "W_dec")
            p[name] = new.requires_grad_()
        seen.append(float(loss.detach()))
    return seen


def test_same_seed_same_losses(place) -> None:
    """Fifty steps with dead latents and their auxiliary loss: this path, the default one and the definition in float64."""
    if place.device.type != "cpu":
        pytest.skip("frames and parameters of this test lie on the CPU")
    expected = reference_losses()
    assert expected[-1] < 0.8 * expected[1], "the small case must learn"
    for path in (place.path, "portable"):
        found = losses(path)
        assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) < 1e-4, path
