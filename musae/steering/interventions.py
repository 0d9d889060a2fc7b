"""Interventions on the residual stream during `Generator.generate`: each is a `Splice` ``[n, T, d] -> [n, T, d]``.

They act on every row that the generator hands out, those of the prompt among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from musae.dictionary import Dictionary
from musae.errors import UserError
from musae.generators.generator import Splice


def add(vector: Tensor) -> Splice:
    """Add a vector ``[d]`` to every row: ``x' = x + alpha beta W_dec[j]`` with the vector of `combined` (arXiv 2505.18186)."""

    def splice(x: Tensor) -> Tensor:
        return x + vector.to(x)

    return splice


def combined(dictionary: Dictionary, latents: Sequence[int], amounts: Sequence[float]) -> Tensor:
    """What several latents write at some activations: ``sum_i amounts_i W_dec[latents_i]``, float32 ``[d]``.

    For the paper's steering, an amount is alpha times beta, the latent's largest activation.
    """
    return torch.tensor(list(amounts), dtype=torch.float32) @ dictionary.atoms[_checked(dictionary, latents)]


def clamp(dictionary: Dictionary, latents: Sequence[int], values: Sequence[float]) -> Splice:
    """Set latents to values in every row; all else of the row, the dictionary's error among it, stays.

    ``x' = x + sum_i (values_i - code_i(x)) W_dec[latents_i]``. Raises UserError for a dictionary whose code of a row depends on
    earlier rows: a generator hands out one row at a time.
    """
    if dictionary.context != "frame":
        raise UserError(
            f"{dictionary.name} reads earlier frames too, so its latents cannot be clamped or ablated while music is generated; "
            f"take a dictionary of context 'frame'."
        )
    index = _checked(dictionary, latents)
    atoms, goal = dictionary.atoms[index], torch.tensor(list(values), dtype=torch.float32)

    def splice(x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        active = dictionary.encode(rows).dense()[:, index]
        return x + ((goal - active) @ atoms).view(x.shape).to(x)

    return splice


def ablate(dictionary: Dictionary, latents: Sequence[int]) -> Splice:
    """Take away what latents contribute: clamp them to 0."""
    return clamp(dictionary, latents, [0.0] * len(latents))


def _checked(dictionary: Dictionary, latents: Sequence[int]) -> Tensor:
    for latent in latents:
        if not 0 <= latent < len(dictionary.atoms):
            raise UserError(
                f"latent {latent}: this {dictionary.name} dictionary has latents 0 to {len(dictionary.atoms) - 1}; choose one."
            )
    return torch.tensor(list(latents), dtype=torch.int64)
