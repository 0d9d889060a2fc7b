"""dictionary_learning, by its trainers' `update`, on frames scaled to mean squared norm 1 as its `normalize_activations` does.

Steps that it counts for runs of a hundred thousand are shares of this run: warm-up 5 %, sparsity warm-up 10 %, decay over the
last 20 %, annealing of p from 15 % on; a latent is dead after 1/16 of the run's frames, and thresholds are averaged over the
last 100 steps.
"""

from __future__ import annotations

from typing import Any

from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer  # type: ignore[import-not-found]
from dictionary_learning.trainers.gdm import GatedSAETrainer  # type: ignore[import-not-found]
from dictionary_learning.trainers.jumprelu import JumpReluTrainer  # type: ignore[import-not-found]
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer  # type: ignore[import-not-found]
from dictionary_learning.trainers.p_anneal import PAnnealTrainer  # type: ignore[import-not-found]
from dictionary_learning.trainers.standard import StandardTrainer  # type: ignore[import-not-found]
from dictionary_learning.trainers.top_k import TopKTrainer  # type: ignore[import-not-found]
from torch import Tensor

DISTRIBUTION = "dictionary-learning"
TRAINERS = {
    "batch_topk": BatchTopKTrainer,
    "gated": GatedSAETrainer,
    "jumprelu": JumpReluTrainer,
    "matryoshka": MatryoshkaBatchTopKTrainer,
    "p_anneal": PAnnealTrainer,
    "relu": StandardTrainer,
    "topk": TopKTrainer,
}
PENALISED = ("gated", "jumprelu", "p_anneal", "relu")
NESTED = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2 + 1 / 32]


class Contestant:
    def __init__(self, method: str, size: dict[str, Any], settings: dict[str, Any]) -> None:
        steps = self.steps = size["steps"]
        options: dict[str, Any] = {"warmup_steps": steps // 20, "decay_start": steps * 4 // 5, **settings}
        if method in PENALISED:
            options["sparsity_warmup_steps"] = steps // 10
        else:
            options |= {"k": size["k"], "threshold_start_step": steps // 10, "threshold_beta": 0.99}
        if method == "jumprelu":
            options["target_l0"] = float(size["k"])
        if method == "matryoshka":
            options["group_fractions"] = NESTED
        if method == "p_anneal":
            options |= {"sparsity_function": "Lp^p", "p_end": 0.2, "anneal_start": steps * 15 // 100}
        self.trainer = TRAINERS[method](
            steps=steps, activation_dim=size["d"], dict_size=size["width"], layer=0, lm_name="none", seed=size["seed"],
            device="cpu", **options,
        )  # fmt: skip
        if hasattr(self.trainer, "dead_feature_threshold"):
            self.trainer.dead_feature_threshold = size["frames"] // 16

    def fit(self, frames: Tensor, batch: int) -> None:
        sample = frames[: 100 * batch]
        norm = float(sample.square().sum(1).mean().sqrt())
        for step in range(self.steps):
            self.trainer.update(step, frames[step * batch : (step + 1) * batch] / norm)
        self.trainer.ae.scale_biases(norm)

    def decoder(self) -> tuple[Tensor, Tensor]:
        ae = self.trainer.ae
        atoms = ae.W_dec if hasattr(ae, "W_dec") else ae.decoder.weight.T
        return atoms, next(getattr(ae, name) for name in ("b_dec", "decoder_bias", "bias") if hasattr(ae, name))

    def encode(self, x: Tensor) -> Tensor:
        code: Tensor = self.trainer.ae.encode(x)
        return code

    def reconstruct(self, x: Tensor) -> Tensor:
        reconstructed: Tensor = self.trainer.ae(x)
        return reconstructed
