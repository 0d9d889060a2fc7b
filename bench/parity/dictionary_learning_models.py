"""dictionary_learning: a state dict and a configuration, as its `trainSAE` writes them, and as its `load_dictionary` reads
them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from dictionary_learning.dictionary import (  # type: ignore[import-not-found]
    AutoEncoder,
    AutoEncoderNew,
    GatedAutoEncoder,
    JumpReluAutoEncoder,
)
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE  # type: ignore[import-not-found]
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE  # type: ignore[import-not-found]
from dictionary_learning.trainers.top_k import AutoEncoderTopK  # type: ignore[import-not-found]
from dictionary_learning.utils import load_dictionary  # type: ignore[import-not-found]
from torch import Tensor

LIBRARY = "dictionary_learning"
DISTRIBUTIONS = ("dictionary-learning",)
VARIANTS: dict[str, tuple[Any, str]] = {
    "standard": (AutoEncoder, "StandardTrainer"),
    "p_anneal": (AutoEncoder, "PAnnealTrainer"),
    "new": (AutoEncoderNew, ""),
    "topk": (AutoEncoderTopK, "TopKTrainer"),
    "batch_topk": (BatchTopKSAE, "BatchTopKTrainer"),
    "matryoshka": (MatryoshkaBatchTopKSAE, "MatryoshkaBatchTopKTrainer"),
    "jumprelu": (JumpReluAutoEncoder, "JumpReluTrainer"),
    "gated": (GatedAutoEncoder, "GatedSAETrainer"),
}


def make(variant: str, folder: Path, sizes: dict[str, int]) -> Any:
    kind, trainer = VARIANTS[variant]
    d, width, k = sizes["d"], sizes["width"], sizes["k"]
    options: dict[str, Any] = {"k": k} if "TopK" in kind.__name__ else {}
    if kind is MatryoshkaBatchTopKSAE:
        options["group_sizes"] = [width // 4, width - width // 4]
    model = kind(d, width, **options)
    for name, parameter in model.named_parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape))
        if name == "threshold":
            parameter.abs_()
    if "TopK" in kind.__name__:
        model.threshold.fill_(0.45)
    torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, folder / "ae.pt")
    settings = {"trainer_class": trainer, "dict_class": kind.__name__, "activation_dim": d, "dict_size": width}
    settings |= {"k": k} if options else {}
    settings |= {"target_l0": 5} if kind is JumpReluAutoEncoder else {}
    config = {"trainer": {**settings, "layer": 4, "lm_name": "gpt2-small", "submodule_name": "resid_post_layer_4"}}
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    return load(folder)


def load(folder: Path) -> Any:
    return load_dictionary(str(folder), "cpu")[0]


def encode(model: Any, x: Tensor) -> Tensor:
    code: Tensor = model.encode(x)
    return code


def decode(model: Any, code: Tensor) -> Tensor:
    reconstruction: Tensor = model.decode(code)
    return reconstruction
