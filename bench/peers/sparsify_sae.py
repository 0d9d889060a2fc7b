"""EleutherAI's sparsify. Its `Trainer` takes nothing but a language model; a step here does what its hook and loop do."""

from __future__ import annotations

from typing import Any

import torch
from sparsify import SparseCoder, SparseCoderConfig  # type: ignore[import-not-found]
from torch import Tensor

DISTRIBUTION = "eai-sparsify"
RETURNS = "values, indices and the dense pre-activations"


class Contestant:
    def __init__(
        self, size: dict[str, Any], atoms: Tensor, settings: dict[str, Any], learning_rate: float, device: torch.device
    ) -> None:
        self.sae = SparseCoder(size["d"], SparseCoderConfig(num_latents=size["width"], k=size["k"]), device=device)
        with torch.no_grad():
            self.sae.encoder.weight.copy_(atoms)
            self.sae.W_dec.copy_(atoms)
        self.optimizer = torch.optim.Adam(self.sae.parameters(), lr=learning_rate, **settings)
        self.fired = torch.zeros(size["width"], dtype=torch.bool, device=device)
        self.silent = torch.zeros(size["width"], dtype=torch.long, device=device)

    def step(self, x: Tensor) -> None:
        self.sae.set_decoder_norm_to_unit_norm()
        out = self.sae(x, dead_mask=None, total_variance=(x - x.mean(0)).pow(2).sum())
        self.fired[out.latent_indices.flatten()] = True
        float(out.fvu.detach())
        out.fvu.backward()
        self.sae.remove_gradient_parallel_to_decoder_directions()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.silent += len(x)
        self.silent[self.fired] = 0
        self.fired.zero_()

    def encode(self, x: Tensor) -> object:
        return self.sae.encode(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        reconstructed: Tensor = self.sae(x).sae_out
        return reconstructed
