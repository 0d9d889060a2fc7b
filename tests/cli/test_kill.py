"""kill -9 at random moments: the same command, run again, ends with the same bytes. Twenty kills take about ten minutes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_suite import TINY

COMMANDS = {
    "harvest": ["harvest", "nano", "--corpus", "procedural", "--clips", "160", "--layer", "2", "--layer", "5"],
    "train": ["train", "topk", "--suite", "tiny", "--width", "2048", "--set", "epochs=6"],
    "score": ["run", "--suite", "tiny", "--workers", "2"],
}
KILLS = {"harvest": 7, "train": 6, "score": 7}

ASIDE = ("log.jsonl", "checkpoint.safetensors", "leaderboard.md", "leaderboard.csv")
"""Files that hold seconds, or follow from others."""

START = """
import sys, musae.suites
musae.suites.__path__.append(sys.argv.pop(1))
from musae.cli import main
if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a command, of a process group of its own, in a folder for runs and a cache."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "suites").mkdir()
    arguments = ", ".join(f"{name}={value!r}" for name, value in TINY.model_dump().items())
    (folder / "suites" / "tiny.py").write_text(f"from musae.card import SuiteCard\n\nCARD = SuiteCard({arguments})\n")
    script = folder / "start.py"
    script.write_text(START)

    def start(name: str, root: Path) -> subprocess.Popen:
        environment = os.environ | {"MUSAE_CACHE": str(root / "cache"), "MUSAE_RUNS": str(root / "runs"), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, script, folder / "suites", *COMMANDS[name]],
            env=environment,
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    return start


def finish(process: subprocess.Popen) -> None:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()


def content(root: Path) -> dict[str, object]:
    """What a run has made, without when and how long."""
    found: dict[str, object] = {}
    for path in sorted((root / "runs").rglob("*")):
        name = path.relative_to(root).as_posix()
        if not path.is_file() or path.name in ASIDE:
            continue
        if path.suffix == ".json":
            text = json.loads(path.read_text())
            for key in ("created", "provenance"):
                text.pop(key, None)
            found[name] = text
        else:
            found[name] = path.read_bytes()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_random_moments_a_command_ends_with_the_same_bytes(start, tmp_path, name):
    whole = tmp_path / "whole"
    whole.mkdir()
    begun = time.monotonic()
    finish(start(name, whole))
    takes, expected = time.monotonic() - begun, content(whole)
    draw = random.Random(name)
    kills = 0
    while kills < KILLS[name]:
        root = tmp_path / "killed"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        process = start(name, root)
        moment = draw.uniform(0.1, 1.0) * takes
        time.sleep(moment)
        if process.poll() is not None:  # it was quicker this time
            takes = min(takes, moment)
            process.communicate()
            continue
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kills += 1
        finish(start(name, root))
        found = {path: text for path, text in content(root).items() if not Path(path).name.startswith(".")}
        print(f"{name}, kill {kills} at {moment:.1f} of {takes:.1f} s: {len(found)} files, as without")
        assert found.keys() == expected.keys()
        different = [path for path in found if found[path] != expected[path]]
        assert not different
