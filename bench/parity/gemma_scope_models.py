"""Gemma Scope: ``params.npz`` as published, read by SAELens's loader of it. Google published weights and no library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import sae_lens  # type: ignore[import-not-found]
import torch
from sae_lens.loading import pretrained_sae_loaders as loaders  # type: ignore[import-not-found]
from torch import Tensor

LIBRARY = "gemma_scope"
DISTRIBUTIONS = ("sae-lens", "numpy")
VARIANTS = ("jumprelu",)


def make(variant: str, folder: Path, sizes: dict[str, int]) -> Any:
    d, width = sizes["d"], sizes["width"]
    arrays = {
        "W_enc": 0.3 * torch.randn(d, width),
        "b_enc": 0.3 * torch.randn(width),
        "threshold": 0.6 * torch.rand(width),
        "W_dec": 0.3 * torch.randn(width, d),
        "b_dec": 0.3 * torch.randn(d),
    }
    published: dict[str, Any] = {name: tensor.numpy() for name, tensor in arrays.items()}
    np.savez(folder / "params.npz", **published)
    return load(folder)


def load(folder: Path) -> Any:
    """The loader asks the hub for the file: it is given this one. It takes sizes from the names of published folders."""
    with np.load(folder / "params.npz") as archive:
        d, width = archive["W_enc"].shape
    loaders.hf_hub_download = lambda **asked: str(folder / asked["filename"])
    sizes = {"d_in": d, "d_sae": width}
    name = "layer_4/width_16k/average_l0_5"
    config, state, _ = loaders.gemma_2_sae_huggingface_loader("google/gemma-scope-2b-pt-res", name, "cpu", False, sizes)
    sae = sae_lens.JumpReLUSAE(sae_lens.JumpReLUSAEConfig.from_dict(loaders.handle_config_defaulting(config | sizes)))
    sae.load_state_dict(state)
    return sae


def encode(sae: Any, x: Tensor) -> Tensor:
    code: Tensor = sae.encode(x)
    return code


def decode(sae: Any, code: Tensor) -> Tensor:
    reconstruction: Tensor = sae.decode(code)
    return reconstruction
