"""Controls and the supervised ceiling: what each breaks or is given, and that every suite runs every control."""

import pytest
import torch
from torch.nn import functional

from musae import registry
from musae.card import SuiteCard
from musae.dictionary import LabelledTensorFrames, TensorFrames
from musae.errors import UserError
from musae.evaluation import jobs
from musae.methods.permuted_decoder import PermutedDecoder, derangement
from musae.methods.probe_directions import ProbeDirections
from musae.methods.topk import Topk
from musae.suites.quick import CARD as QUICK
from musae.testing import sample_frames
from musae.workspace import Workspace


@pytest.mark.parametrize("name", [name for name in registry.entries("suites") if "/" not in name])
def test_every_suite_runs_every_control(name):
    suite = registry.find("suites", name).card
    controls = {name for name, entry in registry.entries("methods").items() if "/" not in name and entry.card.role == "control"}
    assert isinstance(suite, SuiteCard)
    assert controls <= {job.method for job in jobs(suite)}
    assert all({job.seed for job in jobs(suite) if job.method == c} == set(suite.seeds_of(c)) for c in controls)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"control_seeds": ()}, "never fitted"),
        ({"control_seeds": (9,)}, "must be among seeds"),
        ({"controls": ("random",)}, "random is listed twice"),
    ],
)
def test_a_suite_says_what_is_wrong_with_its_controls(change, says):
    with pytest.raises(ValueError, match=says):
        SuiteCard(**{**QUICK.model_dump(), **change})


@pytest.mark.parametrize("n", [2, 3, 50])
def test_a_derangement_leaves_nothing_in_its_place(n):
    places = derangement(n, 4)
    assert sorted(places.tolist()) == list(range(n))
    assert bool((places != torch.arange(n)).all())
    assert places.tolist() == derangement(n, 4).tolist()


def test_a_permuted_decoder_has_the_codes_of_topk_and_others_atoms():
    x = sample_frames()
    sizes = {"width": 40, "k": 4, "seed": 2, "batch_size": 100}
    topk, permuted = (cls(**sizes).fit(TensorFrames(x)) for cls in (Topk, PermutedDecoder))
    assert torch.equal(topk.encode(x).dense(), permuted.encode(x).dense())
    assert torch.equal(topk.atoms[derangement(40, 2)], permuted.atoms)
    fvu = [float((d.decode(d.encode(x)) - x).square().sum() / (x - x.mean(0)).square().sum()) for d in (topk, permuted)]
    assert fvu[1] > fvu[0] + 0.2


def planted() -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
    """Frames to which a class of five and a yes-or-no concept each add a direction, their labels, and directions ``[6, 16]``."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0][:6]
    five, yes = torch.randint(5, (4000,), generator=generator), torch.randint(2, (4000,), generator=generator)
    x = 2 * directions[five] + 2 * yes[:, None] * directions[5] + 0.3 * torch.randn(4000, 16, generator=generator) + 5
    labels = {"five": five.masked_fill(torch.arange(4000) < 500, -1), "yes": yes, "nothing": torch.full((4000,), -1)}
    return x, labels, directions


def test_probe_directions_recover_planted_ones():
    x, labels, directions = planted()
    probes = ProbeDirections(width=20, k=3).fit(LabelledTensorFrames(x, labels))
    assert probes.trained["classes"] == ["five 0", "five 1", "five 2", "five 3", "five 4", "yes 1"]
    others = (directions[:5].sum(0) - directions[:5]) / 4  # a class is told from the rest, not from nothing
    expected = torch.cat([directions[:5] - others, directions[5:]])
    assert float(functional.cosine_similarity(probes.atoms, expected).min()) > 0.99
    code = probes.encode(x).dense()
    known = labels["five"] >= 0
    assert float((code[:, :5].argmax(1) == labels["five"])[known].float().mean()) > 0.99
    assert float(((code[:, 5] > 0).long() == labels["yes"]).float().mean()) > 0.99


def test_a_probe_is_the_log_likelihood_ratio_of_two_gaussians():
    """Against the textbook's formula, with the covariance within the two sides."""
    x, labels, _ = planted()
    probes = ProbeDirections(width=20, k=6).fit(LabelledTensorFrames(x, {"yes": labels["yes"]}))
    sides = [x[labels["yes"] == side].double() for side in (0, 1)]
    within = sum(((s - s.mean(0)).T @ (s - s.mean(0)) for s in sides), torch.zeros(16, 16)) / len(x)
    w = torch.linalg.solve(within, sides[1].mean(0) - sides[0].mean(0))
    ratio = (x.double() - (sides[0].mean(0) + sides[1].mean(0)) / 2) @ w
    assert torch.allclose(probes.encode(x).dense()[:, 0].double(), ratio.clamp_min(0), rtol=1e-3, atol=1e-3)


def test_probe_directions_refuse_missing_labels_and_too_little_width():
    x, labels, _ = planted()
    with pytest.raises(UserError, match="no labels to learn from"):
        ProbeDirections(width=20, k=3).fit(TensorFrames(x))
    with pytest.raises(UserError, match="6 classes, and the width is 5"):
        ProbeDirections(width=5, k=3).fit(LabelledTensorFrames(x, labels))
    with pytest.raises(UserError, match="one class a frame"):
        LabelledTensorFrames(x, {"five": labels["five"][:7]})


def test_a_generator_without_random_weights_is_named(tmp_path, monkeypatch):
    workspace = Workspace(QUICK, tmp_path)
    monkeypatch.setitem(workspace.__dict__, "generator", object())
    with pytest.raises(UserError, match="'nano' has no method untrained"):
        workspace.generator_of("untrained")
