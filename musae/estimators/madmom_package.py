"""madmom 0.16.1 (Böck et al., ACM MM 2016), an optional package that predates Python 3.10 and NumPy 1.24.

Its code is under a BSD licence, its models under CC BY-NC-SA 4.0: not for commercial use. It installs with
``pip install 'cython<3.1' mido`` and then ``pip install --no-build-isolation --no-deps madmom==0.16.1`` (it is compiled, in a
minute). Names that it expects of the standard library and NumPy, and that are gone, are put back before it is imported.
"""

from __future__ import annotations

import collections
import collections.abc
import importlib
import importlib.metadata
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.errors import UserError

RATE = 44_100
"""Hz; its networks were trained at this rate."""
INSTALL = "madmom==0.16.1"


@cache
def module(name: str) -> Any:
    """The module ``madmom.<name>``. Raises UserError where madmom is not installed or does not load."""
    if importlib.util.find_spec("madmom") is None:
        raise UserError(
            "madmom is not installed; `pip install 'cython<3.1' mido`, then `pip install --no-build-isolation --no-deps "
            f"{INSTALL}` (its models are for non-commercial use only)."
        )
    for kind in (float, int, bool, object, complex):  # its functions use these names whenever they are called
        if kind.__name__ not in vars(np):
            setattr(np, kind.__name__, kind)
    try:
        with _standard_library_of_2018(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"madmom.{name}")
    except (ImportError, AttributeError) as error:
        raise UserError(f"madmom does not load ({error}); install {INSTALL}.") from error


@cache
def version() -> str:
    """The installed version. Raises UserError where it is not installed."""
    module("audio.signal")
    return importlib.metadata.version("madmom")


def process(processor: Any, audio: NDArray[np.float32]) -> Any:
    """What one of madmom's processors gives of mono audio ``[samples]`` at `RATE`; its warnings of old usage are not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return processor(module("audio.signal").Signal(audio, sample_rate=RATE, num_channels=1))


@contextmanager
def _standard_library_of_2018() -> Iterator[None]:
    """For the length of the block: abstract classes in `collections`, and the one function of pkg_resources that is asked for."""
    lacking = [name for name in ("MutableSequence",) if not hasattr(collections, name)]
    for name in lacking:
        setattr(collections, name, getattr(collections.abc, name))
    before = sys.modules.get("pkg_resources")
    stand_in = ModuleType("pkg_resources")
    stand_in.get_distribution = importlib.metadata.distribution  # type: ignore[attr-defined]
    sys.modules["pkg_resources"] = stand_in
    try:
        yield
    finally:
        for name in lacking:
            delattr(collections, name)
        del sys.modules["pkg_resources"]
        if before is not None:
            sys.modules["pkg_resources"] = before
