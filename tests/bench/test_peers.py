"""The comparison with other libraries: workers and their failures, screening, rounds, resuming, rows; with toy contestants."""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from musae.bench import workloads
from musae.bench.peers import comparison, contestants, record, report, workers
from musae.bench.peers.contestants import Library, Setting
from musae.bench.peers.record import Record, Sample
from musae.bench.peers.workers import Process, WorkerError
from musae.bench.rows import document, read
from musae.bench.workloads import Size
from musae.cli.bench_peers_command import command
from musae.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TINY = Size("tiny", d=8, width=32, k=2, n=64, steps=2, passes=1, check=4)
PYTHONS = {True: Path(sys.executable), False: Path(sys.executable)}
TOY = """
import os, sys, time
import torch

DISTRIBUTION, RETURNS = "numpy", "a dense code"


def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


class Contestant:
    def __init__(self, size, atoms, settings, learning_rate, device):
        self.atoms, self.settings, self.bias, self.steps = atoms, settings, torch.zeros(size["d"]), 0
        if settings.get("broken"):
            raise RuntimeError("it is\\nbroken")

    def step(self, x):
        print("a library's chatter")
        self.steps += 1
        work(self.settings.get("work", 0))
        if self.settings.get("dies_at") == self.steps:
            print("no memory left for me", file=sys.stderr)
            sys.stderr.flush()
            os._exit(3)
        if not self.settings.get("lazy"):
            self.bias += 0.5 * (x[0] - self.bias)

    def encode(self, x):
        work(self.settings.get("work", 0))
        return x @ self.atoms.T

    def reconstruct(self, x):
        return x * (1 - 0.9 ** self.steps) if not self.settings.get("lazy") else x * 0
"""


def python(code, **options):
    """A worker that runs a line of Python instead of a contestant."""
    return Process("toy (default)", [sys.executable, "-c", code], threads=1, **options)


ECHO = "import sys, json\nfor line in sys.stdin: print(json.dumps({'got': json.loads(line)}), flush=True)"


def test_a_request_is_answered():
    with python(ECHO) as worker:
        assert worker.ask("train", steps=3) == {"got": {"do": "train", "steps": 3}}
        assert worker.ask("encode") == {"got": {"do": "encode"}}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('hello', flush=True); input()", "asked to train, its worker wrote 'hello' instead of an answer"),
        ("print('[1]', flush=True); input()", "wrote '[1]' instead of an answer"),
        ("import sys; input(); sys.exit('out of luck')", "ended with exit code 1, saying 'out of luck'."),
        ("import os; input(); os.kill(os.getpid(), 9)", "asked to train, its worker ended by SIGKILL."),
        ("""input(); print('{"error": "ValueError: no"}', flush=True)""", "cannot train here: ValueError: no"),
    ],
)
def test_a_worker_that_fails_gives_one_sentence(code, expected):
    with python(code) as worker, pytest.raises(WorkerError) as caught:
        worker.ask("train", steps=1)
    assert expected in str(caught.value)
    assert str(caught.value).startswith("toy (default): ")
    assert "\n" not in str(caught.value)


def test_a_worker_that_is_gone_before_it_is_asked():
    with python("") as worker:
        worker._process.wait()
        with pytest.raises(WorkerError, match="ended with exit code 0"):
            worker.ask("train")


def test_a_silent_worker_is_given_up(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 0.2)
    with python("import time; time.sleep(60)") as worker, pytest.raises(WorkerError, match="gave no answer"):
        worker.ask("train")
    assert worker._process.returncode == -signal.SIGKILL


def test_an_interpreter_that_is_not_there():
    with pytest.raises(WorkerError, match="cannot be started"):
        Process("toy", ["/nowhere/python"], threads=1)


