"""Triton's interpreter, without work that it repeats: the same results, about a third sooner.

It was made for small tests. For every call of a function in a kernel it patches `triton.language` anew; it rebuilds a table of
dtypes for every operation, takes bfloat16 apart into sign, exponent and significand to widen it, and reduces by exclusive or,
as `tl.sort` and `tl.topk` do, element by element.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np


@contextlib.contextmanager
def executing() -> Iterator[None]:
    """Kernels that are launched in the block run, on the tensors themselves: they lie on the CPU, and need no copy back."""
    from triton.runtime import interpreter

    tl = interpreter.tl
    patch, widen, numpy_dtype = interpreter._patch_lang, interpreter._convert_float, functools.cache(interpreter._get_np_dtype)
    generic = interpreter.ReduceOps.generic_reduce
    scopes: dict[tuple[str, ...], Any] = {}
    languages: dict[int, tuple[str, ...]] = {}

    class Kept:
        """Takes a scope's place: what it patched stays so until the block ends."""

        def restore(self) -> None: ...

    def patch_once(fn: Any) -> Any:
        space = fn.__globals__
        if id(space) not in languages:
            modules = (value for value in space.values() if inspect.ismodule(value))
            languages[id(space)] = tuple(sorted({m.__name__ for m in modules if m in (tl, tl.core)}))
        if languages[id(space)] not in scopes:
            scopes[languages[id(space)]] = patch(fn)
        return Kept()

    def convert(data: Any, source: Any, target: Any, rounding: Any) -> Any:
        if source == tl.bfloat16 and target == tl.float32:
            return np.left_shift(data, 16, dtype=np.uint32)
        return widen(data, source, target, rounding)

    def dtype_of(kind: Any) -> Any:
        element = kind.element_ty if isinstance(kind, tl.block_type) else kind
        return np.dtype(np.uint64) if isinstance(element, tl.pointer_type) else numpy_dtype(element)

    def reduce(reduction: Any, operands: Any) -> Any:
        if reduction.combine_fn != tl.standard._xor_combine or reduction.axis is None:
            return generic(reduction, operands)
        data = np.bitwise_xor.reduce(operands[0].handle.data, axis=reduction.axis, keepdims=reduction.keep_dims)
        return [reduction.to_tensor(data, operands[0].dtype)]

    with (
        mock.patch.object(interpreter.ReduceOps, "generic_reduce", reduce),
        mock.patch.object(interpreter.GridExecutor, "_restore_args_dev"),
        mock.patch.object(interpreter, "_patch_lang", patch_once),
        mock.patch.object(interpreter, "_get_np_dtype", dtype_of),
        mock.patch.object(interpreter, "_convert_float", convert),
    ):
        try:
            yield
        finally:
            for scope in reversed(scopes.values()):
                scope.restore()


@contextlib.contextmanager
def unexecuted() -> Iterator[None]:
    """Kernels that are launched in the block do nothing."""
    from triton.runtime.interpreter import GridExecutor

    with mock.patch.object(GridExecutor, "__call__"):
        yield
