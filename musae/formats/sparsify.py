"""sparsify (EleutherAI): ``cfg.json`` and ``sae.safetensors``; TopK alone.

Weights: ``encoder.weight [F, d]``, ``encoder.bias``, ``W_dec [F, d]``, ``b_dec``. b_dec is subtracted from a frame before the
encoder, and folded in here. A checkpoint's folder is named by its hook point (``layers.5``).
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from musae.errors import UserError
from musae.formats.adapter import Adapter, Config, Frozen, clean, folded, imported, place_of, stored, write_json
from musae.formats.weights import read_safetensors
from musae.methods.imported import Imported

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"


def claims(path: Path) -> bool:
    return (path / WEIGHTS).is_file() or path.name == WEIGHTS


def read(path: Path) -> Imported:
    folder = path if path.is_dir() else path.parent
    config = Config(folder / CONFIG)
    activation = config.word("activation", "topk")
    if activation != "topk":
        raise UserError(
            f"{config.path}: the activation {activation!r} is not read: groupmax keeps the largest of each group of latents, "
            f"which is none of the rules here; known is topk."
        )
    for name, what in (
        ("transcode", "it predicts another module's output from its input, and decodes no frame"),
        ("skip_connection", "its reconstruction adds a linear map of the frame, which no atoms express"),
        ("signed", "its codes are signed, and a topk's are not"),
    ):
        if config.flag(name, False):
            raise UserError(f"{config.path}: {name} is true: {what}; give a sparse autoencoder without it.")
    d = config.needed("d_in", "the width of a frame is checked against it")
    latents = config.raw("num_latents")
    factor = config.size("expansion_factor")
    width = config.size("num_latents") if latents else d * factor if factor else None
    k = config.needed("k", "sparsify itself would silently take 32 for it")
    weights = read_safetensors(folder / WEIGHTS)
    weights.expect("d", d, f"{CONFIG}'s d_in")
    weights.expect("F", width, f"{CONFIG}'s {'num_latents' if latents else 'd_in x expansion_factor'}")
    b_enc, b_dec = weights.take("encoder.bias", "F"), weights.take("b_dec", "d")
    W_enc, W_dec = weights.take("encoder.weight", "F", "d"), weights.take("W_dec", "F", "d")
    weights.close("a sparsify topk autoencoder")
    tensors = {"W_enc": W_enc, "b_enc": folded(W_enc, b_enc, b_dec), "W_dec": W_dec, "b_dec": b_dec}
    site = clean(place_of(folder).name)
    return imported(weights, "topk", k, tensors, library="sparsify", architecture="topk", site=site)


def write(dictionary: Frozen, folder: Path) -> None:
    dictionary.only("sparsify", "topk", why="sparsify knows TopK alone")
    t, (width, d) = dictionary.tensors, dictionary.sizes
    tensors = {"encoder.weight": t["W_enc"], "encoder.bias": dictionary.shifted(), "W_dec": t["W_dec"], "b_dec": t["b_dec"]}
    save_file(stored(tensors), folder / WEIGHTS)
    config = {
        "activation": "topk",
        "expansion_factor": max(1, width // d),
        "normalize_decoder": bool(((t["W_dec"].norm(dim=1) - 1).abs() < 1e-4).all()),
        "num_latents": width,
        "k": dictionary.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": d,
    }
    write_json(folder / CONFIG, config)


ADAPTER = Adapter(
    name="sparsify",
    files=(CONFIG, WEIGHTS),
    needs=f"{CONFIG} and {WEIGHTS}",
    claims=claims,
    read=read,
    write=write,
)
