"""What all sparse autoencoders here have in common: input scaling, initial weights, dead latents, freezing, encoding.

They learn on ``z = (x - centre) * scale``: the centre is the geometric median of a sample of frames, and the scale makes the
mean squared norm of z equal d, so that one learning rate fits every layer. `freeze` folds both into the weights: atoms keep norm
1 (where `unit_norm` names them), so a latent's value is the length that it writes into the raw stream. A learnt bias is not
subtracted before the encoder: ``b_enc`` can express that.

Encoder and decoder start as the same random directions of norm 1 (Gao et al. 2024, arXiv 2406.04093, section A.1), which depend
on the seed alone: methods of one seed start alike and see frames in the same order, so that their differences are the methods'.
A method adds its own parameters, its loss and the rule by which it encodes (`musae.frozen`).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from musae import frozen, parallel
from musae.dictionary import FrameSource, SparseCode, generator
from musae.kernels.auxk import TINY, auxk
from musae.training import GradientMethod

SAMPLE = 16_384
"""Frames that centre and scale are estimated on."""

REVIVED = 0.2
"""Norm of a resampled encoder row, relative to the mean norm of the living (Bricken et al. 2023)."""


class Autoencoder(GradientMethod):
    """A sparse autoencoder: parameters ``W_enc [F, d]``, ``b_enc [F]``, ``W_dec [F, d]``, ``b_dec [d]``, in the frame of z."""

    rule: ClassVar[frozen.Rule]
    """How the frozen dictionary encodes."""
    unit_norm: tuple[str, ...] = ("W_dec",)

    def start(self, frames: FrameSource) -> None:
        sample = frames.sample(SAMPLE, self.seed)
        centre = geometric_median(sample)
        spread = (sample - centre).square().sum(1).mean()
        directions = torch.randn(self.width, frames.d, generator=generator("directions", self.seed))
        directions = functional.normalize(directions, dim=1)
        self.parameters = {
            "W_enc": directions.clone(),
            "b_enc": torch.zeros(self.width),
            "W_dec": directions,
            "b_dec": torch.zeros(frames.d),
        }
        self.buffers = {
            "centre": centre,
            "scale": torch.sqrt(frames.d / spread.clamp_min(1e-30)),
            "silent": torch.zeros(self.width, dtype=torch.int64),
            "limit": torch.tensor(int(self.recipe.dead_after * self.recipe.epochs * frames.frames)),
        }

    @abstractmethod
    def objective(self, z: Tensor) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor]:
        """Loss of scaled frames ``z [b, d]`` but for the auxiliary one, figures, reconstruction ``[b, d]``, and `fired` ``[F]``.

        z is float32 or, where the recipe says so, bfloat16; the reconstruction is float32.
        """

    def loss(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        z = self.scaled(x)
        half = z.to(getattr(torch, self.recipe.precision))
        loss, figures, z_hat, fired = self.objective(half)
        dead = self.count(fired, len(x))
        error = functional.mse_loss(z_hat.detach(), z)
        figures = {
            "fvu": error / functional.mse_loss(z, z.mean(0).expand_as(z)),
            "dead": z.new_tensor(len(dead) / self.width),
            **figures,
        }
        if len(dead) and self.recipe.aux_weight:
            loss = loss + self.recipe.aux_weight * self.auxiliary(half, z - z_hat.detach(), dead)
        return loss, figures

    def scaled(self, x: Tensor) -> Tensor:
        """z of raw frames ``[b, d]``."""
        scaled: Tensor = (x - self.buffers["centre"]) * self.buffers["scale"]
        return scaled

    def count(self, fired: Tensor, rows: int) -> Tensor:
        """Count frames since latents fired, over all processes; returns the dead ones, ascending.

        `fired [F]`: whether, or how often, each latent fired among this process's `rows` frames.
        """
        counts = parallel.add(torch.cat([fired.long(), fired.new_tensor([rows], dtype=torch.int64)]))
        silent = self.buffers["silent"].add_(counts[-1])
        silent.masked_fill_(counts[:-1] > 0, 0)
        return (silent > self.buffers["limit"]).nonzero().squeeze(1)

    @property
    def encoder_bias(self) -> Tensor:
        """What is added to ``W_enc z`` before a latent is judged to fire ``[F]``."""
        return self.parameters["b_enc"]

    def auxiliary(self, z: Tensor, error: Tensor, dead: Tensor) -> Tensor:
        """The auxiliary loss of dead latents, relative to what all processes together left over."""
        p = self.parameters
        best = self.recipe.aux_k or max(1, z.shape[1] // 2)
        loss = auxk(z, error.to(z.dtype), p["W_enc"], self.encoder_bias, p["W_dec"], dead, best)
        if parallel.size() > 1:
            mine = error.square().mean()
            loss = loss * (mine / parallel.mean(mine, len(z)).clamp_min(TINY))
        return loss

    @torch.no_grad()
    def resample(self, x: Tensor, moments: Mapping[str, Tensor]) -> None:
        """Point dead latents at frames drawn in proportion to their squared loss; see `Recipe.resample`.

        Among several processes the first one draws.
        """
        dead = (self.buffers["silent"] > self.buffers["limit"]).nonzero().squeeze(1)
        if not len(dead):
            return
        p, z = self.parameters, self.scaled(x)
        with parallel.alone():
            left = (z - self.reconstruct(z)).square().sum(1)
        draw = generator(f"resample {int(self.progress * 1e9)}", self.seed)
        chosen = torch.multinomial(left.cpu().double().square() + TINY, len(dead), replacement=len(dead) > len(z), generator=draw)
        directions = functional.normalize(z[chosen.to(z.device)] - p["b_dec"], dim=1)
        directions = parallel.from_first(directions.contiguous())
        for name, rows in self.revived(z, dead, directions).items():
            p[name][dead] = rows
            moments[f"avg.{name}"][dead] = 0
            moments[f"sq.{name}"][dead] = 0
        self.buffers["silent"][dead] = 0

    def revived(self, z: Tensor, dead: Tensor, directions: Tensor) -> dict[str, Tensor]:
        """What dead latents ``[m]`` start anew with, by parameter: new rows, given their directions ``[m, d]`` of norm 1.

        `z` is the batch that these come from. A method with tensors of its own extends it.
        """
        encoders = self.parameters["W_enc"]
        alive = torch.ones(self.width, dtype=torch.bool, device=z.device).index_fill(0, dead, False)
        norm = encoders[alive].norm(dim=1).mean() if bool(alive.any()) else encoders.norm(dim=1).mean()
        return {"W_enc": REVIVED * norm * directions, "b_enc": directions.new_zeros(len(dead)), "W_dec": directions}

    @torch.no_grad()
    def reconstruct(self, z: Tensor) -> Tensor:
        """Reconstruction ``[b, d]`` of scaled frames by the weights as they are, without counting anything."""
        return self.objective(z)[2]

    def freeze(self) -> Self:
        if self.parameters:
            self.tensors = {name: tensor.float().cpu().contiguous() for name, tensor in self.folded().items()}
        return super().freeze()

    def folded(self) -> dict[str, Tensor]:
        """The frozen tensors, float64, in the frame of raw inputs. A method with tensors of its own extends it."""
        p = {name: tensor.detach().double() for name, tensor in self.parameters.items()}
        centre, scale = self.buffers["centre"].double(), self.buffers["scale"].double()
        return {
            "W_enc": p["W_enc"],
            "b_enc": p["b_enc"] / scale - p["W_enc"] @ centre,
            "W_dec": p["W_dec"],
            "b_dec": p["b_dec"] / scale + centre,
        }

    def encode(self, x: Tensor) -> SparseCode:
        self._tensor("W_dec")
        return frozen.encode(self.checked(x), self.tensors, self.rule, self.k)


def fired(values: Tensor, indices: Tensor, width: int) -> Tensor:
    """How often each latent fires in a code of ``values [b, s]``, ``indices [b, s]``: int64 ``[F]``."""
    return torch.bincount(indices[values.detach() > 0], minlength=width)


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
