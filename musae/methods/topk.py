"""TopK sparse autoencoder (Gao et al. 2024, "Scaling and evaluating sparse autoencoders", arXiv 2406.04093).

``h = TopK(ReLU(W_enc z + b_enc))``, ``z_hat = W_dec^T h + b_dec`` with ``z = (x - centre) * scale``: the centre is the geometric
median of a sample of frames, and the scale makes the mean squared norm of z equal d, so that one learning rate fits every layer.
A learnt bias is not subtracted before the encoder: `b_enc` can express that. `freeze` folds centre and scale into the
weights: atoms keep norm 1, so a latent's value is the length that it writes into the raw stream.

Latents that have been silent for `dead_after` of the run's frames are dead; an auxiliary loss lets the best `aux_k` of them
reconstruct what the others left over (Gao et al., section A.2), and its gradient reaches their encoder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from musae.card import MethodCard
from musae.dictionary import FrameSource, SparseCode, generator
from musae.kernels.auxk import auxk
from musae.kernels.sparse_decode import sparse_decode
from musae.kernels.topk_encode import topk_encode
from musae.training import GradientMethod, Recipe

CARD = MethodCard(
    name="topk",
    summary="TopK sparse autoencoder with an auxiliary loss for dead latents",
    paper="Gao et al. 2024, arXiv 2406.04093",
    configurations=11,
)

SAMPLE = 16_384
"""Frames that centre and scale are estimated on."""


class Topk(GradientMethod):
    """A TopK sparse autoencoder."""

    name = CARD.name
    unit_norm = ("W_dec",)

    def __init__(
        self,
        width: int = 2048,
        k: int = 32,
        seed: int = 0,
        epochs: int = 1,
        batch_size: int = 1024,
        learning_rate: float = 5e-3,
        aux_weight: float = 1 / 32,
        aux_k: int | None = None,
        dead_after: float = 1 / 16,
    ) -> None:
        """Store the hyper-parameters.

        `seed`: of the initial directions and of the order of frames. `batch_size`, `learning_rate`: chosen among 11 settings,
        nine on stand-in features and two on nano's training activations, where FVU on training pieces set aside was 0.160 at
        5e-3 and 0.197 at 2.5e-3 (width 2048, k 32, 1.05 M frames, 1 epoch); longer runs and other sizes were not tried.
        `aux_weight`, `aux_k`: weight and number of latents of the auxiliary loss; Gao et al.'s 1/32, and d / 2 where None.
        `dead_after`: Gao et al. call a latent dead after 10 M silent frames, more than a whole run here, so the limit is a share
        of the run's frames: a latent that fires once in 10,000 frames, far below the benchmark's rates, is still seen several
        times in a sixteenth of a million.
        """
        super().__init__()
        self.width = width
        self.k = k
        self.seed = seed
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.aux_weight = aux_weight
        self.aux_k = aux_k
        self.dead_after = dead_after

    @property
    def recipe(self) -> Recipe:
        return Recipe(batch_size=self.batch_size, learning_rate=self.learning_rate, epochs=self.epochs)

    def start(self, frames: FrameSource) -> None:
        sample = frames.sample(SAMPLE, self.seed)
        centre = geometric_median(sample)
        spread = (sample - centre).square().sum(1).mean()
        directions = torch.randn(self.width, frames.d, generator=generator("topk", self.seed))
        directions = functional.normalize(directions, dim=1).to(sample.device)
        self.parameters = {
            "W_enc": directions.clone(),
            "b_enc": torch.zeros(self.width, device=sample.device),
            "W_dec": directions,
            "b_dec": torch.zeros(frames.d, device=sample.device),
        }
        self.buffers = {
            "centre": centre,
            "scale": torch.sqrt(frames.d / spread.clamp_min(1e-30)),
            "silent": torch.zeros(self.width, dtype=torch.int64, device=sample.device),
            "limit": torch.tensor(int(self.dead_after * self.epochs * frames.frames)),
        }

    def loss(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        p, buffers = self.parameters, self.buffers
        z = (x - buffers["centre"]) * buffers["scale"]
        values, indices = topk_encode(z, p["W_enc"], p["b_enc"], self.k)
        z_hat = sparse_decode(values, indices, p["W_dec"], p["b_dec"])
        loss = functional.mse_loss(z_hat, z)

        active = values.detach() > 0
        silent = buffers["silent"].add_(len(x))
        silent.index_fill_(0, indices[active], 0)
        dead = (silent > buffers["limit"]).nonzero().squeeze(1)
        figures = {
            "fvu": loss.detach() / functional.mse_loss(z, z.mean(0).expand_as(z)),
            "l0": active.sum() / len(x),
            "dead": torch.tensor(len(dead) / self.width),
        }
        if len(dead) and self.aux_weight:
            best = self.aux_k or max(1, z.shape[1] // 2)
            loss = loss + self.aux_weight * auxk(z, z - z_hat.detach(), p["W_enc"], p["b_enc"], p["W_dec"], dead, best)
        return loss, figures

    def freeze(self) -> Self:
        if self.parameters:
            p = {name: tensor.detach().double() for name, tensor in self.parameters.items()}
            centre, scale = self.buffers["centre"].double(), self.buffers["scale"].double()
            folded = {
                "W_enc": p["W_enc"],
                "b_enc": p["b_enc"] / scale - p["W_enc"] @ centre,
                "W_dec": p["W_dec"],
                "b_dec": p["b_dec"] / scale + centre,
            }
            self.tensors = {name: tensor.float().contiguous() for name, tensor in folded.items()}
        return super().freeze()

    def encode(self, x: Tensor) -> SparseCode:
        x = self.checked(x)
        values, indices = topk_encode(x, self.tensors["W_enc"], self.tensors["b_enc"], self.k)
        return SparseCode.from_topk(values, indices, self.width)


def geometric_median(x: Tensor, tolerance: float = 1e-5, iterations: int = 100) -> Tensor:
    """The point of least summed distance to the rows of ``x [n, d]`` (Weiszfeld's iteration), float32 ``[d]``.

    Stops when a step is shorter than `tolerance` times the mean distance.
    """
    median = x.mean(0)
    for _ in range(iterations):
        distances = torch.linalg.vector_norm(x - median, dim=1)
        weights = 1 / distances.clamp_min(1e-6 * float(distances.mean()) + 1e-30)
        moved = (weights @ x) / weights.sum()
        step = float(torch.linalg.vector_norm(moved - median))
        median = moved
        if not math.isfinite(step) or step <= tolerance * float(distances.mean()):
            break
    return median


METHOD = Topk
