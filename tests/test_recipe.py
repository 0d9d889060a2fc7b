"""Options that all trainings share: what each does, on small numbers, and that bad ones are refused in words."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from musae import hyperparameters
from musae.dictionary import TensorFrames
from musae.errors import UserError
from musae.kernels import dispatch
from musae.methods.matryoshka import Matryoshka
from musae.methods.pca import Pca
from musae.methods.topk import Topk
from musae.recipe import Recipe
from musae.testing import sample_frames
from musae.training import Trainer, batches

SIZES = {"width": 48, "k": 4, "seed": 3}
SHORT = {"batch_size": 60, "epochs": 4, "aux_weight": 0.0}


def frames(n: int = 600) -> TensorFrames:
    return TensorFrames(sample_frames(n), "sample")


def fvu(method: Topk, x: torch.Tensor) -> float:
    return float((method.decode(method.encode(x)) - x).square().sum() / (x - x.mean(0)).square().sum())


def test_four_parts_of_a_batch_give_the_step_of_the_whole() -> None:
    whole, parts = (Topk(**SIZES, **SHORT, accumulate=n).fit(frames()) for n in (1, 4))
    for name, tensor in whole.tensors.items():
        assert float((parts.tensors[name] - tensor).norm() / tensor.norm()) < 1e-5, name


def test_a_batch_smaller_than_its_parts_is_a_step_too() -> None:
    topk = Topk(**SIZES, batch_size=8, accumulate=8, aux_weight=0.0).fit(frames(602))
    assert bool(topk.atoms.isfinite().all())


@pytest.mark.parametrize("path", ["portable", "extension"])
def test_bfloat16_trains_float32_masters_nearly_as_well(path: str) -> None:
    try:
        with dispatch.forced(path):
            pass
    except UserError as error:
        pytest.skip(str(error))
    x = sample_frames(3000)
    found = {}
    for precision in ("float32", "bfloat16"):
        with dispatch.forced(path):
            topk = Topk(**SIZES, batch_size=100, learning_rate=1e-2, precision=precision)
            trainer = Trainer(topk, TensorFrames(x))
            for batch in batches(topk, TensorFrames(x)):
                trainer.advance(batch)
            trainer.finish()
        assert {t.dtype for t in (*topk.parameters.values(), *trainer.moments.values())} == {torch.float32}
        masters = topk.parameters["W_enc"].detach()
        assert not torch.equal(masters, masters.bfloat16().float())
        found[precision] = fvu(topk.freeze(), x)
    assert found["bfloat16"] == pytest.approx(found["float32"], abs=0.01), found


class Counting(Topk):
    """Its only weight is b_dec, which a gradient of -1 and a fixed rate move by about one rate a step."""

    name = "topk"
    fixed = ("W_enc", "b_enc", "W_dec")

    def loss(self, x):
        return -self.parameters["b_dec"].sum(), {}


def test_averages_are_those_of_the_weights() -> None:
    """Adam's first steps with a constant gradient are the rate itself: the weight is 1, 2, 3 after steps 1, 2, 3."""
    method = Counting(**SIZES, batch_size=200, learning_rate=1.0, warmup=0.0, decay=0.0, ema=0.5)
    trainer = Trainer(method, frames())
    expected, weight = 0.0, []
    for number, batch in enumerate(batches(method, frames()), start=1):
        trainer.advance(batch)
        share = 1 - min(0.5, number / (number + 9))  # the memory grows: 1/10, 2/11, 3/12
        expected += share * (number - expected)
        weight.append(float(method.parameters["b_dec"].detach()[0]))
    assert weight == pytest.approx([1, 2, 3], rel=1e-4)
    trainer.finish()
    assert method.parameters["b_dec"].tolist() == pytest.approx([expected] * 24, rel=1e-4)


def test_frozen_averages_have_atoms_of_norm_one_and_are_not_the_last_weights() -> None:
    last, averaged = (Topk(**SIZES, **SHORT, ema=ema).fit(frames()) for ema in (0.0, 0.9))
    assert torch.allclose(averaged.atoms.norm(dim=1), torch.ones(48), atol=1e-6)
    assert not torch.allclose(averaged.atoms, last.atoms, atol=1e-4)
    assert fvu(averaged, frames()._x) < 0.8


def started(**options: object) -> tuple[Topk, Trainer]:
    method = Topk(**SIZES, **SHORT | options)
    trainer = Trainer(method, frames())
    for tensor in trainer.moments.values():
        tensor.fill_(1.0)
    method.buffers["silent"][[5, 17]] = 10**6
    return method, trainer


