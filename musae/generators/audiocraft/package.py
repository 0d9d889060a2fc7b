"""audiocraft 1.3.0 itself, imported without the packages that only training, melodies and text normalisation need.

audiocraft pins torch 2.1 and imports xformers, spaCy and torchaudio when it is imported. Where one of them is not installed, a
stand-in takes its place during the import, and is gone afterwards: what is left of it in audiocraft raises UserError when called.
All that we run of them is ``xformers.ops.unbind``, which is torch's.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

import torch

from musae.errors import UserError

INSTALL = (
    "pip install --no-deps audiocraft==1.3.0, then pip install av einops flashy hydra-core hydra_colorlog julius librosa "
    "num2words omegaconf sentencepiece torchmetrics"
)

STAND_INS = {
    "xformers": ("xformers.ops", "memory-efficient attention"),
    "spacy": ("", "normalising and splitting texts"),
    "torchaudio": ("torchaudio.transforms", "melody (chroma) conditions and spectrograms"),
}
"""Package -> the submodule that audiocraft imports too, and what is unavailable without it."""

FIRST = ("transformers", "flashy", "hydra", "librosa", "omegaconf", "torchmetrics")
"""Imported before there are stand-ins: such packages look for torchaudio or xformers, and remember that they found them."""


@cache
def audiocraft() -> ModuleType:
    """The package, with `models`, `modules` and `quantization`. Raises UserError, with what to install, where it cannot."""
    try:
        for name in FIRST:
            importlib.import_module(name)
        lazy: Any = importlib.import_module("transformers")
        _ = lazy.EncodecModel, lazy.RobertaTokenizer, lazy.T5EncoderModel, lazy.T5Tokenizer
        with _stand_ins():
            package = importlib.import_module("audiocraft")
            importlib.import_module("audiocraft.models.builders")
    except (ImportError, OSError, AttributeError) as error:
        raise UserError(f"generators 'audiocraft:...' need audiocraft, which cannot be imported ({error}): {INSTALL}.") from error
    return package


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Modules in the place of those of `STAND_INS` that are not installed, as long as the block lasts."""
    placed: dict[str, ModuleType] = {}
    for name, (submodule, purpose) in STAND_INS.items():
        if name in sys.modules or find_spec(name) is not None:
            continue
        placed[name] = _stand_in(name, name, purpose)
        if submodule:
            placed[submodule] = _stand_in(submodule, name, purpose)
            setattr(placed[name], submodule.rpartition(".")[2], placed[submodule])
    if "xformers.ops" in placed:
        placed["xformers.ops"].unbind = torch.unbind  # type: ignore[attr-defined]
    sys.modules.update(placed)
    try:
        yield
    finally:
        for name in placed:
            sys.modules.pop(name, None)


def _stand_in(name: str, package: str, purpose: str) -> ModuleType:
    """A module any function of which refuses to be called."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)

    def missing(attribute: str) -> Callable[..., NoReturn]:
        if attribute.startswith("__"):
            raise AttributeError(attribute)

        def refuse(*_: object, **__: object) -> NoReturn:
            raise UserError(f"{name}.{attribute} is unavailable: {purpose} needs {package}; install it before musae is started.")

        return refuse

    module.__getattr__ = missing  # type: ignore[method-assign]
    return module
