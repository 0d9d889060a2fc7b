"""`musae doctor`, as users call it."""

import os
import subprocess
import sys
from pathlib import Path


def doctor(cache: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: paths are chosen, and crossovers measured, in a fresh cache."""
    return subprocess.run(
        [sys.executable, "-m", "musae.cli", "doctor", *arguments],
        env=os.environ | {"MUSAE_CACHE": str(cache), "COLUMNS": "200", "MUSAE_KERNELS": "portable"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_says_what_would_run_and_measures_once(tmp_path: Path) -> None:
    first = doctor(tmp_path)
    assert first.returncode == 0, first.stderr
    assert "cpu     float32   portable" in first.stdout
    assert "MUSAE_KERNELS=portable" in first.stdout
    assert "measured now" in first.stdout
    assert "; known" in doctor(tmp_path).stdout
    assert "measured now" in doctor(tmp_path, "--measure").stdout


def test_a_path_that_cannot_run_is_named(tmp_path: Path) -> None:
    done = doctor(tmp_path, MUSAE_KERNELS="rocket")
    assert done.returncode == 1
    assert "no kernel path is named 'rocket'" in done.stdout
    assert "Traceback" not in done.stderr
