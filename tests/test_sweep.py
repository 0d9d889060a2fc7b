"""Sweep files, and their trainings on a few clips of the embedded generator: it is loaded, and a few seconds of it are run.

A minute in all: each command loads the generator and its tokens, and makes sure that no held-out piece is among them. The test
that kills a command starts it three times, in processes of their own, which load PyTorch as well.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from musae.cli import main
from musae.dictionary import load
from musae.errors import UserError
from musae.sweep import Member, names, read
from musae.sweep_training import SweepTraining, memory

SMALL = """
methods = ["topk"]
corpora = ["procedural"]
widths = [64, 96]
k = [4]
layers = [1, 2]
frames = 5_120
batch_size = 512
aside = 4

[options]
learning_rate = 1e-2
dead_after = 0.5

[method.topk]
aux_weight = 0.0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def call(*arguments: str):
    return CliRunner().invoke(main, ["sweep", *arguments])


def test_the_grid_is_the_product_of_the_axes(file: Path) -> None:
    sweep = read(str(file), {"k": (4, 8, 4), "seeds": (0, 1)})
    members = sweep.members(256)
    assert len(members) == 2 * 2 * 2 * 2
    assert members[0] == Member("topk", 64, 4, 1, 0)
    assert members[0].name == "topk-w64-k4-L1-s0"
    assert sweep.name == "small"


def test_the_shipped_grid_is_the_papers() -> None:
    assert names() == ["paper", "paper-large", "paper-small"]
    for size, width, layers in (("small", 1024, (2, 6, 12, 18, 22)), ("large", 2048, (2, 12, 24, 36, 46))):
        sweep = read(f"paper-{size}")
        assert (sweep.generator, sweep.layers) == (f"musicgen:facebook/musicgen-{size}", layers)
        assert {member.width for member in sweep.members(width)} == {4 * width, 32 * width}
    members = read("paper").members(256)
    assert {member.width for member in members} == {1024, 8192}
    assert {member.k for member in members} == {32, 100}
    assert len({member.layer for member in members}) == 5
    assert len(members) == 20


