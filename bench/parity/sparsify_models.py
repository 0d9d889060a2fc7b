"""sparsify: TopK, with the number of latents given or as a multiple of d."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sparsify import SparseCoder, SparseCoderConfig  # type: ignore[import-not-found]
from torch import Tensor

LIBRARY = "sparsify"
DISTRIBUTIONS = ("eai-sparsify",)
VARIANTS = ("topk", "topk-expansion")


def make(variant: str, folder: Path, sizes: dict[str, int]) -> Any:
    size = {"num_latents": sizes["width"]} if variant == "topk" else {"expansion_factor": 2}
    coder = SparseCoder(sizes["d"], SparseCoderConfig(k=sizes["k"], **size))
    for parameter in coder.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape))
    coder.save_to_disk(folder)
    return coder


def load(folder: Path) -> Any:
    return SparseCoder.load_from_disk(folder)


def encode(coder: Any, x: Tensor) -> Tensor:
    values, indices, before = coder.encode(x)
    return torch.zeros_like(before).scatter_(1, indices, values)


def decode(coder: Any, code: Tensor) -> Tensor:
    values, indices = code.topk(coder.cfg.k)
    reconstruction: Tensor = coder.decode(values, indices)
    return reconstruction
