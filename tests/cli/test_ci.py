"""`musae ci` as users call it, on checkouts of a few lines.

Their op spins for a given CPU time, and a `torch` of a few lines beside it makes their processes start in no time.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner

from musae.cli import main

TORCH = """
float32 = "float32"
class Tensor: pass
class device:
    def __init__(self, type): self.type = type
class Generator:
    def manual_seed(self, seed): return self
class no_grad:
    def __enter__(self): pass
    def __exit__(self, *exception): pass
def set_num_threads(count): assert count == 1
"""
OP = """
import time
from types import SimpleNamespace

def spin(microseconds):
    until = time.process_time() + microseconds / 1e6
    while time.process_time() < until: pass

def ops():
    return {{name: SimpleNamespace(fn=fn, inputs=lambda *a: (), differentiable=False) for name, fn in {{{ops}}}.items()}}
"""
GREEN = "from musae.kernels.op import ops\ndef test_ops(): assert ops()\n"
RED = "def test_ops(): assert 2 == 3, 'a | wrong value'\n"


def checkout(folder, ops=None, test=GREEN):
    """A checkout with the given ops: name -> code of a function without arguments."""
    ops = {"fast": "lambda: spin(300)"} if ops is None else ops
    files = {
        "torch.py": TORCH,
        "musae/__init__.py": "",
        "musae/kernels/__init__.py": "",
        "musae/kernels/op.py": OP.format(ops=", ".join(f"{name!r}: {code}" for name, code in ops.items())),
        "tests/kernels/test_ops.py": test,
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def call(*arguments, **options):
    return CliRunner().invoke(main, ["ci", "--device", "cpu", "--pairs", "12", *map(str, arguments)], **options)


def sentence(result):
    """The one line of bad input."""
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def git(folder, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def commands():
    """Process ids and command lines of everything that runs here."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.parent.name, path.read_bytes().replace(b"\0", b" ").decode(errors="replace")


@pytest.fixture
def repository(tmp_path):
    """A checkout under git."""
    folder = checkout(tmp_path / "repository")
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return folder


def test_equal_checkouts_pass_and_leave_all_reports(tmp_path, monkeypatch):
    base, head, out = checkout(tmp_path / "a"), checkout(tmp_path / "b"), tmp_path / "out"
    step = tmp_path / "step.md"
    step.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    result = call("--base-dir", base, "--head-dir", head, "--out", out)
    assert result.exit_code == 0, result.output
    assert "passed: tests/kernels: 2 passed; none of 1 compared bench is shown to be slower" in result.stdout
    assert {path.name for path in out.iterdir()} == {"junit.xml", "summary.md", "base.json", "head.json"}
    assert step.read_text() == "before\n" + (out / "summary.md").read_text()
    (bench,) = json.loads((out / "base.json").read_text())["benchmarks"]
    assert bench["name"] == "fast.forward"
    assert bench["stats"]["median"] == pytest.approx(300e-6, rel=0.2)


def test_a_slower_op_fails_and_is_named_among_others(tmp_path):
    base = checkout(tmp_path / "a", {"one": "lambda: spin(300)", "two": "lambda: spin(300)", "old": "lambda: spin(300)"})
    head = checkout(tmp_path / "b", {"one": "lambda: spin(300)", "two": "lambda: spin(345)", "fresh": "lambda: spin(300)"})
    stored = tmp_path / "stored.json"
    stored.write_text(json.dumps({"benchmarks": [{"name": "two.forward", "stats": {"median": 1.0}}]}))
    result = call("--base-dir", base, "--head-dir", head, "--out", tmp_path / "out", "--baseline", stored)
    assert result.exit_code == 1, result.output
    assert "two.forward is slower by more than 3%" in result.stdout
    verdicts = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith(("one", "two", "old", "fresh"))}
    assert "slower" not in verdicts["one.forward"]
    assert verdicts["two.forward"].split()[-2:] == ["slower", "1000"]  # the stored second is shown beside it
    assert "the head has no such bench" in result.stdout
    assert "the base has no such bench" in result.stdout
    failures = ET.parse(tmp_path / "out" / "junit.xml").getroot().findall(".//failure")
    assert len(failures) == 1


