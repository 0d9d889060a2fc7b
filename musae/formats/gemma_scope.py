"""Gemma Scope (Lieberum et al. 2024, arXiv 2408.05147): ``params.npz``, JumpReLU alone.

``W_enc [d, F]``, ``b_enc``, ``threshold``, ``W_dec [F, d]``, ``b_dec``; nothing is subtracted, scaled or configured. The folder's
name tells the mean L0 that was measured (``average_l0_71``): it becomes k.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from musae.errors import UserError
from musae.formats.adapter import Adapter, Frozen, clean, imported, place_of, stored
from musae.formats.weights import read_npz
from musae.methods.imported import Imported

WEIGHTS = "params.npz"


def claims(path: Path) -> bool:
    return (path / WEIGHTS).is_file() or path.suffix == ".npz"


def read(path: Path) -> Imported:
    path = path / WEIGHTS if path.is_dir() else path
    folders = place_of(path.parent).parts[-3:]
    if "embedding" in folders:
        raise UserError(
            f"{path}: an SAE of the embedding reads frames over sqrt(d), which no residual stream is; give one of a layer."
        )
    weights = read_npz(path)
    tensors = {
        "b_enc": weights.take("b_enc", "F"),
        "b_dec": weights.take("b_dec", "d"),
        "threshold": weights.take("threshold", "F"),
        "W_enc": weights.take("W_enc", "d", "F").T,
        "W_dec": weights.take("W_dec", "F", "d"),
    }
    weights.close("a Gemma Scope SAE")
    measured = re.fullmatch(r"average_l0_(\d+)", folders[-1]) if folders else None
    k = int(measured[1]) if measured else None
    site = "/".join(clean(part, 60) for part in folders) if measured else ""
    return imported(weights, "jumprelu", k or None, tensors, library="gemma_scope", architecture="jumprelu", site=site)


def write(dictionary: Frozen, folder: Path) -> None:
    dictionary.only("gemma_scope", "jumprelu", "relu", why="its one function is JumpReLU")
    t = dictionary.tensors
    threshold = t["threshold"].clamp_min(0) if dictionary.rule == "jumprelu" else 0 * t["b_enc"]
    arrays = {"W_enc": t["W_enc"].T, "b_enc": t["b_enc"], "threshold": threshold, "W_dec": t["W_dec"], "b_dec": t["b_dec"]}
    published: dict[str, Any] = {name: tensor.numpy() for name, tensor in stored(arrays).items()}
    np.savez(folder / WEIGHTS, **published)


ADAPTER = Adapter(
    name="gemma_scope",
    files=(WEIGHTS,),
    needs=WEIGHTS,
    claims=claims,
    read=read,
    write=write,
)
