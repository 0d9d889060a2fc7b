"""Addresses are right beyond 2^31 elements, shown without that memory: 65,537 frames by 32,768 columns of float32 are 8.6 GB.

Tensors of such sizes are reserved address space, of which only the pages that are touched exist. Kernels run in Triton's
interpreter, the last few programs of each grid only. Every access is checked for leaving the tensors, as an offset does that
overflowed 32 bits, and the last rows are checked for their values.
"""

import ast
import contextlib
import importlib
import inspect
import itertools
import math
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from musae.kernels.transposed import Transposed

path = pytest.importorskip("musae.kernels.gpu.path")
observed = pytest.importorskip("musae.kernels.gpu.launch").observed
interpreter = pytest.importorskip("triton.runtime.interpreter")

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="reads addresses off the interpreter")

FRAMES, COLUMNS = 65_537, 32_768
"""Their product is more than 2^31."""
BEYOND = 2**31
LAST = 6
"""Programs along the first axis that run; along the others the last one does."""
MAP_NORESERVE = 0x4000
"""Linux: address space without a claim on memory. Python knows the name from 3.13 on."""


def gpu(name: str) -> Any:
    """A module of the Triton kernels."""
    return importlib.import_module(f"musae.kernels.gpu.{name}")


def virtual(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Zeros that take memory only where they are touched."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return torch.frombuffer(mmap.mmap(-1, math.prod(shape) * dtype.itemsize, flags=flags), dtype=dtype).view(shape)


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the last programs only, on memory of zeros; check addresses for leaving the tensors."""
    builder = interpreter.interpreter_builder
    regions: list[tuple[int, int]] = []

    def allocate(*shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        return virtual(*shape, dtype=dtype) if math.prod(shape) > BEYOND // 64 else torch.zeros(*shape, dtype=dtype)

    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        known = inspect.getfullargspec(self.fn).args
        bound = inspect.getcallargs(self.fn, *args, **{k: v for k, v in kwargs.items() if k in known})
        regions[:] = [(a.data_ptr(), a.nbytes) for a in bound.values() if isinstance(a, Tensor)]
        bound = {k: v if k in self.constexprs else interpreter._implicit_cvt(v) for k, v in bound.items()}
        scope = interpreter._patch_lang(self.fn)
        try:
            grid = (*self.grid, 1, 1)[:3]
            builder.set_grid_dim(*grid)
            last = 1 if self.fn.__name__ == "screen" else LAST  # a program of the screen takes seconds
            first = range(max(0, grid[0] - last), grid[0])
            for program in itertools.product(first, *([size - 1] for size in grid[1:])):
                builder.set_grid_idx(*program)
                self.fn(**bound)
        finally:
            scope.restore()

    def inside(pointers: Any, mask: Any) -> None:
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        active, addresses = np.broadcast_arrays(mask.data.astype(bool), pointers.data)
        addresses = addresses[active]
        if addresses.size:
            low, high = int(addresses.min()), int(addresses.max()) + size
            assert any(start <= low and high <= start + length for start, length in regions), (
                "an address lies outside all tensors"
            )

    load, store = builder.create_masked_load, builder.create_masked_store

    def checked_load(pointers: Any, mask: Any, *rest: Any) -> Any:
        inside(pointers, mask)
        return load(pointers, mask, *rest)

    def checked_store(pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        inside(pointers, mask)
        return store(pointers, value, mask, *rest)

    monkeypatch.setattr(torch, "empty", allocate)
    monkeypatch.setattr(interpreter.GridExecutor, "__call__", call)
    monkeypatch.setattr(builder, "create_masked_load", checked_load)
    monkeypatch.setattr(builder, "create_masked_store", checked_store)


def sums_of_far_rows() -> None:
    rows, weights, indices = virtual(FRAMES, COLUMNS), torch.zeros(FRAMES, 2), torch.zeros(FRAMES, 2, dtype=torch.int64)
    rows[-1, -1], weights[-1, 1], indices[-1, 1] = 5.0, 3.0, FRAMES - 1
    assert path.gather_sum(weights, indices, rows)[-1, -1] == 15.0


def sums_over_many_slots() -> None:
    n, s = 2**26 + 1, 32
    weights, indices, rows = virtual(n, s), virtual(n, s, dtype=torch.int64), torch.arange(12.0).view(6, 2)
    weights[-1, -1], indices[-1, -1] = 3.0, 5
    assert path.gather_sum(weights, indices, rows)[-1].tolist() == [30.0, 33.0]


def dots_with_far_rows() -> None:
    rows, upstream, indices = virtual(FRAMES, COLUMNS), virtual(FRAMES, COLUMNS), torch.zeros(FRAMES, 2, dtype=torch.int64)
    rows[-1, -1], upstream[-1, -1], indices[-1, 1] = 5.0, 3.0, FRAMES - 1
    dots = path.gather_dot(upstream, indices, rows)
    assert dots[-1].tolist() == [0.0, 15.0]


def dots_in_many_slots() -> None:
    n, s = 2**26 + 1, 32
    indices, rows, upstream = virtual(n, s, dtype=torch.int64), torch.arange(12.0).view(6, 2), virtual(n, 2)
    indices[-1, -1], upstream[-1, 1] = 5, 3.0
    dots = path.gather_dot(upstream, indices, rows)
    assert dots[-1, -2:].tolist() == [3.0, 33.0]


def one_slot(width: int, n: int) -> tuple[Transposed, Tensor]:
    """A code whose only slot is the last latent in the last frame, of weight 3."""
    weights, offsets = torch.zeros(n, 1), torch.zeros(width + 1, dtype=torch.int64)
    weights[-1], offsets[-1] = 3.0, 1
    return Transposed(torch.tensor([n - 1]), torch.tensor([n - 1]), offsets), weights


def far_slots(d: int) -> tuple[Transposed, Tensor, Tensor]:
    """A code with 2^31 slots of a latent whose programs do not run, 600 of a hot latent, and one: weights 2, rows [n, d] of 3."""
    count, s = BEYOND + 601, BEYOND // 4
    slots, weights = virtual(count, dtype=torch.int64), virtual(5, s)
    slots[-601:], weights[4, :601] = torch.arange(BEYOND, count), 2.0
    offsets = torch.tensor([0] + [BEYOND] * 999 + [count - 1, count])
    return Transposed(slots, s, offsets), weights, torch.full((5, d), 3.0)


def outer_of_far_rows() -> None:
    t, weights = one_slot(FRAMES, FRAMES)
    rows = virtual(FRAMES, COLUMNS)
    rows[-1, -1] = 5.0
    assert path.outer(t, weights, rows)[-1, -1] == 15.0


def outer_of_far_slots() -> None:
    assert path.outer(*far_slots(64))[-2:, -1].tolist() == [3600.0, 6.0]


def total_of_far_slots() -> None:
    t, weights, _ = far_slots(1)
    assert path.total(t, weights)[-2:].tolist() == [1200.0, 2.0]


def total_of_far_latents() -> None:
    offsets = virtual(BEYOND + 2, dtype=torch.int64)
    offsets[-1] = 1
    assert path.total(Transposed(torch.zeros(1, dtype=torch.int64), None, offsets), torch.full((1, 1), 3.0))[-1] == 3.0


def keys_of_far_slots() -> None:
    """The kernel alone: the sort that follows would touch all of them."""
    slots = BEYOND + 3
    indices, weights, keys = virtual(slots, dtype=torch.int64), virtual(slots), virtual(slots, dtype=torch.int32)
    counts = torch.zeros(10, dtype=torch.int32)
    indices[-1], weights[-1] = 7, 1.0
    gpu("launch").launch(gpu("transpose")._keys, (-(-slots // 1024),), indices, weights, keys, counts, slots, 9, TILE=1024)
    assert (keys[-2:].tolist(), counts.nonzero().tolist(), counts[8]) == ([9, 7], [[8]], 1)


def screen_of_far_frames() -> None:
    """One latent fires, in the last frame."""
    x, W_enc = virtual(FRAMES, COLUMNS), torch.zeros(100, COLUMNS)
    x[-1, -1], W_enc[90, -1] = 2.0, 3.0
    found = gpu("screen").entries(x, W_enc, torch.zeros(100), shared=torch.zeros(1), cap=128)
    assert (found.counts[0, -1], found.values[0, -1, 0]) == (1, 6.0)


def screen_of_far_latents() -> None:
    """All latents are 0 but one, whose row lies beyond 2^31, in a tile of the last split."""
    width, screen = 3 * 2**15, gpu("screen")
    x, W_enc = torch.zeros(2, COLUMNS), virtual(width, COLUMNS)
    x[-1, -1], W_enc[width - 1, -1] = 2.0, 3.0
    with mock.patch.object(screen, "split_count", lambda _, tiles, __: tiles):  # one tile of latents for each program
        found = screen.entries(x, W_enc, torch.zeros(width), shared=torch.zeros(1), cap=128)
    assert (found.counts[-1, -1], found.values[-1, -1, 0]) == (1, 6.0)


def screen_into_far_slots() -> None:
    """So many frames that 31 of the 32 splits of the latents have more than 2^31 of them together."""
    n, width = 3 * 2**25 + 1, 32 * 128
    x, W_enc = virtual(n, 4), torch.zeros(width, 4)
    x[-1, -1], W_enc[-1, -1] = 2.0, 3.0
    with mock.patch.object(gpu("screen"), "split_count", return_value=32):
        found = gpu("screen").entries(x, W_enc, torch.zeros(width), k=1, cap=128)
    assert (found.counts[-1, -1], found.values[-1, -1, 0]) == (1, 6.0)


def screened(n: int, splits: int, cap: int) -> Any:
    """Entries of n frames: the last frame has one of value 7 in the last split."""
    counts, floors = (torch.zeros(splits, n, dtype=dtype) for dtype in (torch.int32, torch.float32))
    values, places = virtual(splits, n, cap), virtual(splits, n, cap, dtype=torch.int16)
    counts[-1, -1], values[-1, -1, 0], places[-1, -1, 0] = 1, 7.0, 5
    return gpu("screen").Entries(values, places, counts, floors, splits, 128 * splits)


def merge_of_far_entries() -> None:
    values, indices, _ = gpu("merge").order(screened(2**19 + 1, 4, 1024), 2, 0.0)
    assert (values[-1].tolist(), indices[-1].tolist()) == ([7.0, 0.0], [5 * 4 + 3, 0])


def merge_into_far_slots() -> None:
    n, k = 2**21 + 1, 1024
    values, indices, _ = gpu("merge").order(screened(n, 1, 1024), k, 0.0)
    assert (values[-1, 0], values[-1, -1], indices[-1, 0]) == (7.0, 0.0, 5)


def cut_of_far_entries() -> None:
    n = 2**19 + 1
    assert gpu("cut").keep([(torch.arange(n), screened(n, 4, 1024))], n, 1)[-1] == 1


def adam_of_far_rows(width: int, d: int, unit_norm: bool) -> None:
    """The last of all parameters, alone in its row, is moved, and stays 1 on the sphere."""
    param, grad, exp_avg, exp_avg_sq = (virtual(width, d) for _ in range(4))
    param[-1, -1], grad[-1, -1] = 1.0, 2.0
    path.adam(param, grad, exp_avg, exp_avg_sq, 1, 0.5, unit_norm)
    check_moved(param, exp_avg, unit_norm, 2.0)


def adam_outer_of_far_rows(width: int, d: int, unit_norm: bool) -> None:
    param, rows, exp_avg, exp_avg_sq = (virtual(width, d) for _ in range(4))
    t, weights = one_slot(width, width)
    param[-1, -1], rows[-1, -1] = 1.0, 5.0
    path.adam_outer(param, t, weights, rows, exp_avg, exp_avg_sq, 1, 0.5, unit_norm)
    check_moved(param, exp_avg, unit_norm, 15.0)


def check_moved(param: Tensor, exp_avg: Tensor, unit_norm: bool, grad: float) -> None:
    assert float(param[-1, -1]) == pytest.approx(1.0 if unit_norm else 0.5, abs=1e-6)
    assert float(exp_avg[-1, -1]) == pytest.approx(0.0 if unit_norm else 0.1 * grad, abs=1e-6)


def means_of_far_rows() -> None:
    """The difference is in the last element alone."""
    error, guess = virtual(FRAMES, COLUMNS), virtual(FRAMES, COLUMNS)
    error[-1, -1], guess[-1, -1] = 3.0, 5.0
    means = path.mean_squares(error, guess)
    assert (means * FRAMES * COLUMNS).tolist() == pytest.approx([4.0, 9.0])


def gradients_of_far_rows() -> None:
    error, guess = virtual(FRAMES, COLUMNS), virtual(FRAMES, COLUMNS)
    error[-1, -1], guess[-1, -1] = 3.0, 5.0
    with mock.patch.object(torch, "empty_like", lambda t: virtual(*t.shape)):
        d_error, d_guess = path.relative_gradients(error, guess, torch.tensor([0.5, 2.0]), True)
    assert (d_error[-1, -1], d_guess[-1, -1]) == (-7.0, 1.0)


CASES: dict[str, Callable[[], None]] = {
    "gather_sum, rows": sums_of_far_rows,
    "gather_sum, slots": sums_over_many_slots,
    "gather_dot, rows": dots_with_far_rows,
    "gather_dot, slots": dots_in_many_slots,
    "outer, rows": outer_of_far_rows,
    "outer, slots": outer_of_far_slots,
    "total, slots": total_of_far_slots,
    "transpose": keys_of_far_slots,
    "topk, frames": screen_of_far_frames,
    "topk, latents": screen_of_far_latents,
    "topk, splits": screen_into_far_slots,
    "topk, entries": merge_of_far_entries,
    "topk, slots": merge_into_far_slots,
    "batch_topk": cut_of_far_entries,
    "total, latents": total_of_far_latents,
    "mean_squares": means_of_far_rows,
    "relative_gradients": gradients_of_far_rows,
    "adam": lambda: adam_of_far_rows(FRAMES, COLUMNS, False),
    "adam, long atoms": lambda: adam_of_far_rows(FRAMES, COLUMNS, True),
    "adam, atoms": lambda: adam_of_far_rows(BEYOND // 8192 + 1, 8192, True),
    "adam_outer": lambda: adam_outer_of_far_rows(FRAMES, COLUMNS, False),
    "adam_outer, atoms": lambda: adam_outer_of_far_rows(BEYOND // 8192 + 1, 8192, True),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_beyond_two_to_the_31(case: Callable[[], None]) -> None:
    case()


def test_every_kernel_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases launch every kernel that the package launches."""
    monkeypatch.setattr(interpreter.GridExecutor, "__call__", lambda *_, **__: None)
    launched: set[str] = set()
    with observed(lambda launch: launched.add(launch.name)):
        for case in CASES.values():
            with contextlib.suppress(AssertionError):  # nothing is computed here
                case()
    written = {
        call.args[0].id
        for file in Path(path.__file__).parent.glob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "launch"
        and isinstance(call.args[0], ast.Name)
    }  # fmt: skip
    assert written == launched
