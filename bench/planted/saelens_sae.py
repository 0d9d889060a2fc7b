"""SAELens, by `SAETrainer.fit`, on frames scaled to mean norm sqrt(d); what is scored is what `save_inference_model` writes.

The schedule is that of its tutorials, in shares of the run: the learning rate decays over the last 20 %, penalties rise over
the first 5 %; a latent is dead after 1/16 of the run's steps.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from sae_lens import (  # type: ignore[import-not-found]
    SAE,
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    GatedTrainingSAE,
    GatedTrainingSAEConfig,
    JumpReLUTrainingSAE,
    JumpReLUTrainingSAEConfig,
    MatchingPursuitTrainingSAE,
    MatchingPursuitTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.config import SAETrainerConfig  # type: ignore[import-not-found]
from sae_lens.training.sae_trainer import SAETrainer  # type: ignore[import-not-found]
from torch import Tensor

DISTRIBUTION = "sae-lens"
ARCHITECTURES = {
    "batch_topk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig),
    "gated": (GatedTrainingSAE, GatedTrainingSAEConfig),
    "jumprelu": (JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig),
    "matching_pursuit": (MatchingPursuitTrainingSAE, MatchingPursuitTrainingSAEConfig),
    "matryoshka": (MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig),
    "relu": (StandardTrainingSAE, StandardTrainingSAEConfig),
    "topk": (TopKTrainingSAE, TopKTrainingSAEConfig),
}


class Contestant:
    def __init__(self, method: str, size: dict[str, Any], settings: dict[str, Any]) -> None:
        self.size, self.rate = size, settings.pop("lr")
        steps, width = size["steps"], size["width"]
        torch.manual_seed(size["seed"])
        options: dict[str, Any] = {"d_in": size["d"], "d_sae": width, **settings}
        if method in ("relu", "gated"):
            options["l1_warm_up_steps"] = steps // 20
        elif method == "jumprelu":
            options["l0_warm_up_steps"] = steps // 20
        elif method == "matching_pursuit":
            options["max_iterations"] = size["k"]
        else:
            options["k"] = size["k"]
        if method == "matryoshka":
            options["matryoshka_widths"] = [width // 32, width * 3 // 32, width * 7 // 32, width * 15 // 32, width]
        architecture, config = ARCHITECTURES[method]
        self.sae = architecture(config(normalize_activations="expected_average_only_in", **options))

    def fit(self, frames: Tensor, batch: int) -> None:
        steps = self.size["steps"]
        training = SAETrainerConfig(
            total_training_samples=steps * batch,
            train_batch_size_samples=batch,
            lr=self.rate,
            lr_end=self.rate / 10,
            lr_decay_steps=steps // 5,
            dead_feature_window=steps // 16,
        )
        trainer = SAETrainer(training, self.sae, _batches(frames, batch))
        trainer.activation_scaler.estimate_scaling_factor(self.size["d"], _batches(frames, batch), min(100, steps))
        trainer.fit()
        with tempfile.TemporaryDirectory() as folder:
            self.sae.save_inference_model(folder)
            self.sae = SAE.load_from_disk(folder)

    def decoder(self) -> tuple[Tensor, Tensor]:
        return self.sae.W_dec, self.sae.b_dec

    def encode(self, x: Tensor) -> Tensor:
        code: Tensor = self.sae.encode(x)
        return code

    def reconstruct(self, x: Tensor) -> Tensor:
        reconstructed: Tensor = self.sae(x)
        return reconstructed


def _batches(frames: Tensor, batch: int) -> Iterator[Tensor]:
    for start in range(0, len(frames), batch):
        yield frames[start : start + batch]
