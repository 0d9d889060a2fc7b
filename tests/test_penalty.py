"""What the methods with a penalty share: the coefficient that is steered, L0 that arrives at k, a start with sparse codes."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from musae import penalty
from musae.dictionary import TensorFrames
from musae.errors import UserError
from musae.methods.gated import Gated
from musae.methods.jumprelu import JumpRelu
from musae.methods.p_anneal import PAnneal
from musae.methods.relu import Relu
from musae.penalty import FAR, GAIN, NEAR, RATE, START, Penalised
from musae.testing import sample_frames

METHODS = [Relu, Gated, PAnneal, JumpRelu]
SMALL = {"width": 40, "k": 4, "seed": 3, "batch_size": 50, "epochs": 2}
STEP = RATE * 1e-2
"""What an error of 1 adds to the integral at a learning rate of 1e-2."""
every_method = pytest.mark.parametrize("method", METHODS)


def planted(n: int, seed: int = 1) -> torch.Tensor:
    """Frames with three active atoms each, of 64 in 32 dimensions."""
    generator = torch.Generator().manual_seed(seed)
    atoms = functional.normalize(torch.randn(64, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    on = torch.rand(n, 64, generator=generator).argsort(1)[:, :3]
    code = torch.zeros(n, 64).scatter_(1, on, 0.5 + torch.rand(n, 3, generator=generator))
    return 3 * code @ atoms + torch.linspace(-5, 5, 32)


def steered(progress: float, l0: list[float], **options: float) -> tuple[float, float]:
    """Integral and coefficient after some batches' L0, where k is 8."""
    method = Relu(width=64, k=8, sparsity_warmup=0.25, **{"learning_rate": 1e-2, **options})
    method.start(TensorFrames(sample_frames(100)))
    method.progress = progress
    for value in l0:
        method.steer(torch.tensor(value))
    return float(method.buffers["integral"]), float(method.buffers["coefficient"])


def test_the_target_falls_to_k_during_the_sparsity_warm_up() -> None:
    method = Relu(k=8, sparsity_warmup=0.25)
    course = []
    for progress in (0, 0.125, 0.25, 1):
        method.progress = progress
        course.append(method.target)
    assert course == pytest.approx([8 * START, 8 * START**0.5, 8, 8])
    method.sparsity_warmup = 0.0
    method.progress = 0.0
    assert method.target == 8


def test_the_coefficient_follows_the_logarithm_of_the_error() -> None:
    """At full learning rate: twice an error of 0.2, then none: the integral stays, the proportional part goes."""
    assert steered(0.5, [8 * math.exp(0.2)] * 2) == pytest.approx((0.4 * STEP, math.exp(0.4 * STEP + 0.2 * GAIN)))
    assert steered(0.5, [8 * math.exp(0.2), 8]) == pytest.approx((0.2 * STEP, math.exp(0.2 * STEP)))
    assert steered(0.5, [8 * math.exp(-0.2)]) == pytest.approx((-0.2 * STEP, math.exp(-0.2 * STEP - 0.2 * GAIN)))


def test_far_errors_count_no_more_than_so_much() -> None:
    assert steered(0.5, [0.0]) == pytest.approx((-NEAR * STEP, math.exp(-NEAR * STEP - FAR * GAIN)))


def test_the_integral_slows_down_with_the_learning_rate_and_counts_parts_of_a_batch_as_parts() -> None:
    l0 = [8 * math.exp(0.2)]
    assert steered(0.85, l0, decay=0.3)[0] == pytest.approx(0.5 * 0.2 * STEP)
    assert steered(0.85, l0, decay=0.0)[0] == pytest.approx(0.2 * STEP)
    assert steered(0.5, l0, accumulate=4)[0] == pytest.approx(0.25 * 0.2 * STEP)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_warm_up_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(UserError, match=r"relu: sparsity_warmup = .*from 0 to 1"):
        Relu(sparsity_warmup=share)


@every_method
def test_every_latent_fires_at_the_start_and_l0_is_the_first_target(method: type[Penalised]) -> None:
    dictionary = method(width=64, k=4)
    x = sample_frames(2000)
    dictionary.start(TensorFrames(x))
    with torch.no_grad():
        _, figures, _, fired = dictionary.objective(dictionary.scaled(x))
    assert float(figures["l0"]) == pytest.approx(START * 4, rel=0.1)
    assert int(fired.min()) > 0


@every_method
def test_l0_arrives_at_k(method: type[Penalised]) -> None:
    """Held-out frames, frozen dictionaries, half a thousand steps, for it takes some to arrive: a second or two a method."""
    x = planted(32_000)
    dictionary = method(width=96, k=3, batch_size=64, learning_rate=1e-2).fit(TensorFrames(x[:-2000]))
    code = dictionary.encode(x[-2000:])
    assert len(code.values) / 2000 == pytest.approx(3, rel=0.05)


def gap(dictionary: Penalised, x: torch.Tensor) -> float:
    """How far the frozen reconstruction is from the trained one, of the size of z."""
    z = dictionary.scaled(x)
    frozen = dictionary.scaled(dictionary.decode(dictionary.encode(x)))
    return float((frozen - dictionary.reconstruct(z)).norm() / z.norm())


