"""Named arrays on disk: one NumPy archive, whole or not at all."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae.errors import UserError
from musae.files import atomic_path


def save(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """Write ``.npz``, compressed."""
    named: Any = dict(arrays)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **named)


def load(path: Path) -> dict[str, NDArray]:
    """Read what `save` wrote. Raises UserError for a damaged file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and run again.") from error
