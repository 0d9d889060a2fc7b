"""One training step and one encoding pass of musae at the small size of the comparison with other libraries, on every path."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from musae.bench import workloads
from musae.bench.curves import paths
from musae.bench.peers.musae_sae import Contestant

SIZE = workloads.SIZES["small"]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(params=paths(DEVICE))
def contestant(request: pytest.FixtureRequest) -> Contestant:
    atoms = workloads.initial_atoms(SIZE.width, SIZE.d).to(DEVICE)
    return Contestant(asdict(SIZE), atoms, {"path": request.param}, workloads.LEARNING_RATE, DEVICE)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return workloads.frames(SIZE.d, SIZE.n, SIZE.k).to(DEVICE)


@pytest.mark.benchmark(group=f"training step, {SIZE.name}", min_rounds=9, max_time=1.0, warmup=True, warmup_iterations=2)
def test_training_step(benchmark: BenchmarkFixture, contestant: Contestant, x: torch.Tensor) -> None:
    benchmark(workloads.finished, contestant.step, x)


@pytest.mark.benchmark(group=f"encoding, {SIZE.name}", min_rounds=9, max_time=1.0, warmup=True, warmup_iterations=2)
def test_encoding(benchmark: BenchmarkFixture, contestant: Contestant, x: torch.Tensor) -> None:
    with torch.no_grad():
        benchmark(workloads.finished, contestant.encode, x)
