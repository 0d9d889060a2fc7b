"""The worker on this checkout: every op, the training step and encoding can be timed; and what the proof plants is there."""

import subprocess
import sys
from pathlib import Path

import pytest

from musae.bench.ci import proof
from musae.bench.ci.checkouts import environment
from musae.bench.ci.decide import Decision, Effect
from musae.bench.ci.pairs import Worker
from musae.kernels.op import ops

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def worker():
    made = Worker("head", ROOT, "cpu")
    made.ready()
    yield made
    made.close()


def test_every_op_forward_and_backward_a_training_step_and_encoding_are_benches(worker: Worker) -> None:
    expected = {f"{name}.forward" for name in ops()} | {"training_step", "encoding"}
    expected |= {f"{name}.forward_backward" for name, op in ops().items() if op.differentiable}
    assert set(worker.hello["benches"]) == expected


@pytest.mark.parametrize("bench", ["encoding", "training_step", *(f"{name}.forward" for name in ops())])
def test_every_bench_runs(worker: Worker, bench: str) -> None:
    prepared = worker.ask("prepare", bench=bench)
    assert "error" not in prepared, prepared
    times = worker.ask("sample", calls=2)
    assert 0 < times["cpu"] < 60
    assert 0 < times["wall"] < 60


@pytest.mark.parametrize("bench", [f"{name}.forward_backward" for name, op in ops().items() if op.differentiable])
def test_every_backward_runs(worker: Worker, bench: str) -> None:
    prepared = worker.ask("prepare", bench=bench)
    assert "error" not in prepared, prepared
    assert 0 < worker.ask("sample", calls=1)["cpu"] < 60


@pytest.mark.parametrize("op", ["adam", "sparse_decode"])
def test_a_planted_slowdown_is_a_tenth_of_the_work(tmp_path: Path, op: str) -> None:
    """The wrapper is in the copy alone, and makes a call take 1.1 times as long by its own process's clock."""
    copied = proof.copy(ROOT, tmp_path)
    proof.plant(copied, op)
    code = f"""
import time
from musae.kernels.{op} import _slowed, OP
def spin():
    until = time.process_time() + 0.01
    while time.process_time() < until: pass
begun = time.process_time()
for _ in range(10): _slowed(spin)()
print(OP.fn.__wrapped__.__name__, (time.process_time() - begun) / 0.1)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=copied, env=environment(copied), capture_output=True, text=True, check=True
    )
    name, ratio = done.stdout.split()
    assert name == op
    assert float(ratio) == pytest.approx(1.1, abs=0.01)


def test_a_proof_counts_catches_and_false_alarms() -> None:
    effect = Effect(ratio=1.1, low=1.05, high=1.2, delta=0.9)

    def run(planted: str, *slower: str) -> proof.Run:
        names = ("a.forward", "b.forward")
        decided = [Decision(n, "slower" if n in slower else "same", 1.0, 1.1, effect, 0.5) for n in names]
        return proof.Run(planted, decided, 30.0)

    runs = [run(""), run("a.forward", "a.forward"), run("", "b.forward"), run("b.forward", "a.forward")]
    document = proof.report(runs, 120.0)
    totals = {(row.variant, row.metric): row.value for row in document.rows if row.subject == "gate"}
    assert totals == {
        (proof.EQUAL, "runs"): 2,
        (proof.EQUAL, "runs_with_false_alarm"): 1,
        (proof.EQUAL, "seconds"): 30,
        (proof.PLANTED, "runs"): 2,
        (proof.PLANTED, "runs_with_false_alarm"): 1,
        (proof.PLANTED, "seconds"): 30,
        (proof.PLANTED, "caught"): 1,
    }
    assert len(document.find(metric="ratio")) == 8
