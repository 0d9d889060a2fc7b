"""overcomplete (Fel et al.): a state dict, ``sae.pt`` or any name, with a linear encoder.

The library has no format of its own: people keep ``model.state_dict()``. That says neither which of its classes it is, nor k, nor
BatchTopK's threshold (which is no tensor of the state), nor how atoms are normalised. So a ``config.json`` beside it does::

    {"library": "overcomplete", "class": "TopKSAE", "top_k": 32, "normalization": "l2"}

``class`` is ``SAE`` (ReLU), ``TopKSAE``, ``BatchTopKSAE`` (``running_threshold`` instead of ``top_k``) or ``JumpSAE`` (whose
thresholds are in the state: it needs no configuration). ``normalization`` is the dictionary layer's, ``l2`` by default, as in the
library.

Weights: ``encoder.final_block.0.weight [F, d]`` (or ``encoder.weight``, of an untied encoder) with its bias,
``dictionary._weights [F, d]``, ``dictionary.multiplier`` (a logarithm). There is no bias of the decoder. A batch norm after the
encoder is folded in with its running statistics. Codes equal to a threshold are kept: the threshold here is the next smaller
float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from musae.errors import UserError
from musae.formats.adapter import Adapter, Config, Frozen, Weights, imported, stored, write_json
from musae.formats.weights import read_state_dict, unknown
from musae.frozen import Rule
from musae.methods.imported import Imported

CONFIG, WEIGHTS = "config.json", "sae.pt"

RULES: dict[str, Rule] = {"SAE": "relu", "TopKSAE": "topk", "BatchTopKSAE": "jumprelu", "JumpSAE": "jumprelu"}

NORMALIZATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "l2": lambda w: w / (w.norm(dim=1, keepdim=True) + 1e-8),
    "max_l2": lambda w: w / w.norm(dim=1).amax(),
    "l1": lambda w: w / (w.abs().sum(1, keepdim=True) + 1e-8),
    "max_l1": lambda w: w / w.abs().sum(1).amax(),
    "identity": lambda w: w,
}
"""What the dictionary layer does to its weights before it multiplies them: each row by its norm, or all by the largest."""

BATCH_NORM_EPSILON = 1e-5
"""PyTorch's default, which the library does not change."""

LEAST = torch.finfo(torch.float32).tiny
"""The threshold that stands for 0, whose logarithm cannot be stored."""


def claims(path: Path) -> bool:
    return (path / WEIGHTS).is_file() or (path.suffix in (".pt", ".pth") and path.stem.split("_")[0] != "ae")


def read(path: Path) -> Imported:
    path = path / WEIGHTS if path.is_dir() else path
    weights = read_state_dict(path)
    if "dictionary._weights" not in weights.tensors:
        if "dictionary.Relax" in weights.tensors:
            raise UserError(
                f"{path}: an archetypal dictionary is not read; save a model with its get_dictionary() as plain weights."
            )
        raise unknown(weights, "an overcomplete state dict has dictionary._weights")
    config = Config(path.parent / CONFIG) if (path.parent / CONFIG).is_file() else None
    name = _class(weights, config)
    W_enc, b_enc = _encoder(weights)
    W_dec = weights.take("dictionary._weights", "F", "d")
    normalization = config.word("normalization", "l2") if config else "l2"
    if config and normalization not in NORMALIZATIONS:
        raise config.bad("normalization", " or ".join(NORMALIZATIONS))
    growth = weights.take("dictionary.multiplier").exp()
    tensors = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": NORMALIZATIONS[normalization](W_dec) * growth}
    tensors["b_dec"] = torch.zeros(W_dec.shape[1], dtype=torch.float64)
    k = config.needed("top_k", "a state dict does not hold it") if config and name == "TopKSAE" else None
    if RULES[name] == "jumprelu":
        tensors["threshold"] = _threshold(weights, config, name)
    weights.close(f"overcomplete's {name}")
    return imported(weights, RULES[name], k, tensors, library="overcomplete", architecture=name)


