"""musae itself, on the path that the settings name, without the auxiliary loss: what its training loop does with a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from musae.dictionary import TensorFrames
from musae.kernels import dispatch
from musae.kernels.sparse_decode import sparse_decode
from musae.kernels.topk_encode import topk_encode
from musae.methods.topk import Topk
from musae.training import step

DISTRIBUTION = "musae"
RETURNS = "values and indices"


class Contestant:
    def __init__(
        self, size: dict[str, Any], atoms: Tensor, settings: dict[str, Any], learning_rate: float, device: torch.device
    ) -> None:
        self.path = settings["path"]
        self.method = Topk(width=size["width"], k=size["k"], aux_weight=0.0)
        self.method.start(TensorFrames(torch.zeros(1, size["d"])))
        p = self.method.parameters = {
            "W_enc": atoms.clone(),
            "b_enc": atoms.new_zeros(size["width"]),
            "W_dec": atoms.clone(),
            "b_dec": atoms.new_zeros(size["d"]),
        }
        self.method.buffers |= {"centre": atoms.new_zeros(size["d"]), "scale": atoms.new_ones(())}
        self.method.buffers = {name: t.to(device) for name, t in self.method.buffers.items()}
        self.learning_rate, self.steps = learning_rate, 0
        self.moments = {f"{kind}.{name}": torch.zeros_like(t) for name, t in p.items() for kind in ("avg", "sq")}
        for t in p.values():
            t.requires_grad_()

    def step(self, x: Tensor) -> None:
        self.steps += 1
        with dispatch.forced(self.path):
            step(self.method, x, self.moments, self.steps, self.learning_rate)

    def encode(self, x: Tensor) -> object:
        p = self.method.parameters
        with dispatch.forced(self.path):
            return topk_encode(x, p["W_enc"], p["b_enc"], self.method.k)

    def reconstruct(self, x: Tensor) -> Tensor:
        p = self.method.parameters
        with dispatch.forced(self.path):
            values, indices = topk_encode(x, p["W_enc"], p["b_enc"], self.method.k)
            return sparse_decode(values, indices, p["W_dec"], p["b_dec"])
