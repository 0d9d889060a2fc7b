"""Which path computes an op: decided by the tensors it is given, when it is given them.

Paths: ``portable`` (plain PyTorch: any device, any dtype), ``extension`` (compiled for this CPU: float32 on an x86 CPU with
AVX-512 BF16 and a C++ compiler), ``triton`` (an NVIDIA GPU of compute capability 8.0 or newer; float32, bfloat16, float16).
`forced` or the environment variable ``MUSAE_KERNELS`` names one instead. `musae doctor` prints what would be taken, and why.

Sums over a code's rows (decoding, and all gradients) are sparse as long as that is faster than a matrix product with the dense
code: up to a share k / F of the latents that is measured once per device and path, and kept in musae's cache.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path as FilePath
from typing import Protocol, cast

import torch
from torch import Tensor

from musae.errors import UserError
from musae.files import atomic_path, cache_root
from musae.kernels import dense
from musae.kernels.transposed import Transposed

MODULES = {"portable": "musae.kernels.portable", "extension": "musae.kernels.cpu.path", "triton": "musae.kernels.gpu.path"}
"""Path name -> the module that has its functions."""
VARIABLE = "MUSAE_KERNELS"
CAPABILITY = (8, 0)
"""Oldest compute capability that the Triton kernels are compiled for: bfloat16 on tensor cores."""
ALWAYS_SPARSE = 1 / 1024
"""Share of active latents below which nothing is measured: sparse wins on every device by far."""


class Sums(Protocol):
    """Sums over the rows that a code names; `musae.kernels.dense` has them, too."""

    def gather_sum(
        self, weights: Tensor, indices: Tensor, rows: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None
    ) -> Tensor: ...
    def dots_and_sum(
        self, upstream: Tensor, indices: Tensor, rows: Tensor, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, Tensor]: ...
    def outer(self, t: Transposed, weights: Tensor, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor: ...


class Path(Sums, Protocol):
    """The functions of a path; `musae.kernels.portable` documents them."""

    NAME: str

    def topk(self, x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int, among: Tensor | None = None) -> tuple[Tensor, Tensor]: ...
    def batch_topk(self, x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor]: ...
    def jumprelu(self, x: Tensor, W_enc: Tensor, b_enc: Tensor, threshold: Tensor, half_band: float) -> tuple[Tensor, Tensor]: ...
    def transpose(self, indices: Tensor, weights: Tensor, width: int) -> Transposed: ...
    def total(self, t: Transposed, weights: Tensor) -> Tensor: ...
    def mean_squares(self, error: Tensor, guess: Tensor) -> Tensor: ...
    def relative_gradients(
        self, error: Tensor, guess: Tensor, factors: Tensor, of_error: bool
    ) -> tuple[Tensor | None, Tensor]: ...
    def adam(
        self, param: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, step: int, lr: float, unit_norm: bool
    ) -> None: ...
    def adam_outer(
        self,
        param: Tensor,
        t: Transposed,
        weights: Tensor,
        rows: Tensor,
        exp_avg: Tensor,
        exp_avg_sq: Tensor,
        step: int,
        lr: float,
        unit_norm: bool,
    ) -> None: ...


_forced: ContextVar[str | None] = ContextVar("musae_kernels", default=None)


@contextmanager
def forced(name: str) -> Iterator[None]:
    """Take the path `name` inside the block, whatever the device. Raises UserError for a path that cannot run here."""
    _checked(name)
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def path_for(x: Tensor) -> Path:
    """The path for tensors like `x`. Raises UserError for a GPU that is too old, or a forced path that cannot run."""
    return _load(choose(x.device, x.dtype)[0])


def choose(device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """Name of the path for tensors of this device and dtype, and why in a few words. Raises UserError as `path_for` does."""
    if dtype == torch.float64:
        return "portable", "float64 is computed by PyTorch alone"
    name = _forced.get() or os.environ.get(VARIABLE)
    if name:
        _checked(name)
        _check_reach(name, device)
        return name, "forced" if _forced.get() else f"{VARIABLE}={name}"
    if device.type == "cuda":
        return _choose_cuda(device)
    if device.type == "cpu":
        if dtype != torch.float32:
            return "portable", "the CPU extension computes float32 only"
        usable, why = _extension()
        return ("extension" if usable else "portable"), why
    return "portable", f"no kernels for {device.type}"


def sums(path: Path, slots: int, width: int, x: Tensor) -> Sums:
    """What computes sums over `slots` rows of `width`: the path, or products with the dense code where they are faster."""
    if slots <= ALWAYS_SPARSE * width:
        return path
    if x.dtype == torch.float64 or (path.NAME == "triton" and x.device.type == "cpu"):
        return path  # nothing is timed there: float64 is for references, the interpreter for tests
    return path if slots <= crossover(path.NAME, x.device) * width else cast(Sums, dense)


def crossover(path: str, device: torch.device) -> float:
    """The largest share k / F at which sparse sums are the faster ones; measured at the first need, then cached."""
    return _crossover(path, str(device), FilePath(cache_root()))


def crossover_file(path: str, device: torch.device, root: FilePath | None = None) -> FilePath:
    """Where the measured crossover is kept."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    threads = "" if device.type == "cuda" else f"-{torch.get_num_threads()}-threads"
    return (root or FilePath(cache_root())) / "kernels" / f"crossover-{path}-{name}{threads}.json"