def _class(weights: Weights, config: Config | None) -> str:
    """One of `RULES`. Only a JumpSAE is known by its tensors."""
    if "Q" in weights.tensors:
        raise UserError(
            f"{weights.path}: a QSAE quantises its codes, by none of the rules here; give an SAE, TopKSAE, BatchTopKSAE or "
            f"JumpSAE."
        )
    jumps = "thresholds" in weights.tensors
    if config is None and not jumps:
        raise UserError(
            f"{weights.path}: an overcomplete state dict does not say whether it is an SAE, a TopKSAE or a BatchTopKSAE; write "
            f'{{"library": "overcomplete", "class": "TopKSAE", "top_k": 32, "normalization": "l2"}} (with its own values) to '
            f"{weights.path.parent / CONFIG}."
        )
    name = config.word("class", "JumpSAE" if jumps else "") if config else "JumpSAE"
    if config and name not in RULES:
        raise config.bad("class", " or ".join(RULES))
    if config and name in ("SAE", "JumpSAE") and config.raw("top_k") is not None:
        raise UserError(
            f"{config.path}: class is {name!r}, and top_k is set, which only a TopKSAE has; correct the class, or remove top_k."
        )
    if jumps and name != "JumpSAE":
        raise UserError(
            f"{weights.path}: holds thresholds, which a JumpSAE has and the class {name!r} of {CONFIG} has not; correct the "
            f"class."
        )
    return name


def _encoder(weights: Weights) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear encoder, with a batch norm folded in."""
    weight = next((name for name in ("encoder.final_block.0.weight", "encoder.weight") if name in weights.tensors), None)
    if weight is None or any(name.startswith("encoder.mlp_blocks") for name in weights.tensors):
        raise UserError(
            f"{weights.path}: its encoder is not linear (it holds {weights.listing}), and a code here is a rule of one "
            f"linear map; give a model with a linear encoder, or untie it with untied()."
        )
    bias = weight.removesuffix("weight") + "bias"
    b_enc = weights.take(bias, "F") if bias in weights.tensors or "final_block" in bias else None
    W_enc = weights.take(weight, "F", "d")
    b_enc = 0 * W_enc[:, 0] if b_enc is None else b_enc
    norm = "encoder.final_block.1."
    if norm + "running_mean" in weights.tensors:
        mean, variance = weights.take(norm + "running_mean", "F"), weights.take(norm + "running_var", "F")
        growth = weights.take(norm + "weight", "F") / (variance + BATCH_NORM_EPSILON).sqrt()
        W_enc, b_enc = growth[:, None] * W_enc, growth * (b_enc - mean) + weights.take(norm + "bias", "F")
        weights.skip(norm + "num_batches_tracked")
    elif norm + "weight" in weights.tensors:
        raise UserError(
            f"{weights.path}: a layer norm follows its encoder, which scales each frame by its own; give a model without."
        )
    return W_enc, b_enc


def _threshold(weights: Weights, config: Config | None, name: str) -> Tensor:
    """The largest value that a code does not keep."""
    if name == "JumpSAE":
        kept = weights.take("thresholds", "F").float().exp()
    else:
        value = config.number("running_threshold") if config else None
        if value is None:
            raise UserError(
                f"{weights.path.parent / CONFIG}: running_threshold is missing, which a BatchTopKSAE keeps outside of its "
                f"state dict; add float(model.running_threshold)."
            )
        kept = torch.full((weights.sizes["F"],), value)
    return torch.nextafter(kept, torch.tensor(-torch.inf)).double()


def write(dictionary: Frozen, folder: Path) -> None:
    dictionary.only("overcomplete", "relu", "topk", "jumprelu", why="it has no gated autoencoder")
    t = dictionary.tensors
    if bool((t["b_dec"] != 0).any()):
        raise UserError(
            "this dictionary cannot be written as overcomplete: its b_dec is not 0, and overcomplete decodes without a bias; "
            "choose another format, or train on centred frames."
        )
    name = {"relu": "SAE", "topk": "TopKSAE", "jumprelu": "JumpSAE"}[dictionary.rule]
    state = {
        "encoder.final_block.0.weight": t["W_enc"],
        "encoder.final_block.0.bias": t["b_enc"],
        "dictionary._weights": t["W_dec"],
        "dictionary.multiplier": torch.tensor(0.0),
    }
    if name == "JumpSAE":
        state["thresholds"] = t["threshold"].clamp_min(LEAST).log()
    torch.save(stored(state), folder / WEIGHTS)
    settings: dict[str, object] = {"library": "overcomplete", "class": name, "normalization": "identity"}
    write_json(folder / CONFIG, settings | ({"top_k": dictionary.k} if name == "TopKSAE" else {}))


ADAPTER = Adapter(
    name="overcomplete",
    files=(CONFIG, WEIGHTS),
    needs=f"{WEIGHTS} and {CONFIG}",
    claims=claims,
    read=read,
    write=write,
)