def test_options_go_from_all_to_one_method_to_the_command_line(file: Path) -> None:
    sweep = read(str(file), {"settings": {"aux_weight": "0.5"}, "expansions": (2,)})
    options = {"learning_rate": 1e-2, "dead_after": 0.5, "aux_weight": "0.5", "batch_size": 512}
    assert sweep.options_of("topk") == options
    assert [member.width for member in sweep.members(256)] == [512, 512]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("widths", "widhts", "widhts: unknown field, did you mean 'widths'"),
        ("k = [4]", "k = [0]", r"k\.0: Input should be greater than 0, not 0"),
        ("k = [4]", "", "k: Field required"),
        ("widths = [64, 96]", "", "give either widths or expansions"),
        ("widths = [64, 96]", "widths = [64]\nexpansions = [4]", "give either widths or expansions"),
        ("k = [4]", "k = [4", "not valid TOML"),
        ("[method.topk]", "[method.topkk]", "topkk"),
        ("learning_rate", "batch_size = 5\nlearning_rate", "batch_size is shared"),
        ("aside", "settings = {}\naside", "settings: unknown field"),
    ],
)
def test_a_bad_file_is_one_sentence_that_names_file_and_field(file: Path, old: str, new: str, says: str) -> None:
    file.write_text(SMALL.replace(old, new, 1))
    with pytest.raises(UserError, match=says) as raised:
        read(str(file))
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["papr"], "did you mean 'paper'"),
        (["paper", "--method", "topkk"], "did you mean 'topk'"),
        (["paper", "--method", "pca"], "does not learn in steps"),
        (["paper", "--method", "temporal"], "reads sequences"),
        (["paper", "--layer", "9"], "layers 0 to 6, not 9"),
        (["paper", "--k", "5000"], "k = 5000"),
        (["paper", "--set", "learning_rat=1"], "did you mean 'learning_rate'"),
        (["paper", "--set", "learning_rate=-1"], "learning_rate = -1.0 must be positive"),
        (["paper", "--set", "width=7"], "width is an axis"),
        (["paper", "--suite", "quik"], "did you mean 'quick'"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments: list[str], says: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert says in result.stderr


def test_memory_is_buffers_and_three_copies_of_the_weights(tmp_path: Path) -> None:
    training = SweepTraining(read("paper", {"layers": (2,), "widths": (1024,), "k": (32,)}), tmp_path, lambda *_: None)
    weights = 4 * (2 * 1024 * 256 + 1024 + 256)
    assert memory(training) == 256 * (2 * 262_144 + 4 * 1024) + 4 * weights


def test_a_dry_run_prints_the_grid_and_does_nothing(file: Path, tmp_path: Path) -> None:
    result = call(str(file), "--dry-run", "--root", str(tmp_path / "runs"))
    assert result.exit_code == 0, result.output
    assert "topk-w96-k4-L2-s0" in result.stdout
    assert "4 dictionaries of 2 layers over one pass of 5,120 frames" in result.stdout
    assert not (tmp_path / "runs").exists()


def test_a_sweep_trains_what_is_missing_and_sums_it_up(file: Path, tmp_path: Path) -> None:
    root = ["--root", str(tmp_path / "runs")]
    first = call(str(file), *root, "--layer", "2")
    assert first.exit_code == 0, first.output
    assert "2 of 2 dictionaries trained" in first.stderr
    again = call(str(file), *root, "--layer", "2", "--width", "64")
    assert "nothing to do" in again.stderr
    both = call(str(file), *root)
    assert both.exit_code == 0, both.output
    assert "2 of 4 dictionaries trained" in both.stderr
    [home] = (tmp_path / "runs" / "sweeps").iterdir()
    lines = list(csv.DictReader((home / "summary.csv").open()))
    assert json.loads((home / "summary.json").read_text())["dictionaries"][3]["hash"] == lines[3]["hash"]
    assert [(line["width"], line["layer"]) for line in lines] == [("64", "1"), ("64", "2"), ("96", "1"), ("96", "2")]
    for line in lines:
        dictionary = load(home / line["file"])
        assert dictionary.trained["generator"].startswith("nano@")
        assert dictionary.trained["layer"] == int(line["layer"])
        assert (dictionary.recipe.learning_rate, dictionary.recipe.aux_weight) == (1e-2, 0.0)
        assert 0 < float(line["fvu"]) < 1
        assert float(line["l0"]) <= 4
        assert 0 <= float(line["dead"]) < 0.2
    assert not list(home.rglob("checkpoint.safetensors"))


def test_a_training_that_fails_fails_alone(file: Path, tmp_path: Path) -> None:
    file.write_text(SMALL.replace('["topk"]', '["topk", "frozen_decoder"]', 1) + "learning_rate = inf\n")
    result = call(str(file), "--root", str(tmp_path / "runs"), "--layer", "1", "--width", "64")
    assert result.exit_code == 1, result.output
    assert "1 of 2 dictionaries trained" in result.stderr
    assert "failed: topk-w64-k4-L1-s0" in result.stderr


@pytest.mark.parametrize("command", ["sweep", "train"])
def test_killed_and_run_again_gives_the_same_dictionaries(command: str, file: Path, tmp_path: Path) -> None:
    """kill -9 once a checkpoint is there."""
    root = tmp_path / "runs"
    arguments = {
        "sweep": ["sweep", str(file), "--layer", "1", "--width", "2048", "--k", "8", "--frames", "20480"],
        "train": ["train", "topk", "--width", "256", "--k", "8", "--suite", "tiny", "--set", "batch_size=64"],
    }[command]
    script = tmp_path / "start.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n" + START)
    start = [sys.executable, str(script), str(tmp_path / "suites"), *arguments, "--root"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*start, str(root)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    until = time.monotonic() + 300
    while not list(root.rglob("checkpoint.safetensors")):
        assert process.poll() is None, process.stderr.read().decode()[-2000:]
        assert time.monotonic() < until
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(root.rglob("topk*.safetensors")), "killed too late to show anything"
    for folder in (root, tmp_path / "whole"):
        subprocess.run([*start, str(folder)], check=True, capture_output=True, env=env)
    found = [
        sorted(load(path).content_hash for path in folder.rglob("topk*.safetensors")) for folder in (root, tmp_path / "whole")
    ]
    assert found[0] == found[1] != []


START = """
from pathlib import Path

import musae.suites
from tiny_suite import TINY

folder = Path(sys.argv.pop(1))
folder.mkdir(exist_ok=True)
arguments = ", ".join(f"{name}={value!r}" for name, value in TINY.model_dump().items())
(folder / "tiny.py").write_text(f"from musae.card import SuiteCard\\n\\nCARD = SuiteCard({arguments})\\n")
musae.suites.__path__.append(str(folder))

from musae.cli import main

main()
"""
"""Runs the command line with a suite of 10,240 training frames."""


def test_what_a_method_builds_on_is_part_of_its_source() -> None:
    """So that editing topk renews the controls that inherit from it."""
    from musae.workspace import source_of

    own = source_of("methods", "topk")
    assert own in source_of("methods", "frozen_decoder")
    assert source_of("methods", "matching_pursuit") in source_of("methods", "kmeans")
    assert b"class FrozenDecoder" not in own
