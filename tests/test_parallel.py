"""Two processes that torchrun starts train what one process trains, for every method that learns in steps.

About 20 seconds: the two processes load PyTorch, and train a dozen methods for a hundred steps each, a few sums over processes a
step; they are started once for all methods.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from parallel_worker import FRAMES, OPTIONS, RECIPE, SIZES, frames, state, trained, trained_methods
from safetensors.torch import load_file

from musae import parallel, registry
from musae.training import GradientMethod

TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}
"""Norm of the difference of a parameter, relative to its own, after a hundred steps. Sums over rows are taken in another order:
1e-7 is what most methods show, and a choice that falls otherwise by rounding can move a row by a step."""
PURSUIT = 5e-3
"""The same for matching pursuit: k greedy choices a frame often fall otherwise."""


def unexplained(method: GradientMethod, x: torch.Tensor) -> float:
    """Fraction of variance unexplained; frames of a causal method are one clip."""
    code = method.encode(x if method.context == "frame" else x[None])
    return float((method.decode(code) - x).square().sum() / (x - x.mean(0)).square().sum())


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    worker = str(Path(__file__).with_name("parallel_worker.py"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", worker, str(folder)]
    done = subprocess.run(torchrun, capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.parametrize("case", [*trained_methods(), *OPTIONS])
def test_two_processes_train_what_one_trains(two_processes: Path, case: str) -> None:
    torch.set_num_threads(1)
    method = trained(case)
    one = state(method)
    first, second = (load_file(two_processes / f"{case}.{rank}.safetensors") for rank in (0, 1))
    assert one.keys() == first.keys() == second.keys()
    for name, expected in one.items():
        assert torch.equal(first[name], second[name]), f"{name} differs between the processes"
        if not expected.is_floating_point():
            assert torch.equal(first[name], expected), f"{name}: counted otherwise than by one process"
            continue
        difference = float((first[name] - expected).norm() / (expected.norm() + 1e-12))
        most = PURSUIT if case == "matching_pursuit" else TOLERANCE[method.recipe.precision]
        assert difference <= most, f"{name} differs by {difference:.1e}"
    x = frames().sample(FRAMES, seed=0)
    fvu = unexplained(method, x)
    method.tensors = {name.partition("/")[2]: tensor for name, tensor in first.items() if name.startswith("frozen/")}
    assert unexplained(method, x) == pytest.approx(fvu, rel=1e-3)


def test_counters_of_two_processes_see_dead_latents(two_processes: Path) -> None:
    """What the equality above is worth: some latents are dead at the end, and counters differ from one another."""
    counters = load_file(two_processes / "dead.0.safetensors")
    silent, limit = counters["buffer/silent"], counters["buffer/limit"]
    assert int((silent > limit).sum()) > 0
    assert len(silent.unique()) > 5


def test_one_process_is_a_group_of_its_own() -> None:
    with parallel.group():
        assert (parallel.size(), parallel.rank()) == (1, 0)
        x = torch.arange(6.0).view(3, 2)
        assert torch.equal(parallel.share(x), x)
        assert parallel.first_then_all(lambda: 7) == 7
        assert parallel.any_of(True)
        assert not parallel.any_of(False)


@pytest.mark.parametrize("name", trained_methods())
def test_the_same_seed_gives_the_same_dictionary(name: str) -> None:
    """And another seed another one."""
    make = registry.load("methods", name).METHOD
    recipe = {**RECIPE, "epochs": 1, "batch_size": 256}
    hashes = [make(**SIZES | {"seed": seed}, **recipe).fit(frames()).content_hash for seed in (5, 5, 6)]
    assert hashes[0] == hashes[1] != hashes[2]