def test_dead_latents_start_anew_towards_bad_frames() -> None:
    method, trainer = started()
    x = frames()._x[:60]
    before = {name: p.detach().clone() for name, p in method.parameters.items()}
    method.resample(x, trainer.moments)
    p, dead = {name: p.detach() for name, p in method.parameters.items()}, [5, 17]
    living = torch.ones(48, dtype=torch.bool).index_fill(0, torch.tensor(dead), False)
    z = functional.normalize(method.scaled(x) - before["b_dec"], dim=1)
    for latent in dead:
        atom = p["W_dec"][latent]
        assert float((z @ atom).max()) == pytest.approx(1, abs=1e-5)
        assert torch.allclose(p["W_enc"][latent], 0.2 * before["W_enc"][living].norm(dim=1).mean() * atom, atol=1e-6)
    for name in ("W_enc", "b_enc", "W_dec"):
        assert torch.equal(p[name][living], before[name][living])
        for kind in ("avg", "sq"):
            moment = trainer.moments[f"{kind}.{name}"]
            assert not moment[dead].any()
            assert bool((moment[living] == 1).all())
    assert method.buffers["silent"][dead].tolist() == [0, 0]


def test_resampling_is_drawn_by_seed() -> None:
    found = []
    for seed in (3, 3, 4):
        method, trainer = started()
        method.seed = seed
        method.resample(frames()._x[:60], trainer.moments)
        found.append(method.parameters["W_dec"].detach()[[5, 17]].clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_nothing_dead_nothing_done() -> None:
    method, trainer = started()
    method.buffers["silent"].zero_()
    before = method.parameters["W_dec"].detach().clone()
    method.resample(frames()._x[:60], trainer.moments)
    assert torch.equal(method.parameters["W_dec"].detach(), before)


def test_resampling_comes_evenly_before_the_decay() -> None:
    recipe = Recipe(resample=3, decay=0.2)
    assert [step for step in range(1, 101) if recipe.resamples(step, 100)] == [20, 40, 60]
    assert not any(Recipe().resamples(step, 100) for step in range(1, 101))


def test_dead_after_is_a_share_of_the_frames_of_the_run() -> None:
    """600 frames, 4 epochs: 2,400; a hundredth is 24 frames, so a latent is dead from the 25th silent frame on."""
    method, _ = started(dead_after=0.01)
    method.buffers["silent"][:] = torch.tensor([23, 24] * 24)
    fired = torch.zeros(48, dtype=torch.int64)
    fired[1] = 2
    assert method.count(fired, rows=1).tolist() == list(range(3, 48, 2))
    assert method.buffers["silent"][:4].tolist() == [24, 0, 24, 25]


def test_a_trainer_driven_by_hand_gives_what_fit_gives() -> None:
    method = Topk(**SIZES, **SHORT)
    trainer = Trainer(method, frames())
    for batch in frames().batches(60, seed=3, epochs=4):
        trainer.advance(batch)
    trainer.finish()
    assert method.freeze().content_hash == Topk(**SIZES, **SHORT).fit(frames()).content_hash


BAD = {
    "batch_size": (0, 2.5, True),
    "learning_rate": (0, -1.0, float("nan"), "fast"),
    "epochs": (0, 1.5),
    "warmup": (-0.1, 1.1),
    "decay": (-0.1, 2, None),
    "accumulate": (0, 2000, 1.5),
    "precision": ("half", 16),
    "ema": (1.0, -0.1),
    "dead_after": (0, -1),
    "aux_weight": (-1, float("nan")),
    "aux_k": (0, 1.5),
    "resample": (-1, 0.5),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_is_one_sentence_that_names_it(name: str, value: object) -> None:
    with pytest.raises(UserError) as raised:
        Topk(**{name: value})
    assert str(raised.value).startswith(f"topk: {name} = {value!r} must be ")
    assert str(raised.value).endswith("; choose another.")
    assert "\n" not in str(raised.value)


def test_an_unknown_option_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match=r"topk: no option named 'learning_rat'; did you mean 'learning_rate'\?"):
        Topk(learning_rat=1e-3)


def test_texts_become_values_of_the_constructor_types() -> None:
    texts = hyperparameters.assignments(["learning_rate=1e-3", "batch-size=64", "aux_k=None", "precision=bfloat16"])
    assert hyperparameters.typed(Topk, texts) == {
        "learning_rate": 1e-3, "batch_size": 64, "aux_k": None, "precision": "bfloat16",
    }  # fmt: skip
    assert list(hyperparameters.typed(Matryoshka, {"prefixes": "0.25, 1"})["prefixes"]) == [0.25, 1.0]
    assert hyperparameters.types(Pca).keys() == {"width", "k", "seed"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["learning_rate"], "write NAME=VALUE"),
        (["lerning_rate=1"], "did you mean 'learning_rate'"),
        (["epochs=two"], "epochs = 'two' must be a whole number"),
        (["precision=half"], "must be 'float32' or 'bfloat16'"),
        (["aux_k=many"], "must be a whole number, or none"),
    ],
)
def test_bad_settings_are_one_sentence(settings: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        hyperparameters.typed(Topk, hyperparameters.assignments(settings), "--set")
