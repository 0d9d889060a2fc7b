"""dictionary_learning, by `TopKTrainer.update`. It clips the gradient's norm at 1, which Adam's step hardly feels."""

from __future__ import annotations

from typing import Any

import torch
from dictionary_learning.trainers.top_k import TopKTrainer  # type: ignore[import-not-found]
from torch import Tensor

DISTRIBUTION = "dictionary-learning"
RETURNS = "values and indices, beside the dense code"


class Contestant:
    def __init__(
        self, size: dict[str, Any], atoms: Tensor, settings: dict[str, Any], learning_rate: float, device: torch.device
    ) -> None:
        self.trainer = TopKTrainer(
            steps=2**40,
            activation_dim=size["d"],
            dict_size=size["width"],
            k=size["k"],
            layer=0,
            lm_name="none",
            lr=learning_rate,
            auxk_alpha=0,
            warmup_steps=0,
            device=str(device),
            **settings,
        )
        self.sae = self.trainer.ae
        with torch.no_grad():
            self.sae.encoder.weight.copy_(atoms)
            self.sae.decoder.weight.copy_(atoms.T)
        self.steps = 0

    def step(self, x: Tensor) -> None:
        self.steps += 1  # step 0 would replace the decoder's bias
        self.trainer.update(self.steps, x)

    def encode(self, x: Tensor) -> object:
        return self.sae.encode(x, return_topk=True)

    def reconstruct(self, x: Tensor) -> Tensor:
        reconstructed: Tensor = self.sae(x)
        return reconstructed
