"""What a format is: how a checkpoint is recognised, read and written; and how its tensors and its configuration are checked.

A format of another library is one file in ``musae/formats/`` that ends with ``ADAPTER = Adapter(...)``; it is found by listing
the folder. Reading gives an `Imported` dictionary whose tensors are float32 and in the frame of raw inputs. Folding is done in
float64.

Sizes in messages: d dimensions of a frame, F latents.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

import musae.formats
from musae.dictionary import Dictionary
from musae.errors import UserError
from musae.frozen import TENSORS, Rule
from musae.methods.imported import Imported

HERE = "musae/formats/"
"""Where an adapter for a format that is not read yet goes."""


@dataclass(frozen=True)
class Adapter:
    """A format."""

    name: str
    """What `musae convert --to` calls it."""
    files: tuple[str, ...]
    """The files of a checkpoint's folder that it reads; nothing else is downloaded from a hub."""
    needs: str
    """For people: by which files a folder is known, ``cfg.json and sae_weights.safetensors``."""
    claims: Callable[[Path], bool]
    """Whether a folder or a file is of this format, judged by names."""
    read: Callable[[Path], Imported]
    """Read it. Raises UserError for whatever is missing, of another shape, contradictory or not to be expressed."""
    write: Callable[[Frozen, Path], None]
    """Write a checkpoint that the library loads into an empty folder. Raises UserError for what the format cannot express."""


def adapters() -> dict[str, Adapter]:
    """All formats by name."""
    modules = (importlib.import_module(f"musae.formats.{found.name}") for found in pkgutil.iter_modules(musae.formats.__path__))
    found = [cast(Adapter, module.ADAPTER) for module in modules if hasattr(module, "ADAPTER")]
    return {adapter.name: adapter for adapter in found}


@dataclass(frozen=True)
class Frozen:
    """A dictionary that is about to be written: a rule and its tensors, float64."""

    rule: Rule
    k: int
    tensors: Mapping[str, Tensor]
    model: str
    """What it was trained on, for people: ``nano@18bae43e88``; empty where that is not known."""
    layer: int | None

    @classmethod
    def of(cls, dictionary: Dictionary, target: str) -> Frozen:
        """Raises UserError for a dictionary that does not encode by a rule of `musae.frozen`."""
        rule: Any = getattr(dictionary, "rule", None)
        if rule not in TENSORS:
            raise UserError(
                f"this {dictionary.name} dictionary cannot be written as {target}: it does not encode by one of the rules "
                f"{', '.join(TENSORS)} (its codes may be signed, or found step by step); keep it in musae's own format."
            )
        wanted = (*TENSORS[rule], "W_dec", "b_dec")
        tensors = {name: dictionary.tensors[name].double() for name in wanted}
        layer = dictionary.trained.get("layer")
        return cls(
            rule, dictionary.k, tensors, str(dictionary.trained.get("generator", "")), None if layer is None else int(layer)
        )

    @property
    def sizes(self) -> tuple[int, int]:
        """F and d."""
        width, d = self.tensors["W_dec"].shape
        return width, d

    def shifted(self, name: str = "b_enc") -> Tensor:
        """An encoder's bias for libraries that subtract b_dec from a frame first: it gives back what that takes away."""
        return self.tensors[name] + self.tensors["W_enc"] @ self.tensors["b_dec"]

    def only(self, target: str, *rules: Rule, why: str) -> None:
        """Raise UserError unless the rule is one of `rules`."""
        if self.rule not in rules:
            raise UserError(
                f"a {self.rule} dictionary cannot be written as {target}: {why}; choose another format, or keep musae's own."
            )


def stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as they are written: float32, contiguous, none sharing memory with another."""
    return {name: tensor.detach().to(torch.float32, copy=True).contiguous() for name, tensor in tensors.items()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a configuration."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


class Config:
    """A JSON configuration. Fields are asked for by dotted names: ``trainer.k``."""

    def __init__(self, path: Path) -> None:
        """Raises UserError for a file that is missing, is no JSON, or holds no object."""
        self.path = path
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(
                f"{path}: no such file; a checkpoint's configuration is kept beside its weights: copy it too."
            ) from error
        except (ValueError, RecursionError, OSError) as error:
            raise UserError(f"{path}: not valid JSON ({clean(str(error), 120)}); save the checkpoint again.") from error
        if not isinstance(content, dict):
            raise UserError(f"{path}: holds a JSON {type(content).__name__}, not an object; save the checkpoint again.")
        self.content: dict[str, Any] = content

    def raw(self, name: str) -> Any:
        """A field as it is; None where it is absent."""
        found: Any = self.content
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    def size(self, name: str) -> int | None:
        """A whole number above 0, or None where it is absent."""
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise self.bad(name, "a whole number above 0")
        return value

    def needed(self, name: str, why: str) -> int:
        """A size that must be there; `why`: what it would otherwise be read as."""
        value = self.size(name)
        if value is None:
            raise UserError(f"{self.path}: {name} is missing, a whole number above 0; {why}: add it.")
        return value

    def number(self, name: str) -> float | None:
        """A finite number, or None where it is absent."""
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.bad(name, "a finite number")
        return float(value)

    def word(self, name: str, default: str = "") -> str:
        """A text, made printable."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.bad(name, "a text")
        return clean(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.bad(name, "true or false")
        return value

    def bad(self, name: str, expected: str) -> UserError:
        """The error for a field of another kind."""
        value = clean(json.dumps(self.raw(name)), 60)
        return UserError(f"{self.path}: {name} is {value}, and {expected} is expected; correct it, or save the checkpoint again.")


@dataclass
class Weights:
    """The tensors of one file. Each is taken once, checked; `close` refuses what nobody took."""

    path: Path
    tensors: dict[str, Tensor]
    sizes: dict[str, int] = field(default_factory=dict)
    """Axis -> its length: from the configuration, else from the first tensor that has it."""
    said: dict[str, str] = field(default_factory=dict)
    """Axis -> what said so."""
    taken: set[str] = field(default_factory=set)

    def expect(self, axis: str, size: int | None, said: str) -> None:
        """A configuration's word on a size; None where it says nothing."""
        if size is not None:
            self.sizes[axis], self.said[axis] = size, said

    def take(self, name: str, *axes: str) -> Tensor:
        """A tensor as float64 whose axes are as named (``"F", "d"``); none for a single number.

        Raises UserError where it is missing, of another shape, transposed, of whole numbers, or holds NaN or an infinity.
        """
        if name not in self.tensors:
            raise UserError(
                f"{self.path}: the tensor {name} [{', '.join(axes)}] is missing; it holds {self.listing}: save the "
                f"whole model again, or correct the architecture in its configuration."
            )
        tensor = self.tensors[name]
        self.taken.add(name)
        self._check_shape(name, tensor, axes)
        if not tensor.is_floating_point() or tensor.layout is not torch.strided:
            kind = str(tensor.dtype).removeprefix("torch.") if tensor.layout is torch.strided else "sparse values"
            raise UserError(f"{self.path}: {name} holds {kind}, and floating-point numbers are expected; save it as float32.")
        tensor = tensor.detach().double()
        if not bool(tensor.isfinite().all()):
            where = (~tensor.isfinite()).nonzero()[0].tolist()
            raise UserError(
                f"{self.path}: {name} holds NaN or an infinity, first at {where}; the training went wrong: save an earlier state."
            )
        return tensor

    def _check_shape(self, name: str, tensor: Tensor, axes: tuple[str, ...]) -> None:
        if tensor.ndim == len(axes):
            for axis, size in zip(axes, tensor.shape, strict=True):
                if axis not in self.sizes:
                    self.sizes[axis], self.said[axis] = size, name
        expected = [self.sizes.get(axis) for axis in axes]
        shape = list(tensor.shape)
        if shape == expected:
            return
        words = ", ".join(f"{axis} = {self.sizes[axis]} by {self.said[axis]}" for axis in axes if axis in self.sizes)
        turned = len(shape) == 2 and shape[::-1] == expected
        remedy = "it is transposed: store its transpose" if turned else "save the checkpoint again, or correct its configuration"
        raise UserError(
            f"{self.path}: {name} has the shape {shape}, and {shown(expected)} is expected ([{', '.join(axes)}]"
            f"{'; ' + words if words else ''}); {remedy}."
        )

    def skip(self, *names: str) -> None:
        """Tensors that no code depends on."""
        self.taken.update(names)

    def close(self, architecture: str) -> None:
        """Raise UserError for tensors that nobody took: the file holds another function."""
        extra = sorted(set(self.tensors) - self.taken)
        if extra:
            held = ", ".join(f"{clean(name)} {list(self.tensors[name].shape)}" for name in extra)
            raise UserError(
                f"{self.path}: holds {held}, which {architecture} has not, so that it computes something else; correct the "
                f"architecture in its configuration, or save it without."
            )

    @property
    def listing(self) -> str:
        """All tensors with their shapes."""
        return listing(self.tensors)


def imported(
    weights: Weights,
    rule: Rule,
    k: float | None,
    tensors: Mapping[str, Tensor],
    *,
    library: str,
    architecture: str,
    version: str = "",
    normalisation: str = "none",
    site: str = "",
) -> Imported:
    """The dictionary of tensors in the frame of raw inputs. `k`: as `Imported` says; None where the checkpoint names none."""
    width = len(tensors["W_dec"])
    if k is not None and not 0 < k <= width:
        raise UserError(
            f"{weights.path}: k = {k:g} must lie between 1 and the number of latents, F = {width}; correct its configuration."
        )
    dictionary = Imported(width, width if k is None else max(1, round(k)), 0, rule, library, architecture)
    dictionary.tensors = stored(tensors)
    for name, tensor in dictionary.tensors.items():
        if not bool(tensor.isfinite().all()):
            raise UserError(
                f"{weights.path}: {name} overflows float32 once it is folded into the frame of raw inputs; rescale the weights."
            )
    dictionary.trained = {"version": version, "normalisation": normalisation, "site": site}
    return dictionary


def folded(W_enc: Tensor, b_enc: Tensor, subtracted: Tensor) -> Tensor:
    """The encoder's bias once what is subtracted from a frame before the encoder is folded into it."""
    return b_enc - W_enc @ subtracted


def place_of(path: Path) -> Path:
    """A path from the root whose names are kept: a hub's local copy is made of links to files with other names."""
    return Path(os.path.abspath(path))


def shown(shape: list[int | None]) -> str:
    """A shape whose unknown sizes are question marks."""
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def listing(tensors: Mapping[str, Tensor], most: int = 20) -> str:
    """Names and shapes of tensors, the first `most` of them."""
    items = [f"{clean(name, 80)} {list(tensor.shape)}" for name, tensor in sorted(tensors.items())]
    more = [f"and {len(items) - most} more"] if len(items) > most else []
    return ", ".join(items[:most] + more) or "no tensors"


def clean(words: str, most: int = 160) -> str:
    """Foreign text on one line, without control characters, cut to `most` characters."""
    plain = re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+", " ", words).strip()
    return plain if len(plain) <= most else plain[: most - 1] + "…"
