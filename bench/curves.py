"""Cost curves: tokens a second of a training step and of encoding against F, k, d and batch, one varied at a time.

Every path of musae that runs here takes its turn in each round of a point (see `musae.bench.rounds`), all in this process.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from musae.bench import workloads
from musae.bench.peers.musae_sae import Contestant
from musae.bench.rounds import median, rotation
from musae.bench.rows import BenchRow
from musae.errors import UserError
from musae.kernels import dispatch
from musae.kernels.op import Shape

CENTRE = Shape(n=1024, d=512, width=8192, k=32)
"""The point that all curves go through: near the middle of each range, on a logarithmic scale."""
AXES: dict[str, tuple[int, ...]] = {
    "width": (1024, 2048, 4096, 8192, 16384, 32768, 65536),
    "k": (8, 16, 32, 64, 128),
    "d": (128, 256, 512, 1024, 2048),
    "n": (256, 512, 1024, 2048, 4096),
}
STAGES = ("train", "encode")


def points(axes: Iterable[str]) -> list[tuple[str, Shape]]:
    """The axis that is varied and the problem, for each point; the centre lies on every curve."""
    return [(axis, replace(CENTRE, **{axis: value})) for axis in axes for value in AXES[axis]]


def paths(device: torch.device) -> list[str]:
    """The paths that run on this device."""
    usable = []
    for name in ("portable", "extension" if device.type == "cpu" else "triton"):
        try:
            with dispatch.forced(name):
                usable.append(name)
        except UserError:
            continue
    return usable


def case(axis: str, shape: Shape, stage: str, threads: int) -> dict[str, int | str]:
    """What identifies a point of a curve in a row."""
    return {"axis": axis, **asdict(shape), "stage": stage, "threads": threads}


def measure(axis: str, shape: Shape, names: Sequence[str], rounds: int, threads: int, device: torch.device) -> list[BenchRow]:
    """Rows of one point: tokens a second by wall clock and by processor time, for each path and stage."""
    torch.set_num_threads(threads)
    x = workloads.frames(shape.d, shape.n, shape.k).to(device)
    atoms = workloads.initial_atoms(shape.width, shape.d).to(device)
    running = {name: Contestant(asdict(shape), atoms, {"path": name}, workloads.LEARNING_RATE, device) for name in names}
    seconds: dict[tuple[str, str], list[tuple[float, float]]] = {(name, stage): [] for name in names for stage in STAGES}
    for round_ in range(-1, rounds):  # the first one warms up
        for name in rotation(names, round_ + 1):
            for stage in STAGES:
                taken = _timed(running[name], stage, x)
                if round_ >= 0:
                    seconds[name, stage].append(taken)
    return [
        row for (name, stage), taken in seconds.items() for row in _rows(name, case(axis, shape, stage, threads), taken, shape.n)
    ]


def _timed(contestant: Contestant, stage: str, x: torch.Tensor) -> tuple[float, float]:
    """Wall-clock and processor time of one step or pass."""
    wall, cpu = time.perf_counter(), time.process_time()
    if stage == "train":
        workloads.finished(contestant.step, x)
    else:
        with torch.no_grad():
            workloads.finished(contestant.encode, x)
    return time.perf_counter() - wall, time.process_time() - cpu


def _rows(path: str, where: dict[str, int | str], taken: Sequence[tuple[float, float]], tokens: int) -> Iterator[BenchRow]:
    for metric, clock in (("tokens_per_s", 0), ("cpu_tokens_per_s", 1)):
        found = median([tokens / seconds[clock] for seconds in taken])
        fields: dict[str, Any] = {"value": found.value, "low": found.low, "high": found.high, "rounds": found.rounds}
        yield BenchRow(subject="musae", variant=path, case=where, metric=metric, unit="1/s", known="measured", **fields)
