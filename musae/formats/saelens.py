"""SAELens 6 (and its earlier configurations): ``cfg.json`` and ``sae_weights.safetensors``.

``standard`` (ReLU), ``topk``, ``jumprelu`` and ``gated`` are read; BatchTopK and Matryoshka SAEs are saved by the library's
``save_inference_model`` as ``jumprelu``. Weights there: ``W_enc [d, F]``, ``W_dec [F, d]``. Folded in:

- ``apply_b_dec_to_input``: b_dec is subtracted from a frame before the encoder;
- ``rescale_acts_by_decoder_norm`` (topk): codes are multiplied by the norms of the atoms, and selected so;
- ``normalize_activations = "expected_average_only_in"``: frames are multiplied by a constant, which training keeps in
  ``activation_scaler.json``; codes are then in the library's own units after its ``fold_activation_norm_scaling_factor``.

A normalisation that differs from frame to frame cannot be decoded linearly, and is refused.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from musae import __version__
from musae.errors import UserError
from musae.formats.adapter import Adapter, Config, Frozen, Weights, clean, folded, imported, stored, write_json
from musae.formats.weights import read_safetensors
from musae.frozen import Rule
from musae.methods.imported import Imported

CONFIG, WEIGHTS, SCALER = "cfg.json", "sae_weights.safetensors", "activation_scaler.json"

RULES: dict[str, Rule] = {"standard": "relu", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}

TRAINED_AS = {
    "standard": ("standard",),
    "topk": ("topk",),
    "jumprelu": ("jumprelu", "batchtopk", "matryoshka_batchtopk"),
    "gated": ("gated",),
}
"""Architecture -> what the library trains as and then saves so."""

REFUSED = {
    "batchtopk": "a training state, whose codes depend on the batch; save it with the library's save_inference_model, as "
    "jumprelu",
    "abstopk": "its codes are signed, and none of the rules here gives signed codes",
    "matching_pursuit": "it encodes step by step, by none of the rules here",
    "temporal": "it reads earlier frames, and none of the rules here does",
}
REFUSED["matryoshka_batchtopk"] = REFUSED["batchtopk"]

WRITTEN_VERSION = "6.0.0"
"""The library's version whose format is written: later ones read it as it is, and an older one would be taken for another
format."""


def claims(path: Path) -> bool:
    return (path / WEIGHTS).is_file() or path.name == WEIGHTS


def read(path: Path) -> Imported:
    folder = path if path.is_dir() else path.parent
    config = Config(folder / CONFIG)
    version = config.word("metadata.sae_lens_version", config.word("sae_lens_version"))
    old = not version or version.split(".")[0] in "012345"
    architecture = _architecture(config, old)
    weights = read_safetensors(folder / WEIGHTS)
    weights.expect("d", config.size("d_in"), f"{CONFIG}'s d_in")
    weights.expect("F", config.size("d_sae"), f"{CONFIG}'s d_sae")
    scale, normalisation = _scale(config, folder)
    _check_plain(config, weights)

    W_enc, b_dec = weights.take("W_enc", "d", "F").T * scale, weights.take("b_dec", "d") / scale
    W_dec = weights.take("W_dec", "F", "d") / scale
    subtracted = b_dec if config.flag("apply_b_dec_to_input", True) else torch.zeros_like(b_dec)
    tensors = {"W_enc": W_enc, "W_dec": W_dec, "b_dec": b_dec}
    k: float | None = None
    if architecture == "gated":
        shift = folded(W_enc, torch.zeros(len(W_enc), dtype=torch.float64), subtracted)
        growth = weights.take("r_mag", "F")
        tensors |= {
            "gate_bias": weights.take("b_gate", "F") + shift,
            "log_magnitude": growth,
            "magnitude_bias": weights.take("b_mag", "F") + growth.exp() * shift,
        }
    else:
        tensors["b_enc"] = folded(W_enc, weights.take("b_enc", "F"), subtracted)
    if architecture == "jumprelu":
        tensors["threshold"] = _threshold(weights)
        details = "metadata.training_architecture_details"
        k = config.number(f"{details}.k") or config.number(f"{details}.target_l0")
    if architecture == "topk":
        k = _k(config, old)
        if config.flag("rescale_acts_by_decoder_norm", False):
            _rescale(weights, tensors)
    weights.close(f"a SAELens {architecture} SAE")
    trained_as = config.word("metadata.training_architecture", architecture)
    return imported(
        weights,
        RULES[architecture],
        k,
        tensors,
        library="saelens",
        architecture=architecture if trained_as == architecture else f"{trained_as} saved as {architecture}",
        version=version,
        normalisation=normalisation,
        site=_site(config),
    )


def write(dictionary: Frozen, folder: Path) -> None:
    t, (width, d) = dictionary.tensors, dictionary.sizes
    architecture = next(name for name, rule in RULES.items() if rule == dictionary.rule)
    tensors = {"W_enc": t["W_enc"].T, "W_dec": t["W_dec"], "b_dec": t["b_dec"]}
    if architecture == "gated":
        tensors |= {"b_gate": t["gate_bias"], "r_mag": t["log_magnitude"], "b_mag": t["magnitude_bias"]}
    else:
        tensors["b_enc"] = t["b_enc"]
    if architecture == "jumprelu":
        tensors["threshold"] = t["threshold"].clamp_min(0)
    config = {
        "architecture": architecture,
        "d_in": d,
        "d_sae": width,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    if architecture == "topk":
        config |= {"k": dictionary.k, "rescale_acts_by_decoder_norm": False}
    metadata: dict[str, object] = {"sae_lens_version": WRITTEN_VERSION, "written_by": f"musae {__version__}"}
    if dictionary.model:
        metadata["model_name"] = dictionary.model
    if dictionary.layer is not None:
        metadata["hook_name"] = f"blocks.{dictionary.layer - 1}.hook_resid_post" if dictionary.layer else "hook_embed"
    save_file(stored(tensors), folder / WEIGHTS)
    write_json(folder / CONFIG, {**config, "metadata": metadata})


def _architecture(config: Config, old: bool) -> str:
    """One of `RULES`, once nothing in the configuration speaks against it."""
    architecture = config.word("architecture", "standard" if old else "")
    activation = config.word("activation_fn", config.word("activation_fn_str", "relu"))
    if old and activation == "topk" and architecture == "standard":
        architecture = "topk"
    if architecture not in RULES:
        reason = REFUSED.get(architecture, f"known are {', '.join(RULES)}")
        raise UserError(f"{config.path}: the architecture {architecture!r} is not read: {reason}.")
    if activation not in ("relu", "topk") or (activation == "topk" and architecture != "topk"):
        raise UserError(
            f"{config.path}: the architecture is {architecture!r} and the activation {activation!r}, which is another function; "
            f"set the architecture that it was trained as."
        )
    if architecture != "topk" and config.raw("k") is not None:
        raise UserError(
            f"{config.path}: the architecture is {architecture!r}, and k = {clean(str(config.raw('k')), 20)} is set, which "
            f"only a topk has; set the architecture that it was trained as, or remove k."
        )
    trained_as = config.word("metadata.training_architecture", architecture)
    if trained_as not in TRAINED_AS[architecture]:
        raise UserError(
            f"{config.path}: the architecture is {architecture!r}, and metadata.training_architecture says {trained_as!r}, "
            f"which is another function; set the architecture that it was trained as."
        )
    return architecture


def _check_plain(config: Config, weights: Weights) -> None:
    """Refuse what changes the function and is not folded."""
    if config.word("reshape_activations", "none") != "none" or config.word("hook_name", "").endswith("hook_z"):
        raise UserError(f"{config.path}: it reads attention heads (hook_z), not a residual stream; give a residual-stream SAE.")
    scaling = [name for name in ("scaling_factor", "finetuning_scaling_factor") if name in weights.tensors]
    for name in scaling:
        if bool((weights.tensors[name].double() != 1).any()):
            raise UserError(
                f"{weights.path}: {name} differs from 1, which SAELens 6 does not apply; multiply the rows of W_dec by it "
                f"and remove it."
            )
    weights.skip(*scaling)


def _scale(config: Config, folder: Path) -> tuple[float, str]:
    """The constant that frames are multiplied by, and what to call it."""
    name = config.raw("normalize_activations")
    if isinstance(name, bool):
        name = "expected_average_only_in" if name else "none"
    name = "none" if name is None else name
    scale = Config(folder / SCALER).number("scaling_factor") if (folder / SCALER).is_file() else None
    if name == "expected_average_only_in":
        if scale is None or scale <= 0:
            raise UserError(
                f"{config.path}: normalize_activations is 'expected_average_only_in', and the norm scale is missing; write "
                f'{{"scaling_factor": sqrt(d) / mean norm of the training frames}} to {folder / SCALER}, or fold it in with '
                f"fold_activation_norm_scaling_factor."
            )
        return scale, f"frames times {scale:g} (expected_average_only_in), folded in"
    if name == "covariance_whitening":
        raise UserError(
            f"{config.path}: normalize_activations is 'covariance_whitening', still unfolded: a training state; finish the "
            f"training, or fold it in with fold_activation_whitening."
        )
    if name in ("layer_norm", "constant_norm_rescale"):
        raise UserError(
            f"{config.path}: normalize_activations is {name!r}, which scales each frame by its own norm, so that no fixed "
            f"atoms decode it; an SAE trained without it, or with expected_average_only_in, is needed."
        )
    if name != "none":
        raise config.bad("normalize_activations", "none or expected_average_only_in")
    if scale is not None:
        raise UserError(
            f"{folder / SCALER}: scaling_factor is {scale:g}, and {CONFIG} says normalize_activations 'none'; remove the one "
            f"or correct the other."
        )
    return 1.0, "none"


def _threshold(weights: Weights) -> Tensor:
    """The jump's thresholds; training states of earlier versions hold their logarithm."""
    if "log_threshold" in weights.tensors and "threshold" not in weights.tensors:
        return weights.take("log_threshold", "F").exp()
    return weights.take("threshold", "F")