@functools.cache
def _crossover(path: str, device: str, root: FilePath) -> float:
    from musae.kernels.crossover import measure

    file = crossover_file(path, torch.device(device), root)
    try:
        return float(json.loads(file.read_text())["share"])
    except (OSError, ValueError, KeyError, TypeError):
        found = measure(_load(path), torch.device(device))
    with suppress(OSError, UserError), atomic_path(file) as temporary:  # without a cache it is measured anew
        temporary.write_text(json.dumps(found, indent=1))
    return float(found["share"])


def _choose_cuda(device: torch.device) -> tuple[str, str]:
    capability = torch.cuda.get_device_capability(device)
    shown = f"{torch.cuda.get_device_name(device)} (compute capability {capability[0]}.{capability[1]})"
    if capability < CAPABILITY:
        raise UserError(
            f"{shown} is older than {CAPABILITY[0]}.{CAPABILITY[1]}, the oldest that the kernels are compiled for; "
            f"set {VARIABLE}=portable, or compute on the CPU."
        )
    if importlib.util.find_spec("triton") is None:
        return "portable", "triton is not installed"
    return "triton", shown


def _checked(name: str) -> None:
    """Raise UserError unless the path `name` exists and can run."""
    if name not in MODULES:
        raise UserError(f"no kernel path is named {name!r}; {VARIABLE} and `forced` take one of {', '.join(MODULES)}.")
    if name == "extension":
        usable, why = _extension()
        if not usable:
            raise UserError(f"the kernel path 'extension' cannot be used here: {why}; take 'portable'.")
    if name == "triton" and importlib.util.find_spec("triton") is None:
        raise UserError("the kernel path 'triton' cannot be used here: triton is not installed; install it, or take 'portable'.")


def _check_reach(name: str, device: torch.device) -> None:
    """Raise UserError where the path `name` cannot compute on `device`."""
    if name == "extension" and device.type != "cpu":
        raise UserError(f"the kernel path 'extension' computes on the CPU, and the tensors lie on {device}; take another path.")
    if name == "triton" and device.type != "cuda":
        from musae.kernels.gpu.launch import INTERPRET

        if not INTERPRET:
            raise UserError(
                f"the kernel path 'triton' needs a GPU, and the tensors lie on {device}; move them there, or set "
                "TRITON_INTERPRET=1 before Python starts to have kernels interpreted (slow: for tests)."
            )


def _extension() -> tuple[bool, str]:
    from musae.kernels.cpu import extension

    return extension.available(), extension.status()[1]


def _load(name: str) -> Path:
    return cast(Path, importlib.import_module(MODULES[name]))


def _processor() -> str:
    from musae.provenance import processor

    return "".join(c if c.isalnum() else "-" for c in processor())
