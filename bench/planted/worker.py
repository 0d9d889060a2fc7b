"""One contestant in its own process, ``python -P worker.py <contestant>.py``: learns from planted frames, encodes the held-out
ones.

Like `musae.bench.peers.worker`, whose way of answering requests it uses, it imports nothing but the standard library, numpy,
torch and the contestant. A contestant is a file that names its ``DISTRIBUTION`` and defines ``Contestant(method, size,
settings)`` with ``fit(frames, batch)``, ``decoder() -> (atoms [F, d], bias [d])``, ``encode(x) -> code [n, F]`` and
``reconstruct(x)``.

Request: ``{"do": "learn", ...}``. What is learnt is handed over as a file, ``learnt.npz``: ``W_dec [F, d]``, ``b_dec [d]`` and
the held-out frames' codes in CSR form (``values``, ``indices``, ``offsets``). Everybody's reconstruction is ``code @ W_dec +
b_dec``; that this is what the library itself reconstructs is checked first.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

CHUNK = 4096
"""Held-out frames encoded at a time."""
TOLERANCE = 1e-4
"""Largest squared difference from the library's reconstruction, as a share of the frames' squares."""


class Worker:
    """What the requests act on."""

    def __init__(self, path: str) -> None:
        self.module = load("contestant", Path(path))

    def learn(self, folder: str, method: str, size: dict[str, Any], settings: dict[str, Any], out: str) -> dict[str, Any]:
        """Learn and hand over. `folder`: of ``train.npy`` and ``heldout.npy``; `size`: ``d``, ``width``, ``k``, ``batch``,
        ``frames``,
        ``steps``, ``seed``; `out`: the file to write."""
        torch.set_num_threads(1)
        frames = torch.from_numpy(np.load(Path(folder) / "train.npy", mmap_mode="c")[: size["frames"]])
        contestant = self.module.Contestant(method, size, dict(settings))
        wall, cpu = time.perf_counter(), time.process_time()
        contestant.fit(frames, size["batch"])
        taken = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        with torch.no_grad():
            hand_over(contestant, torch.from_numpy(np.load(Path(folder) / "heldout.npy")), Path(out))
        names = ("torch", "numpy", self.module.DISTRIBUTION)
        versions = {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
        return taken | {"packages": versions}


def hand_over(contestant: Any, heldout: torch.Tensor, out: Path) -> None:
    """Write what was learnt. Raises ValueError where the library reconstructs something else than ``code @ W_dec + b_dec``."""
    W_dec, b_dec = contestant.decoder()
    values, indices, counts = [], [], []  # type: ignore[var-annotated]
    for x in heldout.split(CHUNK):  # type: ignore[no-untyped-call]
        code = contestant.encode(x)
        if not values:
            theirs = contestant.reconstruct(x)
            apart = float((code @ W_dec + b_dec - theirs).square().sum() / x.square().sum())
            if not apart <= TOLERANCE:
                raise ValueError(f"its own reconstruction differs from code @ W_dec + b_dec: {apart:.2g} of the frames' squares")
        rows, columns = code.nonzero(as_tuple=True)
        values.append(code[rows, columns].float().numpy())
        indices.append(columns.int().numpy())
        counts.append(torch.bincount(rows, minlength=len(x)).numpy())
    temporary = out.with_suffix(".part.npz")
    np.savez(
        temporary,
        W_dec=W_dec.detach().float().numpy(),
        b_dec=b_dec.detach().float().numpy(),
        values=np.concatenate(values),
        indices=np.concatenate(indices),
        offsets=np.concatenate([[0], np.concatenate(counts).cumsum()]),
    )
    os.replace(temporary, out)


def load(name: str, path: Path) -> ModuleType:
    """Import a file that no package need hold."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    load("peers_worker", Path(__file__).resolve().parents[1] / "peers" / "worker.py").serve(lambda: Worker(sys.argv[1]))
