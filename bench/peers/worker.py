"""One contestant in its own process, ``python -P worker.py <contestant>.py``, driven by JSON lines over its standard streams.

Imports nothing but the standard library, numpy, torch and the contestant, so that it runs in environments without musae. A
contestant is a file that defines ``Contestant(size, atoms, settings, learning_rate, device)`` with ``step(x)``, ``encode(x)`` and
``reconstruct(x)``, and names: ``DISTRIBUTION`` (what pip calls the library) and ``RETURNS`` (what `encode` gives back).

Requests: ``{"do": "setup", ...}``, ``{"do": "train", "steps": 4}``, ``{"do": "encode", "passes": 4}``, ``{"do": "learnt"}``; each
is answered by one line, ``{"error": ...}`` if it failed. The end of the input ends the process.

Units: seconds, MB of 10^6 bytes. ``peak_mb`` is the high-water mark of the process's resident memory during the request, and
``above_mb`` the same minus what was resident right after the imports: what the work needs beside the libraries. On CUDA both are
the allocator's peak.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Worker:
    """What the requests act on."""

    def __init__(self, path: str) -> None:
        spec = importlib.util.spec_from_file_location("contestant", path)
        assert spec is not None
        assert spec.loader is not None
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.imported_mb = resident_mb("VmRSS")
        self.steps = 0
        self.fvu: dict[int, float] = {}

    def setup(
        self,
        folder: str,
        size: dict[str, Any],
        settings: dict[str, Any],
        learning_rate: float,
        threads: int,
    ) -> dict[str, Any]:
        """Read data and initial atoms, build the contestant. `size`: the fields of `musae.bench.workloads.Size`."""
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.n, self.device = size["n"], torch.device(size["device"])
        self.x = torch.from_numpy(np.load(Path(folder) / "frames.npy")).to(self.device)
        self.batches = len(self.x) // self.n - 1
        atoms = torch.from_numpy(np.load(Path(folder) / "atoms.npy")).to(self.device)
        self.contestant = self.module.Contestant(size, atoms, settings, learning_rate, self.device)
        self.check, self.fvu = size["check"], {0: self.unexplained()}
        return {
            "packages": {
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in ("torch", "numpy", self.module.DISTRIBUTION)},
            },
            "returns": self.module.RETURNS,
        }

    def train(self, steps: int) -> dict[str, float]:
        """Take training steps on the batches in turn."""
        with self.measured() as result:
            for _ in range(steps):
                self.contestant.step(self.batch(self.steps % self.batches))
                self.steps += 1
        if self.steps >= self.check and len(self.fvu) == 1:
            self.fvu[self.steps] = self.unexplained()
        return result | {"tokens": steps * self.n}

    def encode(self, passes: int) -> dict[str, float]:
        """Encode whole batches in turn, without gradients."""
        with torch.no_grad(), self.measured() as result:
            for i in range(passes):
                self.contestant.encode(self.batch(i % self.batches))
        return result | {"tokens": passes * self.n}

    def learnt(self) -> dict[str, float]:
        """Fraction of variance unexplained before training and after the size's `check` steps, which are taken now if need be."""
        if len(self.fvu) == 1:
            self.train(self.check - self.steps)
        (_, before), (steps, after) = self.fvu.items()
        return {"before": before, "after": after, "steps": steps}

    def unexplained(self) -> float:
        """Fraction of variance unexplained on the batch that is never trained on."""
        x = self.batch(self.batches)
        with torch.no_grad():
            error = x - self.contestant.reconstruct(x)
        return float(error.square().sum() / (x - x.mean(0)).square().sum())

    def batch(self, i: int) -> Tensor:
        """The i-th batch; a view."""
        return self.x[i * self.n : (i + 1) * self.n]

    def measured(self) -> Measured:
        return Measured(self.device, self.imported_mb)


class Measured:
    """Time and memory of a block, in the mapping that entering it gives."""

    def __init__(self, device: torch.device, imported_mb: float) -> None:
        self.cuda, self.imported_mb = device.type == "cuda", imported_mb
        self.result: dict[str, float] = {}

    def __enter__(self) -> dict[str, float]:
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        else:
            with suppress(OSError):  # where it is forbidden, the peak is that of the process so far
                Path("/proc/self/clear_refs").write_text("5")
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self.result

    def __exit__(self, *raised: object) -> None:
        if self.cuda:
            torch.cuda.synchronize()
        self.result["wall_s"], self.result["cpu_s"] = time.perf_counter() - self.wall, time.process_time() - self.cpu
        if self.cuda:
            self.result["peak_mb"] = self.result["above_mb"] = torch.cuda.max_memory_allocated() / 1e6
        else:
            self.result["peak_mb"] = resident_mb("VmHWM")
            self.result["above_mb"] = self.result["peak_mb"] - self.imported_mb


def resident_mb(field: str) -> float:
    """``VmRSS`` (resident now) or ``VmHWM`` (most since the last reset) of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"/proc/self/status has no {field}: peak memory is read on Linux only")


def serve(make: Callable[[], object]) -> None:
    """Answer requests, each a method of what `make` makes, until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    try:
        served: object = make()
    except Exception as error:  # told to whoever asks first
        served = error
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if isinstance(served, Exception):
                raise served
            answer = getattr(served, request.pop("do"))(**request)
        except Exception as error:  # another library may raise anything: it is told, and the others go on
            words = str(error).strip().splitlines() or [""]
            answer = {"error": f"{type(error).__name__}: {words[0]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(lambda: Worker(sys.argv[1]))
