"""dictionary_learning (Marks, Karvonen, Mueller): ``ae.pt``, a state dict, and ``config.json``, whose ``trainer.dict_class`` says
which class.

| class | trained by | function |
| --- | --- | --- |
| ``AutoEncoder`` | standard, p_anneal | ReLU; atoms scaled to norm 1, codes by their norms, as by ``load_dictionary`` |
| ``AutoEncoderNew`` | | ReLU; the bias of the decoder is not subtracted from frames |
| ``AutoEncoderTopK`` | topk | TopK; its ``threshold`` is not used by its ``encode`` |
| ``BatchTopKSAE``, ``MatryoshkaBatchTopKSAE`` | batch_topk, matryoshka | the threshold estimated in training: ``jumprelu`` here |
| ``JumpReluAutoEncoder`` | jumprelu | JumpReLU; b_dec is not subtracted |
| ``GatedAutoEncoder`` | gated, gated anneal | gated |

Unless said otherwise the decoder's bias is subtracted from a frame before the encoder, and folded in here. Weights of a
``Linear`` are ``encoder.weight [F, d]`` and ``decoder.weight [d, F]``. ``norm_factor``, which the configuration may name, is
folded into the biases by the library before it saves.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from musae.errors import UserError
from musae.formats.adapter import Adapter, Config, Frozen, Weights, clean, folded, imported, stored, write_json
from musae.formats.weights import read_state_dict
from musae.frozen import Rule
from musae.methods.imported import Imported

CONFIG, WEIGHTS = "config.json", "ae.pt"

RULES: dict[str, Rule] = {
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "jumprelu",
    "MatryoshkaBatchTopKSAE": "jumprelu",
    "JumpReluAutoEncoder": "jumprelu",
    "GatedAutoEncoder": "gated",
}
BATCH = ("BatchTopKSAE", "MatryoshkaBatchTopKSAE")
TENSORS = {
    "AutoEncoder": {"encoder.weight", "encoder.bias", "decoder.weight", "bias"},
    "AutoEncoderNew": {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"},
    "AutoEncoderTopK": {"encoder.weight", "encoder.bias", "decoder.weight", "b_dec", "k", "threshold"},
    "BatchTopKSAE": {"encoder.weight", "encoder.bias", "decoder.weight", "b_dec", "k", "threshold"},
    "MatryoshkaBatchTopKSAE": {"W_enc", "b_enc", "W_dec", "b_dec", "k", "threshold", "group_sizes"},
    "JumpReluAutoEncoder": {"W_enc", "b_enc", "W_dec", "b_dec", "threshold"},
    "GatedAutoEncoder": {"encoder.weight", "r_mag", "gate_bias", "mag_bias", "decoder.weight", "decoder_bias"},
}
"""The tensors of each class, by which another one's are noticed."""
TRAINERS = {
    "StandardTrainer": "AutoEncoder",
    "StandardTrainerAprilUpdate": "AutoEncoder",
    "PAnnealTrainer": "AutoEncoder",
    "TopKTrainer": "AutoEncoderTopK",
    "BatchTopKTrainer": "BatchTopKSAE",
    "MatryoshkaBatchTopKTrainer": "MatryoshkaBatchTopKSAE",
    "JumpReluTrainer": "JumpReluAutoEncoder",
    "GatedSAETrainer": "GatedAutoEncoder",
    "GatedAnnealTrainer": "GatedAutoEncoder",
}
"""What each trainer trains."""
WRITTEN = {
    "relu": ("AutoEncoderNew", ""),
    "topk": ("AutoEncoderTopK", "TopKTrainer"),
    "jumprelu": ("JumpReluAutoEncoder", "JumpReluTrainer"),
    "gated": ("GatedAutoEncoder", "GatedSAETrainer"),
}
"""Rule -> the class that is written, and its trainer. ``AutoEncoderNew`` is the ReLU class that is loaded as it was saved; the
library has no trainer of it."""


