"""A direction that is a concept by construction is found; a concept that no direction controls is reported as no effect."""

import numpy as np
import pytest
import torch
from steered_toy import HALF, Toy

from musae.errors import UserError
from musae.methods.random import Random
from musae.steering import pitch, quality
from musae.steering.concepts import Concept
from musae.steering.continuations import UNSTEERED, Continuations, Prompts
from musae.steering.ears import Ear
from musae.steering.experiment import Design, Experiment
from musae.steering.paper_rule import exemplars
from musae.steering.reference import Reference, latents, probe_directions

LOUD, LUCK = Concept("first", "loud", 0), Concept("second", "loud", 0)
SOFT = Concept("first", "soft", 0, -1)


def half(index):
    """Measures the mean level of the first, or of the second, halves of the frames."""
    return lambda audio, rate: np.array([np.abs(audio.reshape(-1, 2, HALF)[:, index]).mean()])


TONAL = Ear("quality", ("tonality", "distance"), lambda audio, rate: np.array([pitch.listen(audio, rate).tonality, 0.0]), "1")
DEAF = Ear("quality", ("tonality", "distance"), lambda audio, rate: np.zeros(2), "0")
EARS = {kind: Ear(kind, ("level",), half(i), "1") for i, kind in enumerate(("first", "second"))}


@pytest.fixture
def dictionary():
    """Latents 0 and 1 both fire where the first codebook is loud; only 0 writes along the direction that makes it so. 2 fires
    where it is soft and writes so; 3 never fires; the others read and write the noise."""
    axes = torch.eye(8)
    made = Random(width=8, k=8)
    reads = torch.stack([axes[0], axes[0], -axes[0], axes[1], axes[4], axes[5], axes[6], axes[7]])
    writes = torch.stack([axes[0], axes[2], -axes[0], axes[3], axes[4], axes[5], axes[6], axes[7]])
    bias = torch.zeros(8)
    bias[3] = -100.0
    made.tensors = {"W_enc": reads, "b_enc": bias, "W_dec": writes, "b_dec": torch.zeros(8)}
    return made


@pytest.fixture
def make(tmp_path, dictionary):
    def experiment(toy=None, soft=False, judge=DEAF, **design):
        toy, draw = toy or Toy(), torch.Generator().manual_seed(1)
        codes = torch.randint(0, 16, (150, 2, 8), generator=draw)
        x = toy.stream(codes[40:], (1,))[1].flatten(0, 1)
        if soft:
            codes[:40, 0] //= 4
        loud = (x[:, 0] > 0).long()
        labels = {LOUD.name: loud, SOFT.name: 1 - loud, LUCK.name: (x[:, 4] > 0).long()}
        reference = Reference(x, labels)
        return Experiment(
            dictionary=dictionary,
            reference=reference,
            latents=latents(dictionary, reference),
            probes=probe_directions(reference),
            ears=EARS,
            quality=judge,
            continuations=Continuations(toy, 1, 20, tmp_path),
            development=Prompts(codes[:16], tuple(map(str, range(16)))),
            fresh=Prompts(codes[16:40], tuple(map(str, range(16, 40)))),
            design=Design(**{"candidates": 3, "random": 6, "seeds": 1, "strengths": (0.5, 1.0), "budget": 1.0} | design),
        )

    return experiment


def test_the_direction_that_is_the_concept_is_found_and_luck_is_not(make, dictionary):
    experiment = make()
    loud, soft, luck = experiment.run([LOUD, SOFT, LUCK])
    assert (loud.latents, soft.latents) == ((0,), (2,))
    assert (loud.verdict, soft.verdict, luck.verdict) == ("effect", "effect", "no effect")
    assert loud.beyond_random.low > 0
    assert loud.rank == 0
    assert loud.p_holm < 0.001 < luck.p_holm
    steered, reversed_, ablated = (loud.row(name) for name in ("steered", "reversed", "ablated"))
    assert steered.shift.low > 0 > reversed_.shift.high
    assert steered.off_target < 0.25 * steered.standardised
    assert loud.row("probe").shift.low > 0
    assert ablated.shift.value < steered.shift.value
    added = loud.alpha * loud.beta[0] * dictionary.atoms[0]
    assert float(added.norm()) == pytest.approx(loud.strength * experiment.reference.spread, rel=1e-5)


def test_controls_have_the_norm_of_what_they_control(make):
    experiment = make()
    plain = torch.zeros(1, 1, 8)
    [found] = experiment.run([LOUD])
    norms = [what.splice(plain).norm() for what in experiment.examples(LOUD, found).values() if what is not UNSTEERED]
    assert norms == pytest.approx([found.strength * experiment.reference.spread] * 4, rel=1e-5)


