"""overcomplete, by `train_sae` with neither clipping nor monitoring. Its decoder has no bias.

Importing it imports things for pictures that have no part in this, and that need not be there: torchvision, whose released wheels
go with builds of PyTorch for CUDA and cannot be loaded beside one for the CPU (`make peers` then leaves it out), and a function
that matplotlib dropped in version 3.9. Names stand in for both.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

colours: Any = import_module("matplotlib.cm")
if not hasattr(colours, "get_cmap"):
    colours.get_cmap = import_module("matplotlib").colormaps.__getitem__
if find_spec("torchvision") is None:
    absent: Any = ModuleType("torchvision")
    absent.__spec__, absent.transforms = ModuleSpec("torchvision", None), None
    sys.modules["torchvision"] = absent

from overcomplete.sae import TopKSAE, train_sae  # type: ignore[import-not-found]  # noqa: E402

DISTRIBUTION = "Overcomplete"
RETURNS = "a dense code"


class Contestant:
    def __init__(
        self, size: dict[str, Any], atoms: Tensor, settings: dict[str, Any], learning_rate: float, device: torch.device
    ) -> None:
        self.device = str(device)
        self.sae = TopKSAE(size["d"], size["width"], top_k=size["k"], device=self.device)
        with torch.no_grad():
            encoder = self.sae.encoder.final_block[0]
            encoder.weight.copy_(atoms)
            encoder.bias.zero_()
            self.sae.dictionary._weights.copy_(atoms)
        self.optimizer = torch.optim.Adam(self.sae.parameters(), lr=learning_rate, **settings)

    def step(self, x: Tensor) -> None:
        train_sae(self.sae, [x], squared_error, self.optimizer, nb_epochs=1, clip_grad=0, monitoring=0, device=self.device)

    def encode(self, x: Tensor) -> object:
        return self.sae.encode(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        reconstructed: Tensor = self.sae(x)[2]
        return reconstructed


def squared_error(x: Tensor, x_hat: Tensor, pre_codes: Tensor, codes: Tensor, dictionary: Tensor) -> Tensor:
    """The loss, in the signature that `train_sae` calls."""
    return (x - x_hat).square().mean()
