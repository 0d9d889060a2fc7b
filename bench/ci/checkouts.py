"""The two source trees of a comparison: folders, or a git reference that is checked out for the time being."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from musae.errors import UserError

MARK = Path("musae") / "kernels" / "op.py"
"""A checkout of musae has this file: what the benches are found by."""


@dataclass(frozen=True)
class Checkout:
    """One source tree."""

    path: Path
    """Absolute; the folder that holds `musae/`."""
    name: str
    """For people: the reference or the folder, and the commit."""
    commit: str
    """Full hash; empty outside git."""
    dirty: bool
    """Whether files differ from that commit."""


def environment(checkout: Path) -> dict[str, str]:
    """The environment of a process that shall import musae from a checkout: one thread, and that folder first."""
    path = os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def folder(path: Path, side: str) -> Checkout:
    """A checkout that is there; `side` ("base", "head") names it in errors.

    Raises UserError where it is none, or where Python would import musae from somewhere else.
    """
    path = path.resolve()
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; give the {side} checkout of musae.")
    if not (path / MARK).is_file():
        raise UserError(f"{path}: not a checkout of musae with kernels, it has no {MARK}; give another {side}.")
    code = "import musae; print(musae.__file__ or '')"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=path, env=environment(path), capture_output=True, text=True, check=False
    )
    found = done.stdout.strip()
    if done.returncode or not found:
        said = (done.stderr.strip() or "it has no __init__.py").splitlines()[-1]
        raise UserError(f"{path}: its musae cannot be imported ({said}); repair the {side} checkout.")
    if not Path(found).resolve().is_relative_to(path):
        raise UserError(
            f"{path}: Python imports {found} instead of this {side} checkout; look at your import hooks and .pth files."
        )
    commit = _git(path, "rev-parse", "HEAD") if _git(path, "rev-parse", "--show-toplevel") == str(path) else ""
    dirty = bool(commit and _git(path, "status", "--porcelain", "--untracked-files=normal", "--", "musae"))
    return Checkout(path, _named(path.name, commit, dirty), commit, dirty)


def present() -> Path:
    """The checkout that the working folder lies in: git's top folder, else the working folder itself."""
    top = _git(Path.cwd(), "rev-parse", "--show-toplevel")
    return Path(top) if top else Path.cwd()


@contextmanager
def reference(repository: Path, ref: str) -> Iterator[Checkout]:
    """Check a branch, tag or commit out into a temporary worktree, removed at the end, also after Ctrl-C.

    Raises UserError where `repository` is not under git or has no such commit.
    """
    if not _git(repository, "rev-parse", "--git-dir"):
        raise UserError(f"{repository}: not a git repository, so it has no {ref!r}; give --base-dir instead of --base.")
    commit = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if not commit:
        raise UserError(f"{repository}: git knows no commit named {ref!r}; fetch it first, or give another --base.")
    temporary = Path(tempfile.mkdtemp(prefix="musae-ci-"))
    tree = temporary / "base"
    # no hooks: a post-checkout hook is for people's checkouts
    git = ["git", "-C", str(repository), "-c", "core.hooksPath=/dev/null"]
    try:
        done = subprocess.run(
            [*git, "worktree", "add", "--detach", str(tree), commit], capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = (done.stderr.strip() or "no reason given").splitlines()[-1]
            raise UserError(f"{repository}: git could not check out {ref!r} ({said}); give --base-dir instead of --base.")
        made = folder(tree, "base")
        yield Checkout(made.path, _named(ref, commit, False), commit, False)
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(tree)], capture_output=True, check=False)
        shutil.rmtree(temporary, ignore_errors=True)


def _named(name: str, commit: str, dirty: bool) -> str:
    return f"{name} ({commit[:10]}{', changed' if dirty else ''})" if commit else name


def _git(path: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(path), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
