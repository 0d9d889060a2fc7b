"""How good the gate is, measured: false alarms between equal checkouts, and catches of a planted slowdown of 10 %.

``python -m musae.bench.ci.proof`` copies the present checkout's `musae` twice and lets the gate compare the copies, in turn as
they are and with one op of the new copy slowed: a wrapper in the copied file spins for a tenth of the CPU time that each of its
calls took. The op changes from run to run. Only the benches are compared, the tests are not run again each time. CPU only:
spinning does not slow a GPU.

The result, a file of `musae.bench.rows`, is written anew after every comparison, so that an interrupted proof keeps what it has.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from musae.bench import rows
from musae.bench.ci import checkouts, gate
from musae.bench.ci.decide import Decision
from musae.provenance import processor

RUNS = 20
"""Comparisons of each kind."""
SLOWDOWN = 0.10
ALARMS, CAUGHT = 1, 18
"""Of 20 runs: at most so many with a false alarm, at least so many with the planted slowdown caught."""
PAIRS = 36
EQUAL, PLANTED = "equal checkouts", f"planted slowdown of {SLOWDOWN:.0%}"
WRAPPER = f"""

def _slowed(fn):
    import functools
    import time

    @functools.wraps(fn)
    def slowed(*arguments, **options):
        begun = time.process_time()
        outputs = fn(*arguments, **options)
        ended = time.process_time()
        while time.process_time() < ended + {SLOWDOWN} * (ended - begun):
            pass
        return outputs

    return slowed


import dataclasses

OP = dataclasses.replace(OP, fn=_slowed(OP.fn))
"""


@dataclass(frozen=True)
class Run:
    """One comparison."""

    planted: str
    """The bench that was slowed; empty where the checkouts were equal."""
    decisions: Sequence[Decision]
    seconds: float

    @property
    def caught(self) -> bool:
        """Whether the planted slowdown was found."""
        return any(decision.verdict == "slower" and decision.bench == self.planted for decision in self.decisions)

    @property
    def alarms(self) -> int:
        """Benches called slower that were not slowed."""
        return sum(decision.fails and decision.bench != self.planted for decision in self.decisions)


def copy(checkout: Path, target: Path) -> Path:
    """Copy what the workers import."""
    shutil.copytree(checkout / "musae", target / "musae", ignore=shutil.ignore_patterns("__pycache__"))
    return target


def plant(checkout: Path, op: str) -> None:
    """Slow one op of a copied checkout."""
    with (checkout / "musae" / "kernels" / f"{op}.py").open("a", encoding="utf-8") as file:
        file.write(WRAPPER)


def one(checkout: Path, planted: str, wanted: Sequence[str]) -> Run:
    """Compare two copies of a checkout, the new one with the bench `planted` slowed, or equal where that is empty."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="musae-ci-proof-") as folder:
        base, head = (copy(checkout, Path(folder) / side) for side in ("base", "head"))
        if planted:
            plant(head, planted.partition(".")[0])
        measured, _ = gate.speed(base, head, device="cpu", pairs=PAIRS, wanted=wanted, show=lambda what, done, total: None)
    return Run(planted, gate.decisions(measured), time.perf_counter() - begun)


def report(runs: Sequence[Run], seconds: float) -> rows.BenchDocument:
    """The rows of a proof: totals, and every ratio."""
    made: list[rows.BenchRow] = []
    for variant, some in ((EQUAL, [r for r in runs if not r.planted]), (PLANTED, [r for r in runs if r.planted])):
        if not some:
            continue
        totals = {
            "runs": len(some),
            "runs_with_false_alarm": sum(run.alarms > 0 for run in some),
            "seconds": statistics.median(run.seconds for run in some),
        }
        if variant == PLANTED:
            totals["caught"] = sum(run.caught for run in some)
        for metric, value in totals.items():
            unit = "s" if metric == "seconds" else ""
            made.append(
                rows.BenchRow(subject="gate", variant=variant, case={}, metric=metric, unit=unit, value=value, known="measured")
            )
        for i, run in enumerate(some):
            case: dict[str, int | str] = {"run": i, "planted": run.planted} if run.planted else {"run": i}
            for decision in run.decisions:
                if decision.effect is None or decision.p is None:
                    continue
                e = decision.effect
                for metric, value, low, high in (("ratio", e.ratio, e.low, e.high), ("p_adjusted", decision.p, None, None)):
                    made.append(
                        rows.BenchRow(
                            subject=decision.bench, variant=variant, case=case, metric=metric, value=value, low=low, high=high,
                            rounds=PAIRS, known="measured",
                        )
                    )  # fmt: skip
    return rows.document("ci", made, device=processor(), threads=1, seconds=seconds)


def main() -> int:
    """Run the proof; exit code 1 where the gate is not as good as it has to be."""
    parser = argparse.ArgumentParser(prog="python -m musae.bench.ci.proof", description=str(__doc__).splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS, help="comparisons of each kind (default: %(default)s)")
    parser.add_argument("--checkout", type=Path, default=None, help="default: the present one")
    parser.add_argument("--bench", action="append", default=[], metavar="NAME", help="only this bench or op; repeatable")
    parser.add_argument("--out", type=Path, default=None, help="default: results/bench/ci/<machine>.json")
    options = parser.parse_args()
    checkout = checkouts.folder(options.checkout or checkouts.present(), "proof's")
    out = options.out or Path("results") / "bench" / "ci" / f"{rows.slug(processor())}.json"

    runs: list[Run] = []
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="musae-ci-proof-") as folder:
        frozen = copy(checkout.path, Path(folder))  # the checkout may be worked on while the proof runs
        for i in range(options.runs):
            runs.append(one(frozen, "", options.bench))
            family = [decision.bench for decision in runs[0].decisions if decision.bench.endswith(".forward")]
            runs.append(one(frozen, family[i % len(family)], options.bench))
            report(runs, time.perf_counter() - begun).write(out)
            alarms, caught = sum(run.alarms > 0 for run in runs[::2]), sum(run.caught for run in runs[1::2])
            print(
                f"{i + 1} of {options.runs}: {alarms} false alarms, {caught} caught ({runs[-1].planted}), "
                f"{sum(run.alarms > 0 for run in runs[1::2])} false alarms beside a planted one; "
                f"{runs[-2].seconds:.0f} + {runs[-1].seconds:.0f} s",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    print(f"wrote {out}", file=sys.stderr)
    return int(alarms > ALARMS * options.runs / RUNS or caught < CAUGHT * options.runs / RUNS)


if __name__ == "__main__":
    sys.exit(main())
