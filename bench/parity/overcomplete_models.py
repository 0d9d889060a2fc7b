"""overcomplete: state dicts, with the ``config.json`` that `musae.formats.overcomplete` asks for where a state does not say
enough."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# the comparison's contestant lets the library be imported without torchvision
runpy.run_path(str(Path(__file__).resolve().parents[1] / "peers" / "overcomplete_sae.py"))

from overcomplete.sae import SAE, BatchTopKSAE, JumpSAE, TopKSAE  # type: ignore[import-not-found]  # noqa: E402

LIBRARY = "overcomplete"
DISTRIBUTIONS = ("Overcomplete",)
CLASSES = {"SAE": SAE, "TopKSAE": TopKSAE, "BatchTopKSAE": BatchTopKSAE, "JumpSAE": JumpSAE}
VARIANTS: dict[str, dict[str, Any]] = {
    "relu": {"class": "SAE"},
    "relu-batch-norm": {"class": "SAE", "encoder": "mlp_bn_1"},
    "relu-untied": {"class": "SAE", "untied": True},
    "topk": {"class": "TopKSAE"},
    "topk-max-l2": {"class": "TopKSAE", "normalization": "max_l2", "use_multiplier": True},
    "topk-l1": {"class": "TopKSAE", "normalization": "l1"},
    "batchtopk": {"class": "BatchTopKSAE", "running_threshold": 0.45},
    "jumprelu": {"class": "JumpSAE"},
    "jumprelu-identity": {"class": "JumpSAE", "normalization": "identity"},
}


def make(variant: str, folder: Path, sizes: dict[str, int]) -> Any:
    options = VARIANTS[variant]
    settings: dict[str, Any] = {"library": "overcomplete", "class": options["class"]}
    settings |= {name: options[name] for name in ("normalization", "running_threshold") if name in options}
    settings |= {"top_k": sizes["k"]} if options["class"] == "TopKSAE" else {}
    model = build(settings, sizes["d"], sizes["width"], options.get("encoder", "linear"), options.get("use_multiplier", False))
    if options.get("untied"):
        model.eval()
        model.untied(bias=True).train()
    for name, parameter in model.named_parameters():
        spread, centre = (1.0, -1.0) if name == "thresholds" else (0.3, 0.0)
        parameter.copy_(spread * torch.randn(parameter.shape) + centre)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.copy_(0.5 + torch.rand(buffer.shape))
    torch.save(model.state_dict(), folder / "sae.pt")
    if options != {"class": "JumpSAE"}:
        (folder / "config.json").write_text(json.dumps(settings))
    return model.eval()


def build(settings: dict[str, Any], d: int, width: int, encoder: str = "linear", use_multiplier: bool = False) -> Any:
    kind = CLASSES[settings["class"]]
    options: dict[str, Any] = {"top_k": settings["top_k"]} if "top_k" in settings else {}
    dictionary = {"normalization": settings.get("normalization", "l2"), "use_multiplier": use_multiplier}
    model = kind(d, width, encoder_module=encoder, dictionary_params=dictionary, **options)
    if "running_threshold" in settings:
        model.running_threshold = torch.tensor(settings["running_threshold"])
    return model


def load(folder: Path) -> Any:
    state = torch.load(folder / "sae.pt", weights_only=True)
    width, d = state["dictionary._weights"].shape
    model = build(json.loads((folder / "config.json").read_text()), d, width)
    model.load_state_dict(state)
    return model.eval()


def encode(model: Any, x: Tensor) -> Tensor:
    code: Tensor = model.encode(x)[1]
    return code


def decode(model: Any, code: Tensor) -> Tensor:
    reconstruction: Tensor = model.decode(code)
    return reconstruction
