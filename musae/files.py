"""Writing files so that an interrupted run, or a full disk, leaves nothing half-written under a final name.

A path is a local one, or one that `place` made of a URL: universal_pathlib's, which has pathlib's methods over fsspec.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from musae.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LEAST = 2**20
"""Bytes: with less free space after a failure, it was for lack of space."""


def place(text: Path | str) -> Path:
    """A local path, or what a URL names (``s3://bucket/folder``, ``gs://``, ``sftp://``, ``memory://``, ...).

    Raises UserError for a scheme that fsspec does not know, or whose package is not installed.
    """
    if isinstance(text, Path) or "://" not in str(text):
        return Path(text)
    from upath import UPath

    try:
        found = UPath(text)
        found.fs  # noqa: B018  its package is imported here
    except (ValueError, ImportError) as error:
        raise UserError(f"{text}: cannot be reached ({error}); give a local folder, or another URL.") from error
    return found if isinstance(found, Path) else cast(Path, found)


def is_local(path: Path) -> bool:
    """Whether a path is on this machine's own file system."""
    return isinstance(path, Path)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` when the block succeeds, remove it otherwise.

    For a URL, the temporary path is a local one, and its file is uploaded: object stores show it whole or not at all. Elsewhere
    (sftp, say) a broken upload may leave a part under the final name: whoever reads such a file checks a checksum.

    Raises UserError when the disk is full or the folder cannot be written; see `writing`.
    """
    path = place(path)
    if not is_local(path):
        with tempfile.TemporaryDirectory(prefix="musae-") as folder:
            local = Path(folder) / path.name
            yield local
            with reaching(path):
                _upload(local, path)
        return
    temporary: Path | None = None
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
            os.close(handle)
            temporary = Path(name)
            yield temporary
            temporary.chmod(0o644)
            os.replace(temporary, path)
    finally:  # after `writing` has looked at the free space
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _upload(file: Path, path: Any) -> None:
    path.fs.makedirs(path.parent.path, exist_ok=True)
    path.fs.put_file(str(file), path.path)


@contextmanager
def reaching(path: Path) -> Iterator[None]:
    """Raise UserError for whatever goes wrong on the way to a URL: each of fsspec's file systems raises errors of its own."""
    try:
        yield
    except (UserError, FileNotFoundError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be reached ({reason}); check its URL, your credentials and the network.") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise UserError for a full disk, whichever library met it, and for OSErrors about `path`, its folders or its neighbours."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if _is_full(error, path.parent):
            raise UserError(f"{path}: the disk is full; nothing more was written. Free some space and run again.") from error
        if isinstance(error, OSError) and _concerns(error, path.absolute()):
            blocked = isinstance(error, (FileExistsError, NotADirectoryError))
            reason = "part of its folder's path is a file" if blocked else error.strerror or str(error)
            raise UserError(f"{path}: cannot be written ({reason}); check its folder, or choose another.") from error
        raise


def _is_full(error: BaseException, folder: Path) -> bool:
    """Whether an error, or one that it came from, means a full disk, a quota, or a limit on the size of files.

    safetensors tells it in words alone, torch not at all: then the free space decides.
    """
    chain: BaseException | None = error
    while chain is not None:
        if getattr(chain, "errno", None) in FULL or any(os.strerror(code) in str(chain) for code in FULL):
            return True
        chain = chain.__cause__ or chain.__context__
    return folder.is_dir() and shutil.disk_usage(folder).free < LEAST


def _concerns(error: OSError, path: Path) -> bool:
    """Whether an error is about `path`, one of its folders or a file beside it; so are errors that name no file."""
    if not isinstance(error.filename, str | Path):
        return True
    named = Path(error.filename).absolute()
    return path.is_relative_to(named) or named.parent == path.parent


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