def test_a_worker_sees_its_own_settings_only(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    monkeypatch.setenv("MUSAE_KERNELS", "portable")
    tell = "import os, json; input(); print(json.dumps(dict(os.environ)), flush=True)"
    with python(tell) as plain, python(tell, env=contestants.HUGE) as huge:
        seen, given = plain.ask("train"), huge.ask("train")
    assert not seen.keys() & set(workers.UNSET)
    assert seen["OMP_NUM_THREADS"] == "1"
    assert given["THP_MEM_ALLOC_ENABLE"] == "1"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("toy") / "toy.py"
    path.write_text(TOY)
    return path


def compare(path, libraries, rounds, shown=None):
    """Run a comparison of libraries at the tiny size; the record."""
    found = Record.load(path / "peers.json", {"who": "test"})
    show = (lambda *what: shown.append(what)) if shown is not None else (lambda *what: None)
    comparison.Comparison(found, path / "peers.json", libraries, PYTHONS, 1, path / "data", show).run(TINY, rounds)
    return Record.load(path / "peers.json", {"who": "test"})


def musae_portable():
    own = contestants.musae("cpu")
    return dataclasses.replace(own, settings={"portable": own.settings["portable"]})


@pytest.fixture(scope="module")
def compared(toy, tmp_path_factory):
    """A comparison of two rounds, and its folder: a toy with a slow default, musae, and contestants that fail."""
    path = tmp_path_factory.mktemp("compared")
    libraries = [
        Library("toy", toy, {"default": Setting({"work": 0.05}), "quick": Setting(), "broken": Setting({"broken": True})}),
        Library("mortal", toy, {"default": Setting({"dies_at": 6})}),
        musae_portable(),
    ]
    shown = []
    return path, libraries, compare(path, libraries, 2, shown), shown


def test_the_fastest_setting_enters_and_the_default_is_on_record(compared):
    *_, found, _ = compared
    screened = {(s.setting, s.stage, s.round) for s in found.of(library="toy", phase="screening")}
    assert {("default", "train", 0), ("quick", "train", 0), ("quick", "train", 1), ("quick", "encode", 1)} <= screened
    assert ("default", "train", 1) not in screened  # hopeless after the first round
    main = {(s.library, s.setting, s.stage, s.round) for s in found.of(phase="main")}
    pairs = (("toy", "quick"), ("musae", "portable"))
    wanted = {(*pair, stage, round_) for pair in pairs for stage in record.STAGES for round_ in (0, 1)}
    assert main >= wanted
    assert not [s for s in found.of(phase="main") if s.setting == "default" and s.library == "toy"]


def test_a_failing_contestant_is_left_out_with_its_sentence(compared):
    *_, found, _ = compared
    why = {(entry["library"], entry["setting"], entry["phase"]): entry["why"] for entry in found.failed}
    assert why["toy", "broken", "screening"] == "toy (broken): cannot setup here: RuntimeError: it is"
    assert "ended with exit code 3, saying 'no memory left for me'" in why["mortal", "default", "main"]
    assert len(why) == len(found.failed) == 2


def test_samples_say_what_was_done(compared):
    *_, found, _ = compared
    step = found.of(library="musae", phase="main", stage="train")[0]
    assert step.tokens == TINY.steps * TINY.n
    assert 0 < step.cpu_s < 10
    assert 0 < step.wall_s < 10
    assert 100 < step.peak_mb < 5000
    assert -50 < step.above_mb < step.peak_mb - 100
    default = found.of(library="toy", setting="default", stage="train")[0]
    assert default.wall_s >= 0.05 * TINY.steps
    assert default.cpu_s >= 0.05 * TINY.steps
    assert found.packages["toy"].keys() == {"python", "torch", "numpy"}
    assert found.packages["musae"]["musae"]
    assert len(found.limits) == 2
    assert all(entry["fp32"] > 0 for entry in found.limits)


def test_what_was_learnt_is_taken_at_the_same_step(compared):
    *_, found, _ = compared
    learnt = {entry["library"]: entry for entry in found.learnt}
    assert learnt["musae"]["before"] > learnt["musae"]["after"]
    assert learnt["toy"]["steps"] == 5  # one step to warm up, then twos: the first count from 4 on
    assert learnt["musae"]["steps"] == 5


def test_going_on_adds_the_missing_rounds_alone(compared, tmp_path):
    path, libraries, found, shown = compared
    (tmp_path / "peers.json").write_text((path / "peers.json").read_text())
    again = compare(tmp_path, [libraries[0], libraries[2]], 3)
    assert again.samples[: len(found.samples)] == found.samples
    added = {(s.library, s.phase, s.round) for s in again.samples[len(found.samples) :]}
    assert added == {("toy", "main", 2), ("musae", "main", 2)}
    assert ("tiny: rounds", 2, 2) in shown


def test_nothing_is_started_when_all_rounds_are_there(compared, tmp_path, monkeypatch):
    path, libraries, found, _ = compared
    (tmp_path / "peers.json").write_text((path / "peers.json").read_text())
    monkeypatch.setattr(comparison, "Process", None)
    assert compare(tmp_path, [libraries[0], libraries[2]], 2).samples == found.samples


def test_another_identity_starts_over_and_keeps_the_old_file(compared, tmp_path):
    path, *_ = compared
    text = (path / "peers.json").read_text()
    (tmp_path / "peers.json").write_text(text)
    assert Record.load(tmp_path / "peers.json", {"who": "somebody else"}).samples == []
    assert (tmp_path / "peers.old.json").read_text() == text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"identity": {}, "samples": [{"size": 1}]}', '{"samples": [], "nonsense": 1}'])