def claims(path: Path) -> bool:
    return (path / WEIGHTS).is_file() or (path.suffix == ".pt" and path.stem.split("_")[0] == "ae")


def read(path: Path) -> Imported:
    path = path / WEIGHTS if path.is_dir() else path
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    config = Config(folder / CONFIG)
    name = config.word("trainer.dict_class")
    if name not in RULES:
        raise UserError(f"{config.path}: trainer.dict_class {name!r} is not read; known are {', '.join(RULES)}.")
    weights = read_state_dict(path)
    _check_class(weights, config, name)
    weights.expect("d", config.size("trainer.activation_dim"), f"{CONFIG}'s trainer.activation_dim")
    weights.expect("F", config.size("trainer.dict_size"), f"{CONFIG}'s trainer.dict_size")
    tensors = _gated(weights) if name == "GatedAutoEncoder" else _plain(weights, name)
    k: float | None = config.number("trainer.target_l0") if name == "JumpReluAutoEncoder" else None
    if "TopK" in name:
        k = _k(weights, config)
    if name in BATCH:
        tensors["threshold"] = _threshold(weights).expand(len(tensors["W_enc"]))
    if name == "AutoEncoderTopK":
        weights.skip("threshold")
    if name == "MatryoshkaBatchTopKSAE":
        weights.skip("group_sizes")
    weights.close(f"dictionary_learning's {name}")
    factor = config.number("norm_factor") or config.number("trainer.norm_factor")
    return imported(
        weights,
        RULES[name],
        k,
        tensors,
        library="dictionary_learning",
        architecture=name,
        normalisation=f"frames over {factor:g}, folded in by the library" if factor else "none",
        site=_site(config),
    )


def _check_class(weights: Weights, config: Config, name: str) -> None:
    """Refuse a class that the trainer does not train, and tensors that are another class's."""
    trainer = config.word("trainer.trainer_class")
    if TRAINERS.get(trainer, name) != name:
        raise UserError(
            f"{config.path}: trainer.dict_class is {name!r}, and a {trainer} trains {TRAINERS[trainer]!r}, which is another "
            f"function; correct the wrong one."
        )
    held = set(weights.tensors)
    others = [other for other, names in TENSORS.items() if held == names]
    if others and name not in others:
        raise UserError(
            f"{config.path}: trainer.dict_class is {name!r}, and {weights.path.name} holds the tensors of {' or '.join(others)} "
            f"({weights.listing}), which is another function; correct trainer.dict_class."
        )


def _plain(weights: Weights, name: str) -> dict[str, Tensor]:
    """All classes but the gated one."""
    if name in ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"):
        b_enc, b_dec = weights.take("b_enc", "F"), weights.take("b_dec", "d")
        W_enc, W_dec = weights.take("W_enc", "d", "F").T, weights.take("W_dec", "F", "d")
    else:
        bias = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(name, "b_dec")
        b_enc, b_dec = weights.take("encoder.bias", "F"), weights.take(bias, "d")
        W_enc, W_dec = weights.take("encoder.weight", "F", "d"), weights.take("decoder.weight", "d", "F").T
    if name not in ("AutoEncoderNew", "JumpReluAutoEncoder"):
        b_enc = folded(W_enc, b_enc, b_dec)
    tensors = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
    if name == "AutoEncoder":
        norms = W_dec.norm(dim=1)
        if not bool((norms > 0).all()):
            row = int((norms == 0).nonzero()[0])
            raise UserError(
                f"{weights.path}: column {row} of decoder.weight is 0, and the library divides by its norm; remove the latent."
            )
        tensors |= {"W_enc": W_enc * norms[:, None], "b_enc": b_enc * norms, "W_dec": W_dec / norms[:, None]}
    if name == "JumpReluAutoEncoder":
        tensors["threshold"] = weights.take("threshold", "F")
    return tensors


