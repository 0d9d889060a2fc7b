"""musae's methods by their names in the registry, with their own defaults for all but width, k and the batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from musae import registry
from musae.dictionary import Dictionary, TensorFrames
from musae.training import GradientMethod

DISTRIBUTION = "musae"


class Contestant:
    def __init__(self, method: str, size: dict[str, Any], settings: dict[str, Any]) -> None:
        make = registry.load("methods", method).METHOD
        if issubclass(make, GradientMethod):
            settings = {"batch_size": size["batch"], **settings}
        self.method: Dictionary = make(width=size["width"], k=size["k"], seed=size["seed"], **settings)

    def fit(self, frames: Tensor, batch: int) -> None:
        self.method.fit(TensorFrames(frames))

    def decoder(self) -> tuple[Tensor, Tensor]:
        return self.method.atoms, self.method.bias

    def encode(self, x: Tensor) -> Tensor:
        return self.method.encode(x).dense()

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.method.decode(self.method.encode(x))
