"""Essentia (Bogdanov et al., ISMIR 2013) as musae uses it: quietly, and only where it is installed. Its licence is AGPL-3.0."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from functools import cache
from typing import Any

from musae.errors import UserError

RATE = 44_100
"""Hz; its algorithms' constants, and its beat trackers' training, are for this rate."""

DISTRIBUTIONS = ("essentia", "essentia-tensorflow")
"""The second is the first with TensorFlow; both provide the package ``essentia``, so only one should be installed."""


@cache
def standard() -> Any:
    """The module ``essentia.standard``, its log switched off. Raises UserError where it is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when essentia-tensorflow loads its TensorFlow
    try:
        log = importlib.import_module("essentia").log
        log.infoActive = log.warningActive = False
        return importlib.import_module("essentia.standard")
    except ImportError as error:
        raise UserError(
            f"Essentia is not installed or does not load ({error}); `pip install 'essentia>=2.1b6.dev1389'` (AGPL-3.0)."
        ) from error


@cache
def version() -> str:
    """The installed version. Raises UserError where it is not installed."""
    standard()
    for name in DISTRIBUTIONS:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return str(importlib.import_module("essentia").__version__)
