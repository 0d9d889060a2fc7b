"""Plug-ins as they are used: `example/` is installed by pip, and found by commands that run in processes of their own.

Most of a minute: pip builds and installs, every command that needs PyTorch imports it, and a suite is trained and scored.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from musae.leaderboard.board import boards
from musae.results import read_all

PIP = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")


def install(source, target):
    """Build and install a package as a user would, without network, into a folder."""
    copy = target.parent / f"{source.name}-source"  # setuptools builds in the source's own folder
    shutil.copytree(source, copy)
    done = subprocess.run([sys.executable, *PIP, "--target", target, copy], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the example installed under ``site``, and runs beside it."""
    home = tmp_path_factory.mktemp("plugins")
    (home / "published").mkdir()
    install(Path(__file__).with_name("example"), home / "site")
    return home


@pytest.fixture(scope="module")
def musae(home):
    """Runs `musae`, or Python with other arguments, where the example is installed."""

    def call(*arguments, python=("-m", "musae.cli")):
        path = os.pathsep.join(filter(None, [str(home / "site"), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": path, "MUSAE_RUNS": str(home / "runs")}
        return subprocess.run(
            [sys.executable, *python, *arguments], capture_output=True, text=True, env=environment, cwd=home, timeout=900
        )

    return call


def test_list_shows_what_is_installed_and_warns_of_what_is_broken(musae):
    listed = musae("list")
    assert listed.returncode == 0, listed.stderr
    for name in ("drawn", "busy_clips", "tones", "nano_again", "always_c", "plugged"):
        [line] = [line for line in listed.stdout.splitlines() if f"musae-example/{name} " in line]
        assert "broken" not in line
    [line] = [line for line in listed.stdout.splitlines() if "half_written" in line]
    assert "broken" in line
    [warning] = listed.stderr.splitlines()
    assert warning.startswith("warning: methods 'musae-example/half_written' is broken")
    assert "half_written.py:9: the card's summary is not a Python literal" in warning


@pytest.mark.parametrize("command", ["train", "validate"])
def test_using_what_is_broken_is_one_clear_sentence(musae, command):
    used = musae(command, "musae-example/half_written")
    assert used.returncode == 2
    [line] = used.stderr.splitlines()
    assert line.startswith("error: methods 'musae-example/half_written' is broken: ")
    assert "repair or uninstall its package" in line


@pytest.mark.parametrize("name", ["musae-example/drawn", "busy_clips", "musae-example/tones", "musae-example/nano_again"])
def test_what_is_installed_keeps_its_contract(musae, name):
    validated = musae("validate", name)
    assert validated.returncode == 0, validated.stdout + validated.stderr
    assert "all passed" in validated.stdout


def test_a_plugin_trains_scores_and_stands_on_the_board(musae, home):
    trained = musae("train", "musae-example/drawn", "--suite", "plugged", "--seed", "1")
    assert trained.returncode == 0, trained.stderr
    file = trained.stdout.split()[0]
    run = musae("run", "--suite", "musae-example/plugged", "--published", str(home / "published"))
    assert run.returncode == 0, run.stderr
    assert "drawn" in run.stdout
    results = next(home.glob("runs/plugged-*/results"))
    rows = [f.cell for f in read_all(results) if f.cell.method == "drawn"]
    tasks = ("musae-example/busy_clips", "sparsity")
    assert {(cell.seed, cell.task) for cell in rows} == {(seed, task) for seed in (0, 1) for task in tasks}
    assert {(cell.generator, cell.corpus) for cell in rows} == {("nano_again", "musae-example/tones")}
    [board] = boards(read_all(results))
    assert "drawn" in [column.name for corpus in board.corpora for column in corpus.columns]
    printed = musae("leaderboard", str(results), "--format", "csv")
    assert printed.returncode == 0, printed.stderr
    assert "drawn" in printed.stdout
    validated = musae("validate", file)
    assert validated.returncode == 0, validated.stdout + validated.stderr


def test_a_package_that_new_writes_is_a_plugin_once_it_is_installed(musae, home):
    written = musae("new", "method", "fresh", "--package", "musae-fresh")
    assert written.returncode == 0, written.stderr
    install(home / "musae-fresh", home / "site")
    validated = musae("validate", "musae-fresh/fresh")
    assert validated.returncode == 0, validated.stdout + validated.stderr
    tested = musae("-q", "-p", "no:cacheprovider", str(home / "musae-fresh" / "tests"), python=("-m", "pytest"))
    assert tested.returncode == 0, tested.stdout
    assert "2 passed" in tested.stdout


def test_heldout_pieces_of_a_plugin_are_not_trained_on(musae):
    made = musae(
        *("harvest", "musae-example/nano_again", "--corpus", "musae-example/tones", "--split", "heldout"),
        *("--layer", "1", "--clips", "12", "--seconds", "5.12"),
    )
    assert made.returncode == 0, made.stderr
    store = made.stdout.split("layer 1: ")[1].split()[0]
    refused = musae("train", "musae-example/drawn", "--suite", "plugged", "--store", store)
    assert refused.returncode == 2
    assert "12 held-out pieces of 'tones'" in refused.stderr