def test_a_damaged_record_is_one_sentence(tmp_path, text):
    (tmp_path / "peers.json").write_text(text)
    with pytest.raises(UserError, match="delete it to start over"):
        Record.load(tmp_path / "peers.json", {})


def sample(library, setting, round_, stage="train", phase="main", wall=1.0, cpu=1.0, peak=500.0, above=100.0):
    return Sample("tiny", library, setting, phase, round_, stage, 128, wall, cpu, peak, above)


@pytest.fixture
def worked():
    """Nine rounds by hand: musae takes 1 s for two steps, fast 2 s (half the memory beyond imports more), slow 4 s."""
    found = Record({})
    for r in range(9):
        found.samples += [
            sample("musae", "portable", r, wall=1.0 + 0.01 * r, cpu=0.5, peak=300, above=60),
            sample("fast", "default", r, wall=2 * (1.0 + 0.01 * r), cpu=2.0, peak=600, above=120),
            sample("slow", "tuned", r, wall=4 * (1.0 + 0.01 * r), cpu=4.0, peak=400, above=100),
        ]
    found.samples.append(sample("slow", "default", 0, phase="screening", wall=8.0))
    # 2 n d F = 32,768 operations: 0.1 s; state 24 (2 d F + F + d) = 13,248 bytes: 0.15 s
    best = {"fp32": 327_680.0, "bf16": 655_360.0, "pass": 88_320.0}
    found.limits = [{"size": "tiny", "round": r, **{name: rate / (1 + r) for name, rate in best.items()}} for r in range(9)]
    found.learnt = [
        {"size": "tiny", "library": name, "setting": setting, "before": 0.9, "after": after, "steps": 5}
        for name, setting, after in (("musae", "portable", 0.7), ("fast", "default", 0.68), ("slow", "tuned", 0.72))
    ]
    return found


def value(rows, **wanted):
    """The one row whose fields, or entries of its case, are as wanted."""
    (row,) = [row for row in rows if wanted.items() <= {**dict(row), **row.case, "case": None}.items()]
    return row


def test_rows_by_hand(worked, tmp_path):
    made = document("peers", report.rows(worked, TINY, 1), device="test", threads=1, seconds=1)
    rows = [row for row in made.rows if row.case.get("stage") == "train"]
    speed = value(rows, subject="musae", metric="tokens_per_s")
    assert speed.value == pytest.approx(128 / 1.04)
    assert (speed.low, speed.high) == (pytest.approx(128 / 1.07), pytest.approx(128 / 1.01))
    against = {"subject": "musae", "against": "fast (default)"}
    ratio = value(rows, metric="speedup", **against)
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(2), pytest.approx(2), pytest.approx(2))
    assert ratio.case["fastest"] == "yes"
    assert value(rows, metric="cpu_speedup", **against).value == pytest.approx(4)
    assert value(rows, metric="peak_share", **against).value == pytest.approx(0.5)
    assert value(rows, metric="above_share", **against).value == pytest.approx(0.5)
    slow = value(rows, metric="speedup", subject="musae", against="slow (tuned)")
    assert slow.value == pytest.approx(4)
    assert slow.case["fastest"] == "no"
    assert value(rows, subject="limit", variant="fp32", metric="limit_ms").value == pytest.approx(250)
    # two steps took 1.04 s
    assert value(rows, subject="musae", metric="times_limit", against="limit (fp32)").value == pytest.approx(0.52 / 0.25)
    assert value(rows, subject="musae", metric="times_limit", against="limit (bf16)").value == pytest.approx(0.52 / 0.20)
    assert value(rows, subject="slow", variant="default", metric="tokens_per_s").case["phase"] == "screening"
    assert value(list(made.rows), subject="fast", metric="fvu", steps=5).value == 0.68
    assert read(made.write(tmp_path / "rows.json")) == made


def test_who_does_not_learn_is_not_compared(worked):
    worked.learnt[1]["after"] = 0.89
    (complaint,) = worked.idle("tiny")
    assert complaint["why"].startswith(
        "fast (default) does not learn at size 'tiny': its FVU went from 0.900 to 0.890 in 5 steps"
    )
    rows = report.rows(worked, TINY, 1)
    assert not [row for row in rows if row.case.get("against") == "fast (default)"]
    assert value([row for row in rows if row.metric == "speedup"], against="slow (tuned)").case["fastest"] == "yes"


