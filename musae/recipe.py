"""The recipe of a training by gradient descent: how long, how fast, in which precision, and what becomes of dead latents.

Shares are of the run's steps or frames, so that a recipe means the same for a short run and a long one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

from musae.errors import UserError

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters that all methods of the training loop share."""

    batch_size: int = 1024
    """Frames of a step."""
    learning_rate: float = 5e-3
    """Of Adam, between warm-up and decay."""
    epochs: int = 1
    """Passes over the frames."""
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises: Adam's second moment is noise at first."""
    decay: float = 0.3
    """Share of the steps, the last ones, over which it falls to 0."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after the other, before its step: a batch that memory would not hold otherwise. What
    a method selects over a batch (BatchTopK) it selects over a part."""
    precision: Precision = "float32"
    """Of frames and weights in the kernels of the reconstruction; master weights, moments and sums are float32 always."""
    ema: float = 0.0
    """Decay, a step, of the moving average of the weights that is frozen in place of the last ones; 0 freezes the last ones. What
    is no weight, the threshold of BatchTopK among it, is that of the last ones."""
    dead_after: float = 1 / 16
    """A latent that was silent for this share of the run's frames is dead. Gao et al. (2024) say 10 M frames, more than a whole
    run here; a latent that fires once in 10,000 frames is still seen several times in a sixteenth of a million."""
    aux_weight: float = 0.0
    """Weight of the auxiliary loss, by which the dead reconstruct what the living left over (`musae.kernels.auxk`)."""
    aux_k: int | None = None
    """Dead latents that it uses in a frame; half the width of the stream where None (Gao et al., section A.2)."""
    resample: int = 0
    """How often, evenly spread over the run before the learning rate falls, dead latents start anew towards badly reconstructed
    frames (Bricken et al. 2023, "Towards Monosemanticity", appendix)."""

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step (0, 1, ...)."""
        rising = (step + 1) / max(1.0, self.warmup * steps)
        falling = (steps - step) / max(1.0, self.decay * steps)
        return self.learning_rate * min(1.0, rising, falling)

    def resamples(self, done: int, steps: int) -> bool:
        """Whether dead latents start anew after `done` steps."""
        last = (1 - self.decay) * steps
        return done < last and done * (self.resample + 1) // last > (done - 1) * (self.resample + 1) // last

    def changed(self, method: str, options: Mapping[str, Any]) -> Self:
        """This recipe with some options replaced.

        Raises UserError for an option that there is not (naming the nearest) and for a value that makes no sense.
        """
        known = [field.name for field in fields(Recipe)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}."
                raise UserError(f"{method}: no option named {name!r}; {hint}")
        recipe = replace(self, **options)
        recipe._check(method)
        return recipe

    def _check(self, method: str) -> None:
        wanted = {
            "batch_size": (_whole(self.batch_size, 1), "a whole number, at least 1"),
            "learning_rate": (_number(self.learning_rate) and self.learning_rate > 0, "positive"),
            "epochs": (_whole(self.epochs, 1), "a whole number, at least 1"),
            "warmup": (_number(self.warmup) and 0 <= self.warmup <= 1, "a share, from 0 to 1"),
            "decay": (_number(self.decay) and 0 <= self.decay <= 1, "a share, from 0 to 1"),
            "accumulate": (
                _whole(self.accumulate, 1) and self.accumulate <= self.batch_size,
                "a whole number, from 1 to the batch size",
            ),
            "precision": (self.precision in ("float32", "bfloat16"), "'float32' or 'bfloat16'"),
            "ema": (_number(self.ema) and 0 <= self.ema < 1, "from 0 to below 1"),
            "dead_after": (_number(self.dead_after) and self.dead_after > 0, "positive"),
            "aux_weight": (_number(self.aux_weight) and self.aux_weight >= 0, "0 or positive"),
            "aux_k": (self.aux_k is None or _whole(self.aux_k, 1), "a whole number, or None for half the stream's width"),
            "resample": (_whole(self.resample, 0), "a whole number, 0 or positive"),
        }
        for name, (good, words) in wanted.items():
            if not good:
                raise UserError(f"{method}: {name} = {getattr(self, name)!r} must be {words}; choose another.")


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
