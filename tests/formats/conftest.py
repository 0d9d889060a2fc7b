"""Copies of the golden checkpoints, to be spoilt."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

GOLDEN = Path(__file__).parent / "golden"


class Copy:
    """A copy of a golden checkpoint: change its tensors or its configuration."""

    CONFIGS = ("cfg.json", "config.json")
    WEIGHTS = ("sae_weights.safetensors", "sae.safetensors", "ae.pt", "sae.pt", "params.npz")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = next(folder / name for name in self.WEIGHTS if (folder / name).exists())
        self.config = next((folder / name for name in self.CONFIGS if (folder / name).exists()), folder / "config.json")

    def tensors(self, changed: Mapping[str, torch.Tensor | None]) -> Path:
        """Put tensors, or remove those that are None."""
        held = self.read() | changed
        held = {name: tensor for name, tensor in held.items() if tensor is not None}
        if self.weights.suffix == ".safetensors":
            save_file({name: tensor.contiguous() for name, tensor in held.items()}, self.weights)
        elif self.weights.suffix == ".npz":
            np.savez(self.weights, **{name: tensor.numpy() for name, tensor in held.items()})
        else:
            torch.save(held, self.weights)
        return self.folder

    def read(self) -> dict[str, torch.Tensor]:
        """All tensors."""
        if self.weights.suffix == ".safetensors":
            return load_file(self.weights)
        if self.weights.suffix == ".npz":
            return {name: torch.from_numpy(array) for name, array in np.load(self.weights).items()}
        return torch.load(self.weights, weights_only=True)

    def set(self, changed: Mapping[str, object]) -> Path:
        """Put fields of the configuration, by dotted names, or remove those that are ``...``."""
        content = json.loads(self.config.read_text()) if self.config.exists() else {}
        for name, value in changed.items():
            *parents, last = name.split(".")
            place = content
            for parent in parents:
                place = place[parent]
            place.pop(last, None)
            if value is not ...:
                place[last] = value
        self.config.write_text(json.dumps(content))
        return self.folder


@pytest.fixture
def copy(tmp_path):
    """Copies a golden checkpoint by name."""

    def make(name: str) -> Copy:
        folder = tmp_path / name
        shutil.copytree(GOLDEN / name, folder, dirs_exist_ok=True)
        return Copy(folder)

    return make
