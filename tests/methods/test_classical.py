"""Classical dictionaries against references and planted structure."""

import numpy as np
import pytest
import scipy.optimize
import torch
from sklearn.decomposition import PCA, FastICA
from torch.nn import functional

from musae.dictionary import SparseCode, TensorFrames
from musae.errors import UserError
from musae.methods.ica import Ica
from musae.methods.identity import Identity
from musae.methods.kmeans import Kmeans
from musae.methods.nmf import Nmf, code, split
from musae.methods.pca import Pca
from musae.testing import sample_frames


def test_the_code_of_scores_keeps_the_largest_magnitudes_with_their_signs():
    scores = torch.tensor([[0.5, -3.0, 2.0, 0.0], [0.0, 0.0, -1.0, 0.0]])
    assert SparseCode.from_scores(scores, 2).dense().tolist() == [[0, -3, 2, 0], [0, 0, -1, 0]]
    assert SparseCode.from_scores(scores, 9).dense().tolist() == scores.tolist()


def test_pca_has_the_axes_of_scikit_learn():
    x = sample_frames(500)
    mine, theirs = Pca(width=6, k=6).fit(TensorFrames(x)).atoms, PCA(6).fit(x.double().numpy()).components_
    assert torch.allclose((mine @ torch.from_numpy(theirs).float().T).abs(), torch.eye(6), atol=1e-4)


@pytest.fixture
def mixture() -> tuple[torch.Tensor, torch.Tensor]:
    """Frames ``[6000, 12]`` that mix 12 Laplacian sources off-centre, and the mixing directions ``[12, 12]``."""
    rng = np.random.default_rng(7)
    mixing = rng.standard_normal((12, 12))
    x = rng.laplace(size=(6000, 12)) @ mixing + np.arange(12)
    return torch.from_numpy(x).float(), functional.normalize(torch.from_numpy(mixing).float(), dim=1)


def test_ica_recovers_planted_sources_as_scikit_learn_does(mixture):
    x, directions = mixture
    ica = Ica(width=40, k=12).fit(TensorFrames(x))
    assert ica.width == 12
    found = (directions @ ica.atoms.T).abs().amax(1)
    theirs = FastICA(whiten="unit-variance", random_state=0).fit(x.double().numpy()).mixing_.T
    reference = (directions @ functional.normalize(torch.from_numpy(theirs).float(), dim=1).T).abs().amax(1)
    assert float(found.min()) > 0.98
    assert float((found - reference).abs().max()) < 0.01
    pca = Pca(width=12, k=12).fit(TensorFrames(x))
    assert float((directions @ pca.atoms.T).abs().amax(1).mean()) < 0.9


def test_ica_folds_its_whitening_into_unit_atoms_that_rebuild_the_frames(mixture):
    x, _ = mixture
    ica = Ica(width=12, k=12).fit(TensorFrames(x))
    assert torch.allclose(ica.atoms.norm(dim=1), torch.ones(12), atol=1e-5)
    assert torch.allclose(ica.decode(ica.encode(x)), x, atol=1e-3)
    assert bool((ica.encode(x).dense().var(0).diff() < 1e-2).all())


def test_ica_leaves_flat_directions_out(mixture):
    x = torch.cat([mixture[0][:1000], torch.ones(1000, 2)], 1)
    ica = Ica(width=40, k=5).fit(TensorFrames(x))
    assert ica.width == 12


def test_identity_by_hand():
    x = torch.tensor([[1.0, 10.0, 0.0], [3.0, 10.0, 6.0], [2.0, 40.0, 0.0]])  # means 2, 20, 2; variances 2/3, 200, 8
    whole = Identity(width=5, k=1).fit(TensorFrames(x))
    assert whole.atoms.tolist() == torch.eye(3).tolist()
    assert whole.encode(x).dense().tolist() == [[0, -10, 0], [0, -10, 0], [0, 20, 0]]
    two = Identity(width=2, k=2).fit(TensorFrames(x))
    assert two.atoms.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert two.encode(x[1:2]).dense().tolist() == [[-10, 4]]


def test_kmeans_finds_planted_directions_and_pursues_them():
    generator = torch.Generator().manual_seed(3)
    directions = functional.normalize(torch.randn(10, 16, generator=generator), dim=1)
    which = torch.randint(10, (4000,), generator=generator)
    x = (1 + torch.rand(4000, 1, generator=generator)) * directions[which] + 0.05 * torch.randn(4000, 16, generator=generator)
    x = torch.cat([x, -x])  # so that the mean is 0 and each direction has its opposite
    kmeans = Kmeans(width=60, k=2, iterations=20).fit(TensorFrames(x))
    found = (torch.cat([directions, -directions]) @ kmeans.tensors["centroids"].T).amax(1)
    assert float(found.min()) > 0.95
    assert bool((kmeans.encode(x).values > 0).all())
    left = (kmeans.decode(kmeans.encode(x)) - x).square().sum() / x.square().sum()
    assert float(left) < 0.05


def test_nmf_codes_are_those_of_brute_force_least_squares():
    """Values against SciPy's non-negative least squares on the factors that the pursuit chose."""
    generator = torch.Generator().manual_seed(5)
    factors = functional.normalize(
        torch.rand(20, 30, generator=generator) * (torch.rand(20, 30, generator=generator) < 0.3), dim=1
    )
    v = torch.rand(40, 20, generator=generator) ** 4 @ factors + 0.05 * torch.rand(40, 30, generator=generator)
    for k in (1, 4, 12):
        values, indices = code(v, factors, k, 500)
        assert bool((values >= 0).all())
        for row in range(len(v)):
            chosen = factors[indices[row][values[row] > 0]]
            best = scipy.optimize.nnls(chosen.T.double().numpy(), v[row].double().numpy())[1]
            mine = float((values[row] @ factors[indices[row]] - v[row]).norm())
            assert mine <= best + 2e-3 * float(v[row].norm()), (k, row)


def test_nmf_recovers_non_negative_parts_and_decodes_linearly():
    generator = torch.Generator().manual_seed(11)
    parts = torch.eye(8).repeat_interleave(3, 1)  # eight blocks of three columns
    weights = torch.rand(6000, 8, generator=generator) * (torch.rand(6000, 8, generator=generator) < 0.25)
    x = weights @ parts
    nmf = Nmf(width=32, k=16, iterations=50).fit(TensorFrames(x))
    factors = nmf.tensors["factors"]
    assert bool((factors >= 0).all())
    assert torch.allclose(nmf.atoms, factors[:, :24] - factors[:, 24:])
    left = (nmf.decode(nmf.encode(x)) - x).square().sum() / (x - x.mean(0)).square().sum()
    assert float(left) < 0.1
    assert split(torch.tensor([[1.0, -2.0]])).tolist() == [[1, 0, 0, 2]]


@pytest.mark.parametrize("method", [Ica, Identity, Kmeans, Nmf])
def test_bad_frames_are_named(method):
    x = sample_frames()
    x[77, 3] = float("nan")
    with pytest.raises(UserError, match="row 77"):
        method(width=16, k=2).fit(TensorFrames(x))
