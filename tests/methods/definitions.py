"""Methods at a known start, and the code of a batch by its definition."""

import torch
from torch import Tensor

from musae.autoencoder import Autoencoder
from musae.dictionary import TensorFrames
from musae.testing import sample_frames


def started(cls: type[Autoencoder], x: Tensor | None = None, **options: object) -> Autoencoder:
    """A method at its start, its weights moved off their tied beginning."""
    method = cls(**{"width": 40, "k": 3, "seed": 2, "aux_weight": 0.0, **options})
    method.start(TensorFrames(sample_frames() if x is None else x))
    generator = torch.Generator().manual_seed(4)
    for p in method.parameters.values():
        p += 0.1 * torch.randn(p.shape, generator=generator)
        p.requires_grad_()
    return method


def dense_code(z: Tensor, p: dict[str, Tensor], budget: int) -> Tensor:
    """BatchTopK's code ``[n, F]``: the `budget` largest positive pre-activations."""
    h = torch.relu(z @ p["W_enc"].T + p["b_enc"])
    return h * (h >= h.flatten().topk(budget).values[-1])
