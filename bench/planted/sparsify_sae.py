"""EleutherAI's sparsify. Its `Trainer` takes nothing but a language model; a step here does what its hook and loop do.

Its default optimiser (``signum``: sign descent without a schedule) and its Adam with a linear rise and fall; the rise takes 5 %
of the steps, and a latent is dead after 1/16 of the run's frames.
"""

from __future__ import annotations

from typing import Any

import torch
from schedulefree import ScheduleFreeWrapper  # type: ignore[import-not-found]
from sparsify import SparseCoder, SparseCoderConfig  # type: ignore[import-not-found]
from sparsify.sign_sgd import SignSGD  # type: ignore[import-not-found]
from torch import Tensor
from transformers import get_linear_schedule_with_warmup

DISTRIBUTION = "eai-sparsify"


class Contestant:
    def __init__(self, method: str, size: dict[str, Any], settings: dict[str, Any]) -> None:
        if method != "topk":
            raise ValueError(f"sparsify has no {method}")
        torch.manual_seed(size["seed"])
        self.size, self.settings = size, settings
        self.sae = SparseCoder(size["d"], SparseCoderConfig(num_latents=size["width"], k=size["k"]))
        self.scheduler: Any = None
        if settings["optimizer"] == "adam":
            self.optimizer: Any = torch.optim.Adam(self.sae.parameters(), lr=settings["lr"])
            self.scheduler = get_linear_schedule_with_warmup(self.optimizer, size["steps"] // 20, size["steps"])
        else:
            self.optimizer = ScheduleFreeWrapper(SignSGD(self.sae.parameters(), lr=settings["lr"]), momentum=0.95)
            self.optimizer.train()

    def fit(self, frames: Tensor, batch: int) -> None:
        silent = torch.zeros(self.size["width"], dtype=torch.long)
        with torch.no_grad():
            self.sae.b_dec.copy_(frames[:batch].mean(0))
        for step in range(self.size["steps"]):
            x = frames[step * batch : (step + 1) * batch]
            self.sae.set_decoder_norm_to_unit_norm()
            out = self.sae(x, dead_mask=silent > self.size["frames"] // 16)
            (out.fvu + self.settings["auxk_alpha"] * out.auxk_loss).backward()
            self.sae.remove_gradient_parallel_to_decoder_directions()
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.scheduler is not None:
                self.scheduler.step()
            silent += batch
            silent[out.latent_indices.flatten()] = 0
        if self.scheduler is None:
            self.optimizer.eval()

    def decoder(self) -> tuple[Tensor, Tensor]:
        return self.sae.W_dec, self.sae.b_dec

    def encode(self, x: Tensor) -> Tensor:
        values, indices, _ = self.sae.encode(x)
        return torch.zeros(len(x), self.size["width"]).scatter_(1, indices, values)

    def reconstruct(self, x: Tensor) -> Tensor:
        reconstructed: Tensor = self.sae(x).sae_out
        return reconstructed
