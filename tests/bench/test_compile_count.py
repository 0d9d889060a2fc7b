"""Bytes of kernels whose traffic is known; what is counted at few frames tells what a full batch moves."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

import compile_toys

from musae.bench.compile.lines import statement

HERE = Path(__file__).parent


def interpreted(*command: str) -> dict:
    """What a Python script prints as JSON, with Triton's interpreter on."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(HERE)}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def toys() -> dict:
    return interpreted(str(HERE / "compile_toys.py"))


def test_masked_lanes_move_nothing(toys):
    assert toys["copy"]["issued"] == [4000, 4000]
    assert toys["copy"]["distinct"] == {"0": [4000, 0, 16384], "1": [0, 4000, 16384]}
    assert toys["copy"]["error"] == 0


def test_a_strided_load_pays_for_whole_sectors(toys):
    assert toys["stride"]["issued"] == [256, 256]
    assert toys["stride"]["distinct"]["0"][0] == 64 * 32


def test_what_is_read_again_is_issued_again_and_moved_once(toys):
    assert toys["again"]["issued"] == [4 * 1024, 1024]
    assert toys["again"]["distinct"] == {"0": [1024, 0, 16384], "1": [0, 1024, 16384]}


def test_atomics_read_and_write_and_are_told_apart_by_dtype(toys):
    found = toys["count"]
    assert found["issued"] == [3 * 256, 2 * 256]
    assert found["distinct"]["1"] == [32, 32, 16]
    assert sorted(line["dtype"] for line in found["lines"] if line["kind"] == "atomic") == ["fp32", "int32"]


def test_rows_are_told_from_columns_and_lines_by_their_statement(toys):
    found = toys["product"]
    assert found["dots"] == 16 * 16 * 64
    assert found["error"] < 1e-4
    source, start = inspect.getsourcelines(compile_toys._rows.fn)
    load = start + next(number for number, text in enumerate(source) if "return tl.load" in text)
    loads = {line["line"]: line for line in found["lines"] if line["kind"] == "load"}
    assert loads[load]["rows"]
    assert loads[load]["run"] >= 16
    assert loads[load]["issued"] == 2 * 16 * 64 * 2
    other = next(line for number, line in loads.items() if number != load)
    assert other["run"] == 2


def test_an_access_outside_every_tensor_is_seen(toys):
    assert toys["beyond"]["stray"] == 1
    assert all(toys[name]["stray"] == 0 for name in toys if name != "beyond")


def test_a_line_within_a_call_is_the_first_of_its_statement(tmp_path):
    file = tmp_path / "f.py"
    file.write_text("def f(a):\n    if a:\n        b = g(\n            a,\n        )\n    return b\n")
    assert [statement(str(file), line)[1] for line in range(1, 7)] == [1, 2, 3, 3, 3, 6]
    assert statement("no such file", 7) == ("no such file", 7)


PROJECT = """
import json, sys
import torch
torch.set_num_threads(1)
from musae.bench.compile import record, subjects, traffic
op = subjects.subjects()[sys.argv[1]]
found = record.measure(op, 8192, 4, record.Launches(64), d=64, frames=(128, 256))
more = record.measure(op, 8192, 4, record.Launches(64), d=64, frames=(512, 256))
out = {"errors": found["errors"] | more["errors"]}
for name, stage in found["stages"].items():
    ahead = traffic.project(stage, 512, 1.0)
    now = more["stages"][name]["counts"][0]
    out[name] = {
        "distinct": [ahead.distinct, sum(a + b for l in now["launches"] for a, b, _ in l["distinct"].values())],
        "issued": [ahead.issued, sum(sum(l["issued"]) for l in now["launches"])],
        "eager": [ahead.eager, now["eager"] + now["sampled"]],
    }
print(json.dumps(out))
"""


@pytest.mark.parametrize("op", ["adam_outer"])
def test_counts_at_few_frames_tell_those_at_more(op):
    found = interpreted("-c", PROJECT, op)
    assert max(found.pop("errors").values()) <= 1
    for stage in found.values():
        for ahead, counted in stage.values():
            assert ahead == pytest.approx(counted, rel=0.02)
