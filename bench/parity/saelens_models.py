"""SAELens: inference classes, and training classes saved by ``save_inference_model``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sae_lens  # type: ignore[import-not-found]
import torch
from torch import Tensor

LIBRARY = "saelens"
DISTRIBUTIONS = ("sae-lens",)
SCALE = 0.37
"""The constant of ``expected_average_only_in``."""

VARIANTS: dict[str, dict[str, Any]] = {
    "standard": {"class": "Standard", "apply_b_dec_to_input": True},
    "standard-plain": {"class": "Standard", "apply_b_dec_to_input": False},
    "standard-scaled": {"class": "Standard", "apply_b_dec_to_input": True, "normalize_activations": "expected_average_only_in"},
    "topk": {"class": "TopK", "apply_b_dec_to_input": True},
    "topk-rescaled": {"class": "TopK", "apply_b_dec_to_input": False, "rescale_acts_by_decoder_norm": True},
    "topk-rescaled-scaled": {
        "class": "TopK",
        "apply_b_dec_to_input": True,
        "rescale_acts_by_decoder_norm": True,
        "normalize_activations": "expected_average_only_in",
    },
    "jumprelu": {"class": "JumpReLU", "apply_b_dec_to_input": False},
    "jumprelu-subtracted": {"class": "JumpReLU", "apply_b_dec_to_input": True},
    "gated": {"class": "Gated", "apply_b_dec_to_input": True},
    "gated-scaled": {"class": "Gated", "apply_b_dec_to_input": False, "normalize_activations": "expected_average_only_in"},
    "batchtopk": {"class": "BatchTopK", "apply_b_dec_to_input": True, "rescale_acts_by_decoder_norm": False},
    "matryoshka": {"class": "MatryoshkaBatchTopK", "apply_b_dec_to_input": True},
}


def make(variant: str, folder: Path, sizes: dict[str, int]) -> Any:
    options = dict(VARIANTS[variant])
    name = options.pop("class")
    trains = "BatchTopK" in name
    prefix = f"{name}Training" if trains else name
    if "TopK" in name:
        options["k"] = sizes["k"]
    if name.startswith("Matryoshka"):
        options["matryoshka_widths"] = [sizes["width"] // 4, sizes["width"]]
    config = getattr(sae_lens, f"{prefix}SAEConfig")(d_in=sizes["d"], d_sae=sizes["width"], **options)
    config.metadata.model_name, config.metadata.hook_name = "gpt2-small", "blocks.4.hook_resid_post"
    sae = getattr(sae_lens, f"{prefix}SAE")(config)
    for parameter_name, parameter in sae.named_parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape))
        if parameter_name == "threshold":
            parameter.abs_()
    if trains:
        sae.topk_threshold = torch.tensor(0.45, dtype=torch.double)
        sae.save_inference_model(folder)
        return load(folder)
    sae.save_model(folder)
    if options.get("normalize_activations", "none") != "none":
        (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": SCALE}))
    return load(folder)


def load(folder: Path) -> Any:
    sae = sae_lens.SAE.load_from_disk(folder)
    scaler = folder / "activation_scaler.json"
    if scaler.exists():
        sae.fold_activation_norm_scaling_factor(json.loads(scaler.read_text())["scaling_factor"])
    return sae


def encode(sae: Any, x: Tensor) -> Tensor:
    code: Tensor = sae.encode(x)
    return code


def decode(sae: Any, code: Tensor) -> Tensor:
    reconstruction: Tensor = sae.decode(code)
    return reconstruction