def test_a_red_test_fails_without_any_speed_figure(tmp_path):
    base = checkout(tmp_path / "a", {"fast": "lambda: open('ran', 'w').close()"})
    head = checkout(tmp_path / "b", {"fast": "lambda: open('ran', 'w').close()"}, test=RED)
    result = call("--base-dir", base, "--head-dir", head, "--out", tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert "FAILED: tests/kernels: red, 1 of 1 failed; no speed was measured" in result.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"junit.xml", "summary.md"}
    assert not (base / "ran").exists()
    assert not (head / "ran").exists()


@pytest.mark.parametrize(
    ("op", "says"), [("lambda: 1 / 0", "ZeroDivisionError"), ("lambda: __import__('os')._exit(7)", "code 7")]
)
def test_a_bench_that_fails_or_dies_in_the_head_fails_the_gate(tmp_path, op, says):
    base = checkout(tmp_path / "a", {"bad": "lambda: spin(300)", "fast": "lambda: spin(300)"})
    head = checkout(tmp_path / "b", {"bad": op, "fast": "lambda: spin(300)"})
    result = call("--base-dir", base, "--head-dir", head, "--out", tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert "bad.forward is broken" in result.stdout
    assert says in result.stdout
    assert json.loads((tmp_path / "out" / "head.json").read_text())["benchmarks"][0]["name"] == "fast.forward"


def test_a_reference_is_checked_out_and_cleaned_up(repository, tmp_path, monkeypatch):
    """The change is not committed: the base is what git has, the head what lies there. From a folder within the checkout."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    checkout(repository, {"fast": "lambda: spin(360)"})
    monkeypatch.chdir(repository / "tests")
    result = call("--base", "main", "--out", tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert "fast.forward is slower" in result.stdout
    assert "changed) against main (" in (tmp_path / "out" / "summary.md").read_text()
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert not list(tmp_path.glob("musae-ci-*"))


def test_ctrl_c_removes_the_worktree_and_ends_the_workers(repository, tmp_path):
    checkout(repository, {"slow": "lambda: spin(200_000)"})
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "musae.cli", "ci", "--base", "HEAD", "--device", "cpu", "--out", str(tmp_path / "out")],
        cwd=repository, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's background job ignores it
    )  # fmt: skip
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if "speed: 0 of" in line:
            break
    assert len(git(repository, "worktree", "list").splitlines()) == 2, seen
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, seen
    assert "Traceback" not in said
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert not list(tmp_path.glob("musae-ci-*"))
    assert not [pid for pid, words in commands() if str(repository) in words]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "either --base REF or --base-dir PATH"),
        (("--base", "main", "--base-dir", "."), "either --base REF or --base-dir PATH"),
        (("--base-dir", "nowhere"), "no such folder; give the base checkout"),
        (("--base-dir", "empty"), "not a checkout of musae"),
        (("--base-dir", "headless", "--head-dir", "nowhere"), "no such folder; give the head checkout"),
        (("--base", "mian"), "git knows no commit named 'mian'"),
        (("--base", "--help"), "git knows no commit named '--help'"),
        (("--base", "main", "--head-dir", "plain"), "not a git repository"),
        (("--base-dir", "plain", "--head-dir", "untested"), "no speed counts without tests"),
        (("--base-dir", "plain", "--head-dir", "namespace"), "cannot be imported"),
        (("--base-dir", "plain", "--baseline", "nowhere.json"), "baseline cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(repository, arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(repository)
    (repository / "empty").mkdir()
    for name in ("plain", "headless", "untested", "namespace"):
        checkout(repository / name)
    (repository / "untested/tests/kernels/test_ops.py").unlink()
    (repository / "untested/tests/kernels").rmdir()
    (repository / "namespace/musae/__init__.py").unlink()
    monkeypatch.setattr("musae.bench.ci.gate.correctness", _must_not_run)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repository))
    assert says in sentence(call(*arguments, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_unknown_bench_or_missing_gpu_is_one_sentence(tmp_path):
    base = checkout(tmp_path / "a")
    result = call("--base-dir", base, "--head-dir", base, "--bench", "fats", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1] == "error: no bench named 'fats'; known: fast.forward."


def test_too_few_pairs_are_refused():
    assert CliRunner().invoke(main, ["ci", "--base", "main", "--pairs", "3"]).exit_code == 2


def _must_not_run(*arguments):
    raise AssertionError("the tests must not run before the input is checked")