def test_development_keeps_to_the_budget(make, monkeypatch):
    """Where whatever is added puts a fifth of the continuations beyond a bound for each unit of its norm."""

    def beyond(self, prompts, what, seeds):
        share = min(1.0, float(what.splice(torch.zeros(1, 1, 8)).norm()) / 5)
        return dict.fromkeys(quality.NAMES, 0.0) | {"unlike": share}

    monkeypatch.setattr(Experiment, "_beyond", beyond)
    design = {"strengths": (0.2, 2.0), "candidates": 1}
    [free] = make(budget=1.0, **design).run([LOUD])
    [thrifty] = make(budget=0.2, **design).run([LOUD])
    [broke] = make(budget=0.02, **design).run([LOUD])
    assert (free.strength, thrifty.strength, broke.strength) == (2.0, 0.2, 0.2)
    assert [one.kept_in_development for one in (free, thrifty, broke)] == [True, True, False]
    assert [one.verdict for one in (free, thrifty, broke)] == ["effect", "effect", "spoilt"]


class Deaf(Toy):
    """Its loss tells nothing."""

    revision = "deaf"

    def loss(self, codes, layer=None, splice=None):
        return torch.zeros(len(codes), 2)


class Hissing(Deaf):
    """Where the first halves are loud, they are white noise."""

    revision = "hissing"

    def decode(self, codes):
        halves = super().decode(codes).unflatten(1, (-1, 2, HALF))
        hiss = torch.randn(halves[:, :, 0].shape, generator=torch.Generator().manual_seed(0))
        loud = codes[:, 0, :, None] > 9
        halves[:, :, 0] = torch.where(loud, hiss * halves[:, :, 0].abs().amax(2, keepdim=True), halves[:, :, 0])
        return halves.flatten(1)


def test_what_becomes_noise_is_no_effect(make):
    """Though the noise is loud, as the concept asks, and the generator's loss is content with it."""
    design = {"soft": True, "judge": TONAL, "strengths": (1.0,), "budget": 0.5}
    (music,), (noise,), (free,) = (
        make(toy, **design).run([LOUD])
        for toy, design in ((Deaf(), design), (Hissing(), design | {"latents": (0,)}), (Hissing(), design))
    )
    assert (free.latents, free.verdict) == ((1,), "no effect")  # development leaves the latent that makes noise
    assert noise.beyond_random.low > 0.2
    assert noise.p_holm < 0.001
    assert (music.verdict, noise.verdict) == ("effect", "spoilt")
    assert music.row("steered").beyond["tonality"] == 0.0
    assert noise.row("steered").beyond["tonality"] > 0.7


def test_luck_puts_few_beyond_the_bounds(make):
    luck = make(judge=TONAL).unsteered()
    assert set(luck.bounds) == set(luck.beyond) == set(quality.NAMES)
    assert max(luck.beyond.values()) < 0.35


def test_what_was_computed_is_kept(make):
    first = make()
    found = first.run([LOUD])
    again = make()
    assert again.run([LOUD]) == found
    assert first.continuations.made > 0 == again.continuations.made


def test_latents_that_are_asked_for_are_steered_together(make):
    [found] = make(latents=(0, 1)).run([LOUD])
    assert found.latents == (0, 1)
    assert len(found.beta) == 2


def test_bad_latents_and_concepts_of_which_nothing_is_known(make):
    with pytest.raises(UserError, match=r"--latent 3: never fires .* choose one that does"):
        make(latents=(3,)).run([LOUD])
    with pytest.raises(UserError, match=r"latent 8: .* latents 0 to 7"):
        make(latents=(8,)).run([LOUD])
    unknown, loud = make().run([Concept("first", "unlabelled", 0), LOUD])
    assert unknown.verdict == "unscored"
    assert unknown.unscored == "no training clip is annotated for it"
    assert loud.verdict == "effect"
    assert loud.p_holm == loud.beyond_random.p


def test_exemplars_are_the_clips_in_which_latents_peak(dictionary):
    x = torch.zeros(30, 5, 8)
    x[7, 2, 4], x[3, 1, 4], x[21, 0, 5] = 3.0, 2.0, 1.0

    class Store:
        tokens = range(30)

        def clips(self, index):
            yield x[index]

    alone, both = exemplars(dictionary, Store(), [(4,), (4, 5)], np.array([1.0, 1, 1, 1, 3, 0.5, 1, 1]))
    assert alone[:2].tolist() == [7, 3]
    assert both[:3].tolist() == [21, 7, 3]
