"""Sparsity by a penalty: holds the mean number of active latents at k where a method's loss has a coefficient in k's place.

The loss is ``(||z - z_hat||^2 + coefficient * penalty) / d``, a mean over frames. Which coefficient gives an L0 of k depends on
data, width and the state of learning, so nobody is asked for it: it is steered while the dictionary learns. With ``e = log(L0 /
target)`` of each batch, and the integral I of ``RATE * e`` over the steps, it is ``exp(I + GAIN * e)``: a proportional-integral
controller, in logarithms because L0 answers to the coefficient about as a power does. Encoders move in proportion to the
learning rate, and the integral with them: a loop that kept its pace while they slow down would swing.

The target starts at `START` times k and falls to k, evenly in its logarithm, over the first share of the run,
`sparsity_warmup`: latents find directions before they compete. At the start each latent fires in the same share of frames, and
all together make the first target: so no latent is born dead, and codes are sparse (a ReLU without bias fires in half of all
frames, and its code would be as wide as the dictionary). All state is in the buffers; several processes steer by the L0 of all.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from musae import parallel
from musae.autoencoder import Autoencoder
from musae.dictionary import FrameSource
from musae.errors import UserError

START = 4.0
"""First target of L0, relative to k."""
GAIN = 0.6
"""Change of the coefficient's logarithm by that of L0, at once. Adam's momentum answers some ten steps late: at a learning rate
of 1e-2 a gain of 1 begins to swing, and at 2 L0 swings by a quarter for good, which kills a tenth of the latents."""
RATE = 8.0
"""The same for each step, by the step's learning rate. L0 settles within some 50 steps at 1e-2, and while the coefficient that is
needed drifts as it does under p-annealing, it lags by about 1 % in a run of a thousand steps."""
NEAR = 0.5
"""Largest error that the integral counts: it would wind up while encoders are still on their way."""
FAR = 2.0
"""Largest error that counts at all."""
TINY = 1e-3
"""Least L0 that the logarithm is taken of."""
PROBE = 4096
"""Frames on which the rates of firing at the start are set."""
ROWS = 256
"""Latents whose levels are found at a time."""


class Penalised(Autoencoder):
    """A sparse autoencoder whose loss has a penalty with a steered coefficient; `objective` multiplies by `coefficient`."""

    budget = "mean"

    def __init__(self, width: int = 2048, k: int = 32, seed: int = 0, sparsity_warmup: float = 0.2, **recipe: Any) -> None:
        """`sparsity_warmup`: share of the run over which the target of L0 falls to k. The others: see `GradientMethod`.

        Raises UserError for what is no share.
        """
        super().__init__(width, k, seed, **recipe)
        if not 0 <= sparsity_warmup <= 1:
            raise UserError(f"{self.name}: sparsity_warmup = {sparsity_warmup!r} must be a share, from 0 to 1; choose another.")
        self.sparsity_warmup = sparsity_warmup

    def start(self, frames: FrameSource) -> None:
        super().start(frames)
        self.parameters |= self.opened(self.levels(frames))
        self.buffers |= {"coefficient": torch.ones(()), "integral": torch.zeros(())}

    @property
    def coefficient(self) -> Tensor:
        """Of the penalty, for this batch."""
        return self.buffers["coefficient"].clone()

    @property
    def target(self) -> float:
        """The L0 that is aimed at now."""
        left = 1 - self.progress / self.sparsity_warmup if self.sparsity_warmup else 0.0
        return float(self.k * START ** max(0.0, left))

    def loss(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss, figures = super().loss(x)
        self.steer(parallel.mean(figures["l0"].detach(), len(x)))
        return loss, {**figures, "coefficient": self.coefficient}

    @torch.no_grad()
    def steer(self, l0: Tensor) -> None:
        """Set the coefficient by the mean number of latents that fired in a batch."""
        recipe = self.recipe
        rising = self.progress / recipe.warmup if recipe.warmup else 1.0
        falling = (1 - self.progress) / recipe.decay if recipe.decay else 1.0
        speed = recipe.learning_rate * min(1.0, rising, falling) / recipe.accumulate
        error = (l0.clamp_min(TINY) / self.target).log().clamp(-FAR, FAR)
        self.buffers["integral"].add_(RATE * speed * error.clamp(-NEAR, NEAR))
        self.buffers["coefficient"].copy_((self.buffers["integral"] + GAIN * error).exp())

    def levels(self, frames: FrameSource) -> Tensor:
        """The level ``[F]`` that each latent's ``W_enc z`` exceeds in the share of frames that makes L0 the first target."""
        return level(self.scaled(frames.sample(PROBE, self.seed)), self.parameters["W_enc"], START * self.k / self.width)

    def revived(self, z: Tensor, dead: Tensor, directions: Tensor) -> dict[str, Tensor]:
        rows = super().revived(z, dead, directions)
        return {**rows, **self.opened(level(z, rows["W_enc"], self.k / self.width))}

    @abstractmethod
    def opened(self, levels: Tensor) -> dict[str, Tensor]:
        """Parameters besides the directions by which latents fire where ``W_enc z`` exceeds `levels` ``[m]``."""


@torch.no_grad()
def level(z: Tensor, W_enc: Tensor, share: float) -> Tensor:
    """What each row's ``W_enc z`` exceeds in a share of the frames ``z [n, d]``, and in no more than half; ``[m]``, 0 or more."""
    rank = min(len(z), max(1, math.ceil((1 - min(0.5, share)) * len(z))))
    found = [(z @ rows.T).kthvalue(rank, dim=0).values for rows in torch.split(W_enc, ROWS)]
    return torch.cat(found).clamp_min(0) if found else z.new_zeros(0)
