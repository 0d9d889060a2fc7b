"""Trains every method that learns in steps, in however many processes, and writes what each process holds at the end.

torchrun --nproc-per-node 2 tests/parallel_worker.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from musae import parallel, registry
from musae.dictionary import TensorFrames
from musae.testing import sample_frames
from musae.training import GradientMethod, train

SIZES = {"width": 72, "k": 3, "seed": 3}
RECIPE = {"batch_size": 64, "epochs": 2, "dead_after": 0.02, "learning_rate": 3e-3}
FRAMES, PER_CLIP = 3009, 17
"""The last batch of an epoch has one row: fewer than processes."""

OPTIONS = {
    "dead": {"ema": 0.9, "resample": 2, "aux_weight": 0.05, "aux_k": 4, "dead_after": 0.01},
    "accumulate": {"accumulate": 3, "batch_size": 50},
    "bfloat16": {"precision": "bfloat16"},
}
"""Recipes that are tried on topk, besides."""


def trained_methods() -> list[str]:
    """Names of the package's methods that learn in steps."""
    names = [name for name, entry in registry.entries("methods").items() if "/" not in name and not entry.problem]
    return [name for name in names if issubclass(registry.load("methods", name).METHOD, GradientMethod)]


def frames() -> TensorFrames:
    return TensorFrames(sample_frames(FRAMES), "sample", PER_CLIP)


def trained(case: str) -> GradientMethod:
    """A method, or topk with a recipe of `OPTIONS`, trained and frozen."""
    method = registry.load("methods", "topk" if case in OPTIONS else case).METHOD(**SIZES, **RECIPE | OPTIONS.get(case, {}))
    train(method, frames())
    return method.freeze()


def state(method: GradientMethod) -> dict[str, torch.Tensor]:
    """Parameters, buffers and frozen tensors."""
    groups = {"parameter": method.parameters, "buffer": method.buffers, "frozen": method.tensors}
    return {f"{kind}/{name}": t.detach().clone() for kind, group in groups.items() for name, t in group.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with parallel.group():
        for case in sys.argv[2:] or (*trained_methods(), *OPTIONS):
            file = Path(sys.argv[1]) / f"{case}.{parallel.rank()}.safetensors"
            save_file({name: tensor.contiguous() for name, tensor in state(trained(case)).items()}, file)
