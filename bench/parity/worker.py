"""A library in its own process, ``python -P worker.py <library>_models.py``, driven by JSON lines as `bench/peers/worker.py` is.

A models file defines ``LIBRARY``, ``DISTRIBUTIONS`` (whose versions are noted), ``VARIANTS`` (names) and

- ``make(variant, folder, sizes) -> model``: a random model, saved in `folder` by the library's own means;
- ``load(folder) -> model``: what the library makes of a folder;
- ``encode(model, x)`` and ``decode(model, code)``: dense codes ``[n, F]`` and reconstructions ``[n, d]``.

Requests: ``{"do": "make", "folder": ..., "variant": ..., "sizes": {"d": 16, "width": 40, "k": 4, "n": 24}}`` writes the model
and ``expected.npz`` (``x``, ``code``, ``reconstruction``, float32); ``{"do": "check", "folder": ..., "frames": <npz with x>,
"out": ...}`` loads a folder and writes the same for it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch


def module_of(path: Path) -> Any:
    """A module by its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Worker:
    """What the requests act on."""

    def __init__(self, path: str) -> None:
        self.module = module_of(Path(path))
        torch.set_num_threads(1)

    def variants(self) -> dict[str, Any]:
        """The names of the variants, and the versions of what makes them."""
        versions = {name: importlib.metadata.version(name) for name in (*self.module.DISTRIBUTIONS, "torch")}
        return {"variants": list(self.module.VARIANTS), "packages": {"python": platform.python_version(), **versions}}

    @torch.no_grad()
    def make(self, folder: str, variant: str, sizes: dict[str, int]) -> dict[str, Any]:
        """A random model, saved; frames, its codes and its reconstructions beside it."""
        torch.manual_seed(zlib.crc32(f"{self.module.LIBRARY} {variant}".encode()))
        Path(folder).mkdir(parents=True, exist_ok=True)
        model = self.module.make(variant, Path(folder), sizes)
        self._write(model, 2 * torch.randn(sizes["n"], sizes["d"]) + 0.5, Path(folder) / "expected.npz")
        return {}

    @torch.no_grad()
    def check(self, folder: str, frames: str, out: str) -> dict[str, Any]:
        """What the library makes of a folder that musae wrote."""
        with np.load(frames) as archive:
            x = torch.from_numpy(archive["x"])
        self._write(self.module.load(Path(folder)), x, Path(out))
        return {}

    def _write(self, model: Any, x: torch.Tensor, path: Path) -> None:
        code = self.module.encode(model, x.clone())
        reconstruction = self.module.decode(model, code.clone())
        arrays = {"x": x, "code": code, "reconstruction": reconstruction}
        np.savez(path, **{name: tensor.float().numpy() for name, tensor in arrays.items()})


if __name__ == "__main__":
    serve = module_of(Path(__file__).resolve().parents[1] / "peers" / "worker.py").serve
    serve(lambda: Worker(sys.argv[1]))