@pytest.mark.parametrize(
    ("method", "options"),
    [*((m, {}) for m in METHODS), (Relu, {"penalty": "decoder_norm"})],
    ids=str,
)
def test_the_frozen_dictionary_is_the_trained_one(method: type[Penalised], options: dict[str, str]) -> None:
    x = sample_frames()
    dictionary = method(**SMALL, **options).fit(TensorFrames(x))
    assert gap(dictionary, x) < 1e-4
    assert torch.allclose(dictionary.atoms.norm(dim=1), torch.ones(40), atol=1e-5)


class Cut(TensorFrames):
    """A source that breaks off at the 17th step."""

    def batches(self, batch_size: int, *, seed: int, epochs: int = 1, start_step: int = 0):
        for step, x in enumerate(super().batches(batch_size, seed=seed, epochs=epochs, start_step=start_step), start_step):
            if step == 17:
                raise RuntimeError("power cut")
            yield x


@every_method
def test_resumed_training_equals_uninterrupted_bit_for_bit(method: type[Penalised], tmp_path: Path) -> None:
    x = sample_frames()
    options = {**SMALL, "resample": 2, "dead_after": 0.05}
    whole = method(**options).fit(TensorFrames(x))
    with pytest.raises(RuntimeError, match="power cut"):
        method(**options).fit(Cut(x), folder=tmp_path)
    assert method(**options).fit(TensorFrames(x), folder=tmp_path).content_hash == whole.content_hash


@every_method
def test_bfloat16_is_close_to_float32(method: type[Penalised]) -> None:
    x = planted(8000)
    left = {}
    for precision in ("float32", "bfloat16"):
        dictionary = method(width=96, k=3, batch_size=100, precision=precision).fit(TensorFrames(x))
        assert dictionary.parameters["W_enc"].dtype == torch.float32
        left[precision] = float((dictionary.decode(dictionary.encode(x)) - x).square().sum() / (x - x.mean(0)).square().sum())
    assert left["bfloat16"] == pytest.approx(left["float32"], rel=0.1)


@every_method
def test_resampled_latents_fire_again_about_as_often_as_others(method: type[Penalised]) -> None:
    """Every other latent is shut for good, then resampled."""
    dictionary = method(width=40, k=4, dead_after=0.05)
    x = sample_frames()
    dictionary.start(TensorFrames(x))
    moments = {f"{kind}.{name}": torch.ones_like(p) for name, p in dictionary.parameters.items() for kind in ("avg", "sq")}
    shut = dictionary.opened(torch.full((20,), 1e3))
    for name, rows in shut.items():
        dictionary.parameters[name][::2] = rows
    dictionary.buffers["silent"][::2] = 10_000
    before = {name: p.clone() for name, p in dictionary.parameters.items()}
    dictionary.resample(x, moments)
    fired = dictionary.objective(dictionary.scaled(x))[3]
    assert float(fired[::2].double().mean()) == pytest.approx(len(x) * 4 / 40, rel=0.3)
    for name, p in dictionary.parameters.items():
        if name != "b_dec":
            assert torch.equal(p[1::2], before[name][1::2]), name
            assert float(moments[f"avg.{name}"][::2].sum()) == 0, name
            assert float(moments[f"sq.{name}"][1::2].min()) == 1, name


def test_a_level_is_exceeded_in_a_share_of_the_frames() -> None:
    z = torch.arange(1.0, 101).unsqueeze(1)
    assert penalty.level(z, torch.tensor([[1.0], [2.0], [-1.0]]), 0.1).tolist() == [90, 180, 0]
    assert penalty.level(z, torch.ones(1, 1), 0.9).tolist() == [50]


SCRIPT = """
import sys, torch
from musae import parallel, registry
from musae.dictionary import TensorFrames
from musae.testing import sample_frames
torch.set_num_threads(1)
with parallel.group():
    for name in ("relu", "gated", "p_anneal", "jumprelu"):
        dictionary = registry.load("methods", name).METHOD(width=40, k=4, batch_size=51, resample=1, dead_after=0.05)
        dictionary.fit(TensorFrames(sample_frames()))
        if parallel.rank() == 0:
            torch.save({**dictionary.tensors, **dictionary.buffers}, f"{sys.argv[1]}/{name}-{parallel.size()}.pt")
"""


def test_two_processes_take_the_steps_that_one_takes(tmp_path: Path) -> None:
    """Starts three interpreters, two of them at once: a few seconds."""
    running = []
    for size in (1, 2):
        port = str(20_000 + os.getpid() % 20_000)
        for rank in range(size):
            world = {"WORLD_SIZE": str(size), "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
            running.append(subprocess.Popen(command, env={**os.environ, **world}))
    assert [process.wait(timeout=240) for process in running] == [0, 0, 0]
    for method in METHODS:
        one, two = (torch.load(tmp_path / f"{method.name}-{size}.pt", weights_only=True) for size in (1, 2))
        assert one.keys() == two.keys()
        for name in one:
            assert torch.allclose(one[name].double(), two[name].double(), rtol=1e-3, atol=1e-3), (method.name, name)
