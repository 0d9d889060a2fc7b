"""overcomplete, by `train_sae`, on centred frames scaled to variance 1, since its decoder has no bias and its docs ask for it.

The loss of TopK and BatchTopK is its `top_k_auxiliary_loss`, of matching pursuit the squared error, of JumpReLU the squared
error and the penalty of its notebooks (thresholds rise as long as more latents fire than is wanted); the learning rate follows
its `CosineScheduler` with 5 % warm-up. For the stand-ins see `musae.bench.peers.overcomplete_sae`.
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

from overcomplete.sae import BatchTopKSAE, JumpSAE, MpSAE, TopKSAE, train_sae  # type: ignore[import-not-found]  # noqa: E402
from overcomplete.sae.losses import top_k_auxiliary_loss  # type: ignore[import-not-found]  # noqa: E402
from overcomplete.sae.optimizer import CosineScheduler  # type: ignore[import-not-found]  # noqa: E402

DISTRIBUTION = "Overcomplete"


class Contestant:
    def __init__(self, method: str, size: dict[str, Any], settings: dict[str, Any]) -> None:
        torch.manual_seed(size["seed"])
        self.size, self.rate = size, settings["lr"]
        d, width, k = size["d"], size["width"], size["k"]
        self.loss: Any = top_k_auxiliary_loss
        if method == "topk":
            self.sae = TopKSAE(d, width, top_k=k)
        elif method == "batch_topk":
            self.sae = BatchTopKSAE(d, width, top_k=k * size["batch"])
        elif method == "jumprelu":
            self.sae, self.loss = JumpSAE(d, width, bandwidth=settings["bandwidth"]), self.towards_k
        else:
            self.sae, self.loss = MpSAE(d, width, k=k), squared_error

    def fit(self, frames: Tensor, batch: int) -> None:
        sample = frames[: 100 * batch]
        self.mean, self.scale = sample.mean(0), float(sample.var(0).mean().sqrt())
        optimizer = torch.optim.Adam(self.sae.parameters(), lr=self.rate)
        steps = self.size["steps"]
        scheduler = CosineScheduler(optimizer, self.rate, self.rate / 100, steps, warmup_iters=steps // 20)
        loader = (self.scaled(frames[start : start + batch]) for start in range(0, len(frames), batch))
        train_sae(self.sae, loader, self.loss, optimizer, scheduler, nb_epochs=1, monitoring=0, device="cpu")
        with torch.no_grad():
            self.sae.eval()

    def scaled(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale

    def towards_k(self, x: Tensor, x_hat: Tensor, pre_codes: Tensor, codes: Tensor, dictionary: Tensor) -> Tensor:
        loss = (x - x_hat).square().mean()
        if float((codes > 0).sum()) > self.size["k"] * len(codes):
            loss = loss - self.sae.thresholds.sum()
        return loss

    def decoder(self) -> tuple[Tensor, Tensor]:
        return self.sae.get_dictionary() * self.scale, self.mean

    def encode(self, x: Tensor) -> Tensor:
        code: Tensor = self.sae.encode(self.scaled(x))[1]
        return code

    def reconstruct(self, x: Tensor) -> Tensor:
        reconstructed: Tensor = self.sae(self.scaled(x))[2] * self.scale + self.mean
        return reconstructed


def squared_error(x: Tensor, x_hat: Tensor, pre_codes: Tensor, codes: Tensor, dictionary: Tensor) -> Tensor:
    """The loss, in the signature that `train_sae` calls."""
    return (x - x_hat).square().mean()
