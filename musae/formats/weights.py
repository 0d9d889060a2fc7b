"""Files of tensors: safetensors, PyTorch's state dicts and numpy's archives. Nothing that could run code is ever unpickled."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from musae.errors import UserError
from musae.formats.adapter import Weights, clean, listing


def read_safetensors(path: Path) -> Weights:
    """All tensors of a safetensors file. Raises UserError for one that is missing or damaged."""
    _check(path)
    try:
        with safe_open(path, framework="pt") as file:
            return Weights(path, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (a file, not a dict)
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise UserError(
            f"{path}: not a safetensors file, or damaged ({clean(str(error), 120)}); save or copy it again."
        ) from error


def read_state_dict(path: Path) -> Weights:
    """All tensors of a PyTorch state dict, read with ``weights_only=True``: objects are refused, since unpickling them runs
    code."""
    _check(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "global" not in str(error).lower() and not path.read_bytes().startswith(b"\x80"):
            raise _damaged(path, error) from error
        raise UserError(
            f"{path}: holds pickled Python objects, and unpickling them could run any code; where it was made, save its weights "
            f"alone with torch.save(model.state_dict(), path), or as safetensors."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        raise _damaged(path, error) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a state dict; save torch.save(model.state_dict(), path).")
    other = [f"{clean(str(name))} (a {type(value).__name__})" for name, value in content.items() if not isinstance(value, Tensor)]
    if other:
        raise UserError(
            f"{path}: a state dict holds tensors alone, and this one holds {', '.join(other[:5])}; save "
            f"torch.save(model.state_dict(), path)."
        )
    return Weights(path, {str(name): tensor for name, tensor in content.items()})


def read_npz(path: Path) -> Weights:
    """All arrays of a numpy archive, read with ``allow_pickle=False``."""
    _check(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return Weights(path, {name: torch.from_numpy(np.array(archive[name])) for name in archive.files})
    except (ValueError, TypeError, AttributeError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        if "pickle" in str(error).lower() and zipfile.is_zipfile(path):
            raise UserError(
                f"{path}: holds pickled Python objects, and unpickling them could run any code; save its arrays as float32 with "
                f"numpy.savez."
            ) from error
        raise UserError(
            f"{path}: not a numpy archive of numbers, or damaged ({clean(str(error), 120)}); save or copy it again."
        ) from error


def unknown(weights: Weights, hint: str) -> UserError:
    """The error for a file whose tensors no format has."""
    return UserError(
        f"{weights.path}: its tensors are of no format that is read here: {listing(weights.tensors)}; {hint}, or write an "
        f"adapter for its library: one file in musae/formats/."
    )


def _check(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the folder or file of a whole checkpoint.")


def _damaged(path: Path, error: Exception) -> UserError:
    first = clean((str(error).splitlines() or [""])[0], 120)
    return UserError(f"{path}: not a PyTorch state dict, or damaged ({first}); save or copy it again.")