@pytest.mark.parametrize("after", [float("nan"), 0.95])
def test_no_speed_of_musae_counts_unless_it_learns(worked, after):
    worked.learnt[0]["after"] = after
    assert [entry["library"] for entry in worked.idle("tiny")] == ["musae"]
    speedups = [row for row in report.rows(worked, TINY, 1) if row.metric == "speedup"]
    assert speedups
    assert all(row.value is None and row.unscored for row in speedups)


def test_a_missing_contestant_has_a_row_with_the_reason(worked):
    worked.failed = [{"size": "tiny", "library": "musae", "setting": "extension", "phase": "main", "why": "no compiler"}]
    rows = [row for row in report.rows(worked, TINY, 1) if row.metric == "missing"]
    assert {row.unscored for row in rows} == {"no compiler"}


def test_the_table_shows_every_contestant(worked):
    from rich.console import Console

    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(report.table(worked, TINY, 1, "train"))
    text = console.export_text()
    assert "musae: portable" in text
    assert "2.00 [2.00, 2.00]" in text
    assert "2.08 / 2.60" in text


def test_the_code_is_part_of_what_must_agree(tmp_path):
    folder = tmp_path / "lib" / "python3.11" / "site-packages"
    (folder / "torch-1.dist-info").mkdir(parents=True)
    one = record.identity(tmp_path / "bin" / "python", 1)
    assert one == record.identity(tmp_path / "bin" / "python", 1)
    (folder / "torch-2.dist-info").mkdir()
    two = record.identity(tmp_path / "bin" / "python", 2)
    assert {name for name in one if one[name] != two[name]} == {"threads", "environment"}
    assert json.dumps(one)


def test_without_the_peers_environment_one_sentence_names_the_target(tmp_path):
    result = CliRunner().invoke(command, ["--environment", str(tmp_path / "none")])
    assert isinstance(result.exception, UserError)
    assert "`make peers` makes it" in str(result.exception)


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="there is a GPU")
def test_the_size_for_a_gpu_needs_one(tmp_path):
    result = CliRunner().invoke(command, ["--size", "gpu"])
    assert isinstance(result.exception, UserError)
    assert "needs CUDA" in str(result.exception)


def test_the_command_saves_rows_and_says_who_is_missing(toy, tmp_path, monkeypatch):
    peers = (Library("toy", toy, {"default": Setting(), "broken": Setting({"broken": True})}),)
    monkeypatch.setattr(contestants, "PEERS", peers)
    monkeypatch.setattr(report, "PEERS", peers)
    own = musae_portable()
    monkeypatch.setattr(contestants, "musae", lambda device: own)
    monkeypatch.setattr(workers, "peers_python", lambda folder: Path(sys.executable))
    monkeypatch.setitem(workloads.SIZES, "small", dataclasses.replace(TINY, name="small"))
    monkeypatch.setenv("MUSAE_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    first = CliRunner().invoke(command, ["--size", "small", "--rounds", "1"])
    assert first.exit_code == 1, first.output
    assert "left out: toy (broken): cannot setup here: RuntimeError: it is" in first.stderr
    assert "musae: portable" in first.stdout
    again = CliRunner().invoke(command, ["--size", "small", "--rounds", "2", "--publish"])
    assert again.exit_code == 1
    (published,) = (tmp_path / "results" / "bench" / "peers").iterdir()
    rows = read(published)
    assert rows == read(tmp_path / "runs" / "bench" / "peers-rows.json")
    assert rows.bench == "peers"
    (speed,) = rows.find(subject="musae", metric="tokens_per_s", stage="train")
    assert speed.rounds == 2


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".venv-peers").is_dir(), reason="`make peers` has not been run")
def test_every_peer_learns_what_musae_learns(tmp_path):
    """All libraries in their default settings, on a small problem: the same data and weights give nearly the same FVU."""
    size = Size("little", d=64, width=256, k=8, n=512, steps=5, passes=1, check=16)
    found = Record({})
    libraries = [dataclasses.replace(peer, settings=dict([next(iter(peer.settings.items()))])) for peer in contestants.PEERS]
    pythons = {True: Path(sys.executable), False: workers.peers_python(ROOT / ".venv-peers")}
    run = comparison.Comparison(
        found, tmp_path / "peers.json", [*libraries, musae_portable()], pythons, 1, tmp_path / "data", lambda *what: None
    )
    run.run(size, 2)
    assert found.failed == []
    assert found.idle("little") == []
    after = {entry["library"]: entry["after"] for entry in found.learnt}
    assert len(after) == 5
    assert after["musae"] == pytest.approx(after["sparsify"], rel=0.02)
    assert max(after.values()) < 1.2 * min(after.values())
