"""Where a number was made: commit, machine, package versions."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "mir_eval", "midirenderer", "music21", "triton")
"""Packages whose version can change a score."""


@functools.cache
def commit() -> tuple[str, bool]:
    """The checkout's commit and whether it has uncommitted changes to code; ("", False) outside a git checkout.

    Results and documents do not count as code: publishing rows must not make the next rows dirty.
    """
    here = Path(__file__).resolve().parent
    head = _git(here, "rev-parse", "HEAD")
    if not head:
        return "", False
    changed = _git(
        here, "status", "--porcelain", "--untracked-files=normal", "--", ":/musae", ":/tasks", ":/bench", ":/pyproject.toml"
    )
    return head, bool(changed)


def packages() -> dict[str, str]:
    """Installed versions of the packages that can change a score."""
    found: dict[str, str] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def device() -> str:
    """The processor that PyTorch computes on, in words."""
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return processor()


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's model name, or its architecture where the system does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
