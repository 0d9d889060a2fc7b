"""What each method promises beyond the contract."""

import secrets
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch.nn import functional

from musae.autoencoder import geometric_median
from musae.dictionary import FrameSource, TensorFrames
from musae.errors import UserError
from musae.kernels.auxk import auxk
from musae.methods.codec_means import CodecMeans
from musae.methods.pca import Pca
from musae.methods.random import Random
from musae.methods.topk import Topk
from musae.testing import sample_frames


@pytest.fixture
def seed() -> int:
    return secrets.randbelow(2**31)


def planted(atoms: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Frames with three active atoms each, far from the origin."""
    on = torch.rand(n, len(atoms), generator=generator).argsort(1)[:, :3]
    code = torch.zeros(n, len(atoms)).scatter_(1, on, 0.5 + torch.rand(n, 3, generator=generator))
    return 3 * code @ atoms + torch.linspace(-5, 5, atoms.shape[1])


def test_topk_finds_planted_atoms_and_random_does_not(seed: int) -> None:
    """Two seconds of training, with a seed drawn now: how many planted atoms have a learnt one at a cosine above 0.9."""
    generator = torch.Generator().manual_seed(seed)
    atoms = functional.normalize(torch.randn(64, 32, generator=generator), dim=1)
    frames = TensorFrames(planted(atoms, 24_000, generator))
    sizes = {"width": 96, "k": 3, "seed": seed}
    topk = Topk(**sizes, batch_size=256, learning_rate=1e-2, epochs=2).fit(frames)
    random = Random(**sizes).fit(frames)
    found = {d.name: (atoms @ functional.normalize(d.atoms, dim=1).T).amax(1).gt(0.9).float().mean() for d in (topk, random)}
    assert found["topk"] > 0.8, (seed, found)
    assert found["random"] < 0.2, (seed, found)


def test_freezing_folds_the_scaling_in() -> None:
    x = sample_frames()
    topk = Topk(width=40, k=4, batch_size=100).fit(TensorFrames(x))
    with torch.no_grad():
        loss, _ = topk.loss(x)
    left = (topk.decode(topk.encode(x)) - x) * topk.buffers["scale"]
    assert float(left.square().mean()) == pytest.approx(float(loss), rel=1e-4)
    assert torch.allclose(topk.atoms.norm(dim=1), torch.ones(40), atol=1e-5)


def test_shifted_and_scaled_frames_give_the_same_latents() -> None:
    x = sample_frames()
    one, two = (Topk(width=40, k=4, batch_size=100).fit(TensorFrames(y)) for y in (x, 64 * x + 32))
    a, b = one.encode(x).dense(), two.encode(64 * x + 32).dense() / 64
    assert float((a - b).abs().max()) < 1e-2 * float(a.max())


class HalfDead(Topk):
    """Starts with every other latent silent."""

    def start(self, frames: FrameSource) -> None:
        super().start(frames)
        self.parameters["b_enc"][::2] = -3


def test_dead_latents_are_revived_by_the_auxiliary_loss() -> None:
    x = sample_frames(2000)
    revived = {}
    for weight in (0.0, 1 / 32):
        topk = HalfDead(width=96, k=2, batch_size=100, epochs=8, aux_weight=weight, aux_k=8, dead_after=0.01)
        topk.fit(TensorFrames(x))
        revived[weight] = float(topk.encode(x).dense()[:, ::2].any(0).float().mean())
    assert revived[1 / 32] > revived[0.0] + 0.2, revived


@pytest.mark.parametrize("aux_k", [2, 4])
def test_auxiliary_gradient_reaches_encoder_and_decoder_of_dead_latents_only(aux_k: int) -> None:
    """With a selection among the dead (2 of 4) and without (4 of 4), against the definition."""
    x = sample_frames(200)
    topk = Topk(width=24, k=2, aux_k=aux_k)
    topk.start(TensorFrames(x))
    for tensor in topk.parameters.values():
        tensor.requires_grad_()
    dead = torch.tensor([3, 7, 8, 20])
    z = (x - topk.buffers["centre"]) * topk.buffers["scale"]
    p = topk.parameters
    auxk(z, z, p["W_enc"], p["b_enc"], p["W_dec"], dead, aux_k).backward()
    grads = {name: tensor.grad for name, tensor in topk.parameters.items()}

    p = {name: tensor.detach().clone().requires_grad_() for name, tensor in topk.parameters.items()}
    h = torch.relu(z @ p["W_enc"][dead].T + p["b_enc"][dead])
    h = h * (h >= h.topk(aux_k).values[:, -1:])
    ((z - h @ p["W_dec"][dead]).square().mean() / z.square().mean()).backward()
    for name in ("W_enc", "b_enc", "W_dec"):
        grad, expected = grads[name], p[name].grad
        assert grad is not None
        assert expected is not None
        assert torch.allclose(grad, expected, rtol=1e-3, atol=1e-7), name
        assert set(grad.view(24, -1).any(1).nonzero().squeeze(1).tolist()) == set(dead.tolist()), name


def test_geometric_median_ignores_far_outliers() -> None:
    x = torch.randn(501, 6)
    x[:50] += 1000
    assert float(geometric_median(x).norm()) < 1
    assert geometric_median(torch.ones(4, 3)).tolist() == [1, 1, 1]


def test_pca_is_the_eigenbasis_and_k_of_its_scores() -> None:
    x = sample_frames(400)
    pca = Pca(width=1000, k=5).fit(TensorFrames(x))
    assert torch.allclose(pca.atoms @ pca.atoms.T, torch.eye(24), atol=1e-5)
    scores = (x - x.mean(0)) @ pca.atoms.T
    assert bool((scores.var(0).diff() <= 1e-3).all())
    kept = scores.abs().topk(5).indices
    expected = torch.zeros_like(scores).scatter_(1, kept, scores.gather(1, kept))
    assert torch.allclose(pca.encode(x).dense(), expected, atol=1e-4)
    whole = Pca(width=24, k=24).fit(TensorFrames(x))
    assert torch.allclose(whole.decode(whole.encode(x)), x, atol=1e-4)


def test_random_decoder_solves_least_squares() -> None:
    x = sample_frames(3000)
    random = Random(width=32, k=4, seed=5).fit(TensorFrames(x))
    code = random.encode(x).dense().double().numpy()
    design = np.column_stack([code, np.ones(len(x))])
    best = np.linalg.lstsq(design, x.double().numpy(), rcond=None)[0]
    left = ((design @ best - x.double().numpy()) ** 2).sum()
    mine = float((random.decode(random.encode(x)) - x).double().square().sum())
    assert mine == pytest.approx(left, rel=1e-4)


def test_random_fits_on_so_many_frames_as_it_is_told() -> None:
    x = sample_frames(3000)
    seen = [Random(width=16, k=2, frames=frames).fit(TensorFrames(x)).trained["frames"] for frames in (1000, 9999)]
    assert seen == [1000, 3000]


@pytest.mark.parametrize("method", [Pca, Random])
def test_closed_forms_name_bad_frames_and_report_progress(method: type[Pca] | type[Random]) -> None:
    x = sample_frames()
    lines: list[Mapping[str, float]] = []
    method(width=16, k=2).fit(TensorFrames(x), reports=[lines.append])
    assert lines == [{"step": 1, "steps": 1}]
    x[77, 3] = float("nan")
    with pytest.raises(UserError, match="row 77"):
        method(width=16, k=2).fit(TensorFrames(x))


def test_codec_means_average_the_past_alone() -> None:
    x = torch.randn(2, 60, 3)
    y = CodecMeans(3, window=25).encode(x).view(2, 60, 9)
    for clip in range(2):
        for f in (0, 10, 24, 25, 59):
            past = x[clip, : f + 1]
            assert torch.allclose(y[clip, f], torch.cat([past[-1], past[-25:].mean(0), past.mean(0)]), atol=1e-5)
    short = CodecMeans(3, window=25).encode(x[:, :7])
    assert torch.allclose(short.view(2, 7, 9), y[:, :7], atol=1e-5)
