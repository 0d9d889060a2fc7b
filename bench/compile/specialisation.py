"""What decides a kernel's machine code: the function, its arguments' kinds, its constants and its launch options.

Recorded in one process, under the interpreter, and compiled in another: a specialisation is made of nothing but JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 16
"""Bytes, and elements: what Triton specialises addresses and integers for."""
WIDEN = "WIDEN"
"""The one constant that is not compiled as it was recorded: true under the interpreter, where bfloat16 has to be widened before
it is computed with, and false on hardware (see `musae.kernels.gpu.launch.INTERPRET`)."""


@dataclass(frozen=True)
class Specialisation:
    """One kernel as it is to be compiled."""

    kernel: str
    """``module:function``."""
    arguments: tuple[tuple[str, Any], ...]
    """For each parameter that is no constant: ``("tensor", [dtype, aligned])``, or the type and value of a scalar. Of an integer
    only what Triton looks at is kept: whether it is 1, a multiple of 16, and whether it fits 32 bits."""
    constants: tuple[tuple[str, Any], ...]
    num_warps: int
    num_stages: int

    @property
    def name(self) -> str:
        """The kernel's name."""
        return self.kernel.partition(":")[2]

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    @classmethod
    def from_json(cls, made: Mapping[str, Any]) -> Specialisation:
        """From what `dataclasses.asdict` gave, after a journey through JSON."""
        return cls(
            kernel=made["kernel"],
            arguments=tuple((kind, value) for kind, value in made["arguments"]),
            constants=tuple((name, value) for name, value in made["constants"]),
            num_warps=made["num_warps"],
            num_stages=made["num_stages"],
        )


def specialise(
    module: str, name: str, arguments: tuple[Any, ...], constants: Mapping[str, Any], num_warps: int, num_stages: int
) -> Specialisation:
    """The specialisation of a launch."""
    return Specialisation(
        kernel=f"{module}:{name}",
        arguments=tuple(_kind(argument) for argument in arguments),
        constants=tuple(sorted((key, _plain(value)) for key, value in constants.items())),
        num_warps=num_warps,
        num_stages=num_stages,
    )


def _kind(argument: Any) -> tuple[str, Any]:
    if isinstance(argument, Tensor):
        return "tensor", [str(argument.dtype).removeprefix("torch."), argument.data_ptr() % ALIGNMENT == 0]
    if isinstance(argument, bool):
        return "bool", argument
    if isinstance(argument, int):
        wide = 2**40 if not -(2**31) <= argument < 2**31 else 0
        return "int", 1 if argument == 1 else wide + (ALIGNMENT if argument % ALIGNMENT == 0 else ALIGNMENT + 1)
    if isinstance(argument, float):
        return "float", 0.5
    if argument is None:
        return "none", None
    raise TypeError(f"an argument of type {type(argument).__name__} cannot be recorded")


def _plain(value: Any) -> Any:
    value = getattr(value, "value", value)  # tl.constexpr
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.dtype) or type(value).__name__ != "dtype":
        raise TypeError(f"a constant of type {type(value).__name__} cannot be recorded")
    return {"dtype": str(value)}


class StandIn:
    """Takes a tensor's place where Triton looks at its dtype and its alignment only."""

    def __init__(self, dtype: str, aligned: bool) -> None:
        self.dtype = getattr(torch, dtype)
        self._address = 0 if aligned else 1

    def data_ptr(self) -> int:
        """An address as aligned as the tensor's."""
        return self._address


def arguments(specialisation: Specialisation) -> list[Any]:
    """Arguments that Triton specialises a kernel for exactly as for the recorded ones."""
    return [StandIn(*value) if kind == "tensor" else value for kind, value in specialisation.arguments]


def constants(specialisation: Specialisation) -> dict[str, Any]:
    """The constants to compile with: as recorded, but for hardware."""
    import triton.language as tl

    found: dict[str, Any] = {}
    for name, value in specialisation.constants:
        found[name] = tl.dtype(value["dtype"]) if isinstance(value, Mapping) else value
    if WIDEN in found:
        found[WIDEN] = False
    return found
