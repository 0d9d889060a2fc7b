"""Temporal sparse autoencoder, T-SAE (Bhalla et al. 2025, "Temporal Sparse Autoencoders: Leveraging the Sequential Nature of
Language for Interpretability", arXiv 2511.05541).

The first latents are high-level: they reconstruct the frame by themselves, as the first prefix of a Matryoshka autoencoder does,
and their codes h are to change slowly, while the rest explains what changes from frame to frame. Of pairs i of adjacent frames
t - 1, t of one clip, with s the cosine of two high-level codes,

    contrast = -1/2 mean_i [ log softmax_j s(h_t^i, h_(t-1)^j) + log softmax_j s(h_t^j, h_(t-1)^i) ] at j = i:

each code has to be nearer to that of its neighbour in time than to those of other pairs. The loss is the mean of both squared
errors plus the weighted contrast; the code is that of BatchTopK, with its threshold (`musae.batch_budget`).

Time is read in training alone: the encoder sees one frame, so the context of the frozen dictionary is ``frame``. An encoder that
reads the past is that of Lubana et al. (2025, "Priors in Time", arXiv 2511.01836); its codes are not sparse, however: it predicts
a frame by all latents, and only what is left is written by few.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from musae import parallel
from musae.autoencoder import fired
from musae.batch_budget import BatchBudget, by_group
from musae.card import MethodCard
from musae.errors import UserError
from musae.recipe import Recipe

CARD = MethodCard(
    name="temporal",
    summary="T-SAE: BatchTopK whose first latents change slowly, by a contrast of adjacent frames",
    paper="Bhalla et al. 2025, arXiv 2511.05541",
    configurations=3,
)


class Temporal(BatchBudget):
    """A temporal sparse autoencoder. It learns from pairs of adjacent frames: a source that knows clips has to give them.

    Three weights of the contrast were tried on an eighth of nano's training activations (131 k frames, width 2048, k 32). With 0,
    0.1 and 1, a high-level latent that was active stayed so in the next frame in 51, 57 and 76 of 100 cases, and FVU on training
    pieces set aside was 0.360, 0.358 and 0.378. The learning rate is that of `topk`; no other was tried.
    """

    name = CARD.name
    sequence = 2
    defaults = Recipe(batch_size=1024, learning_rate=5e-3, aux_weight=1 / 32)

    def __init__(
        self, width: int = 2048, k: int = 32, seed: int = 0, high_level: float = 0.2, contrast: float = 1.0, **recipe: Any
    ) -> None:
        """`width`, `k`, `seed`, `recipe`: see `GradientMethod`.

        `high_level`: share of the latents, the first ones, that are to change slowly; a fifth as in the paper. `contrast`: weight
        of their contrast beside squared errors of frames scaled to variance 1; 0.1 hardly changes what 0 gives.
        """
        super().__init__(width, k, seed, **recipe)
        self.high_level = high_level
        self.contrast = contrast
        if not 0 < high_level < 1:
            raise UserError(f"{self.name}: high_level = {high_level!r} must be a share of the latents between 0 and 1.")
        if contrast < 0:
            raise UserError(f"{self.name}: contrast = {contrast!r} must be 0 or positive.")

    @property
    def high(self) -> int:
        """Number of high-level latents: at least one, and not all."""
        return min(max(1, round(self.high_level * self.width)), max(1, self.width - 1))

    def loss(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        return super().loss(x.flatten(0, 1))

    def resample(self, x: Tensor, moments: Mapping[str, Tensor]) -> None:
        super().resample(x.flatten(0, 1), moments)

    def objective(self, z: Tensor) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor]:
        values, indices, smallest = self.select(z)
        ends = sorted({self.high, self.width})
        z_hat, errors = self.nested(z, values, indices, ends)
        part, latents = next(by_group(values, indices, ends))
        codes = part.new_zeros(len(z), self.high).scatter_add(1, latents, part)
        contrast = contrast_of(codes[1::2], codes[::2])
        active = fired(values, indices, self.width)
        figures = {"l0": active.sum() / len(z), "threshold": smallest, "contrast": contrast.detach()}
        return errors.mean() + self.contrast * contrast, figures, z_hat, active


def contrast_of(later: Tensor, earlier: Tensor) -> Tensor:
    """The symmetric contrast of codes ``[p, F]`` of adjacent frames, a scalar; all other pairs of all processes are negatives."""
    mine = len(later)
    later, earlier = (_of_all(functional.normalize(codes, dim=1, eps=1e-8)) for codes in (later, earlier))
    similar = later @ earlier.T
    pair = torch.arange(len(similar), device=similar.device)
    loss = (functional.cross_entropy(similar, pair) + functional.cross_entropy(similar.T, pair)) / 2
    # each process has the gradient by its own codes; weighted by its share of rows and added up, that is the whole one
    return loss.detach() + (loss - loss.detach()) * (len(similar) / mine)


def _of_all(codes: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks, differentiable in this one's."""
    if parallel.size() == 1:
        return codes
    everyone = parallel.gather(codes.detach())
    before = int(parallel.gather(torch.tensor([len(codes)], device=codes.device))[: parallel.rank()].sum())
    return torch.cat([everyone[:before], codes, everyone[before + len(codes) :]])


METHOD = Temporal