def _k(config: Config, old: bool) -> int:
    name = "activation_fn_kwargs.k" if old and config.raw("k") is None else "k"
    return config.needed(name, "SAELens itself would silently take 100 for it")


def _rescale(weights: Weights, tensors: dict[str, Tensor]) -> None:
    """Codes times the atoms' norms, atoms of norm 1."""
    norms = tensors["W_dec"].norm(dim=1)
    if not bool((norms > 0).all()):
        row = int((norms == 0).nonzero()[0])
        raise UserError(
            f"{weights.path}: row {row} of W_dec is 0, and rescale_acts_by_decoder_norm divides by its norm; remove the latent."
        )
    tensors["W_enc"] = tensors["W_enc"] * norms[:, None]
    tensors["b_enc"] = tensors["b_enc"] * norms
    tensors["W_dec"] = tensors["W_dec"] / norms[:, None]


def _site(config: Config) -> str:
    names = ("model_name", "hook_name", "hook_point")
    parts = [config.word(f"metadata.{name}", config.word(name)) for name in names]
    return " ".join(dict.fromkeys(filter(None, parts)))


ADAPTER = Adapter(
    name="saelens",
    files=(CONFIG, WEIGHTS, SCALER),
    needs=f"{CONFIG} and {WEIGHTS}",
    claims=claims,
    read=read,
    write=write,
)
