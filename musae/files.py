"""Writing files so that an interrupted run, or a full disk, leaves nothing half-written under a final name."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from musae.errors import UserError


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` when the block succeeds, remove it otherwise.

    Raises UserError when the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{path}: the disk is full; nothing was written under this name. Free some space and run again."
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_root() -> Path:
    """Where rendered and encoded data are kept: ``$MUSAE_CACHE``, else ``~/.cache/musae``. Safe to delete."""
    return Path(os.environ.get("MUSAE_CACHE") or Path.home() / ".cache" / "musae")


def runs_root() -> Path:
    """Where runs write: ``$MUSAE_RUNS``, else ``./runs``."""
    return Path(os.environ.get("MUSAE_RUNS") or "runs")
