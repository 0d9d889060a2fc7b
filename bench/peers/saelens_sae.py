"""SAELens, by the public `step` of its `SAETrainer`.

It clips the gradient's norm at 1, which Adam's step hardly feels, and does not keep atoms at norm 1, which saves it a pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from sae_lens.config import SAETrainerConfig  # type: ignore[import-not-found]
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig  # type: ignore[import-not-found]
from sae_lens.training.sae_trainer import SAETrainer  # type: ignore[import-not-found]
from torch import Tensor

DISTRIBUTION = "sae-lens"
RETURNS = "a dense code, or a sparse COO tensor where activations are sparse"


class Contestant:
    def __init__(
        self, size: dict[str, Any], atoms: Tensor, settings: dict[str, Any], learning_rate: float, device: torch.device
    ) -> None:
        config = TopKTrainingSAEConfig(
            d_in=size["d"], d_sae=size["width"], k=size["k"], aux_loss_coefficient=0.0, device=str(device), **settings
        )
        self.sae = TopKTrainingSAE(config)
        with torch.no_grad():
            self.sae.W_enc.copy_(atoms.T)
            self.sae.W_dec.copy_(atoms)
        training = SAETrainerConfig(
            total_training_samples=2**40,
            train_batch_size_samples=size["n"],
            lr=learning_rate,
            lr_end=learning_rate,
            device=str(device),
        )
        nothing: Iterator[Tensor] = iter(())
        self.trainer = SAETrainer(training, self.sae, nothing)

    def step(self, x: Tensor) -> None:
        self.trainer.step(x)
        self.trainer.n_training_steps += 1

    def encode(self, x: Tensor) -> object:
        return self.sae.encode(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        reconstructed: Tensor = self.sae(x)
        return reconstructed