def _gated(weights: Weights) -> dict[str, Tensor]:
    growth, gate, magnitude = (weights.take(name, "F") for name in ("r_mag", "gate_bias", "mag_bias"))
    b_dec = weights.take("decoder_bias", "d")
    W_enc, W_dec = weights.take("encoder.weight", "F", "d"), weights.take("decoder.weight", "d", "F").T
    shift = folded(W_enc, torch.zeros_like(gate), b_dec)
    return {
        "W_enc": W_enc,
        "gate_bias": gate + shift,
        "log_magnitude": growth,
        "magnitude_bias": magnitude + growth.exp() * shift,
        "W_dec": W_dec,
        "b_dec": b_dec,
    }


def _k(weights: Weights, config: Config) -> int:
    """k of file and configuration, which must agree."""
    said = config.needed("trainer.k", "the library reads k from there")
    held = weights.tensors.get("k")
    weights.skip("k")
    if held is not None and (held.numel() != 1 or float(held) != said):
        raise UserError(
            f"{weights.path}: k is {clean(str(held.tolist()), 40)}, and {config.path.name} says trainer.k = {said}; correct "
            f"the wrong one."
        )
    return said


def _threshold(weights: Weights) -> Tensor:
    threshold = weights.take("threshold")
    if float(threshold) < 0:
        raise UserError(
            f"{weights.path}: threshold is {float(threshold):g}: it was never estimated, so that the library would encode as "
            f"a ReLU; train beyond threshold_start_step."
        )
    return threshold


def _site(config: Config) -> str:
    layer = config.raw("trainer.layer")
    parts = [config.word("trainer.lm_name"), f"layer {clean(str(layer), 20)}" if layer is not None else ""]
    return " ".join(filter(None, (*parts, config.word("trainer.submodule_name"))))


def write(dictionary: Frozen, folder: Path) -> None:
    t, (width, d) = dictionary.tensors, dictionary.sizes
    name, trainer = WRITTEN[dictionary.rule]
    if dictionary.rule == "jumprelu":
        parts = {
            "W_enc": t["W_enc"].T,
            "b_enc": t["b_enc"],
            "W_dec": t["W_dec"],
            "b_dec": t["b_dec"],
            "threshold": t["threshold"],
        }
    else:
        parts = {"encoder.weight": t["W_enc"], "decoder.weight": t["W_dec"].T}
    if dictionary.rule == "relu":
        parts |= {"encoder.bias": t["b_enc"], "decoder.bias": t["b_dec"]}
    if dictionary.rule == "topk":
        parts |= {"encoder.bias": dictionary.shifted(), "b_dec": t["b_dec"], "threshold": torch.tensor(-1.0)}
    if dictionary.rule == "gated":
        shift, growth = dictionary.shifted("gate_bias") - t["gate_bias"], t["log_magnitude"]
        parts |= {
            "decoder_bias": t["b_dec"],
            "r_mag": growth,
            "gate_bias": t["gate_bias"] + shift,
            "mag_bias": t["magnitude_bias"] + growth.exp() * shift,
        }
    state = stored(parts)
    if dictionary.rule == "topk":
        state["k"] = torch.tensor(dictionary.k, dtype=torch.int)
    torch.save(state, folder / WEIGHTS)
    settings: dict[str, object] = {"trainer_class": trainer or None, "dict_class": name, "activation_dim": d, "dict_size": width}
    if dictionary.rule == "topk":
        settings["k"] = dictionary.k
    if dictionary.rule == "jumprelu" and dictionary.k < width:
        settings["target_l0"] = dictionary.k
    settings |= {"layer": dictionary.layer, "lm_name": dictionary.model or None}
    write_json(folder / CONFIG, {"trainer": {key: value for key, value in settings.items() if value is not None}})


ADAPTER = Adapter(
    name="dictionary_learning",
    files=(CONFIG, WEIGHTS),
    needs=f"{WEIGHTS} and {CONFIG}",
    claims=claims,
    read=read,
    write=write,
)
