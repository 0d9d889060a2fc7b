"""The gate: the new checkout's kernel tests first; on green, both checkouts' benches side by side; then the decision.

Speed is not looked at on a red test: a wrong kernel's speed says nothing.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from musae.bench.ci.checkouts import Checkout, environment
from musae.bench.ci.decide import Decision, decide
from musae.bench.ci.pairs import RESTARTS, Bench, Show, compare
from musae.errors import UserError
from musae.provenance import processor

SUITE = Path("tests") / "kernels"
"""The tests that must be green, in the new checkout."""
STDERR = 2


@dataclass(frozen=True)
class Correctness:
    """What the kernels' tests said."""

    report: ET.Element
    """pytest's JUnit report: a ``testsuite``."""
    code: int
    """pytest's exit code."""

    @property
    def count(self) -> int:
        return int(self.report.get("tests", 0))

    @property
    def failed(self) -> int:
        return int(self.report.get("failures", 0)) + int(self.report.get("errors", 0))

    @property
    def passed(self) -> int:
        return self.count - self.failed - int(self.report.get("skipped", 0))

    @property
    def green(self) -> bool:
        """Whether pytest ended well and at least one test passed: a suite that skips everything proves nothing."""
        return self.code == 0 and self.passed > 0

    @property
    def words(self) -> str:
        if self.green:
            return f"{SUITE.as_posix()}: {self.passed} passed"
        if not self.failed:
            return f"{SUITE.as_posix()}: red, pytest ended with code {self.code} and {self.passed} passed tests"
        return f"{SUITE.as_posix()}: red, {self.failed} of {self.count} failed"


@dataclass(frozen=True)
class Outcome:
    """All that a run of the gate found; `musae.bench.ci.reports` puts it into words."""

    base: Checkout
    head: Checkout
    tests: Correctness
    device: str = ""
    """In words; empty where no speed was measured."""
    clock: str = ""
    """What the times are: ``CPU time`` or ``device time``."""
    benches: Sequence[Bench] = field(default=())
    decisions: Sequence[Decision] = field(default=())
    """In the order of `benches`."""

    @property
    def failed(self) -> bool:
        """Whether the gate is shut: a red test, a slower bench, one that only the base can run, or nothing to compare at all."""
        nothing = all(decision.effect is None for decision in self.decisions)
        return not self.tests.green or nothing or any(decision.fails for decision in self.decisions)


def run(
    base: Checkout,
    head: Checkout,
    *,
    device: str,
    pairs: int,
    wanted: Collection[str] = (),
    show: Show,
    say: Callable[[str], None],
) -> Outcome:
    """Test and compare. `pairs` in all, at least 2 a restart; `wanted`: names of benches or ops, all where empty.

    Raises UserError for a checkout without tests, missing pytest, and unknown benches.
    """
    check(head.path)
    say(f"correctness: {SUITE.as_posix()} of {head.name}")
    tests = correctness(head.path, device)
    if not tests.green:
        return Outcome(base, head, tests)
    say(f"speed: {head.name} against {base.name}")
    measured, words = speed(base.path, head.path, device=device, pairs=pairs, wanted=wanted, show=show)
    return Outcome(base, head, tests, words, "CPU time" if device == "cpu" else "device time", measured, decisions(measured))


def speed(
    base: Path, head: Path, *, device: str, pairs: int, wanted: Collection[str] = (), show: Show
) -> tuple[list[Bench], str]:
    """Measure both checkouts' benches; the device in words. Arguments and errors as of `run`."""
    measured, words = compare(
        {"base": base, "head": head},
        device,
        pairs=max(2, -(-pairs // RESTARTS)),
        choose=lambda names: chosen(names, wanted),
        show=show,
    )
    return measured, processor() if device == "cpu" else words


def check(checkout: Path) -> None:
    """Raise UserError where the tests cannot be run."""
    if not (checkout / SUITE).is_dir():
        raise UserError(f"{checkout}: it has no {SUITE.as_posix()}, and no speed counts without tests; give another head.")
    if importlib.util.find_spec("pytest") is None:
        raise UserError("pytest is not installed, and `musae ci` runs tests first; pip install 'musae[dev]'.")


def correctness(checkout: Path, device: str = "cpu") -> Correctness:
    """Run the kernels' tests of a checkout; pytest's output goes to standard error as it comes.

    Without a GPU they run twice: on the paths of a CPU, and on the Triton kernels in Triton's interpreter.
    """
    found = _pytest(checkout, {})
    if device == "cuda" or not found.green:
        return found
    interpreted = _pytest(checkout, {"TRITON_INTERPRET": "1"})
    for kind in ("tests", "errors", "failures", "skipped"):
        found.report.set(kind, str(int(found.report.get(kind, "0")) + int(interpreted.report.get(kind, "0"))))
    for case in interpreted.report.findall("testcase"):
        case.set("name", f"{case.get('name')} (interpreted)")
        found.report.append(case)
    return Correctness(found.report, interpreted.code)


def _pytest(checkout: Path, more: Mapping[str, str]) -> Correctness:
    with tempfile.TemporaryDirectory(prefix="musae-ci-") as folder:
        report = Path(folder) / "junit.xml"
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pytest", SUITE.as_posix(), f"--junitxml={report}", "-p", "no:cacheprovider"],
            cwd=checkout, env=environment(checkout) | dict(more), stdin=subprocess.DEVNULL, stdout=STDERR, check=False,
        )  # fmt: skip
        try:
            suite = ET.parse(report).getroot().find("testsuite")
        except (OSError, ET.ParseError):
            suite = None
    if suite is None:  # pytest crashed
        suite = ET.Element("testsuite", tests="1", errors="1", failures="0", skipped="0")
        case = ET.SubElement(suite, "testcase", classname="pytest", name="run")
        ET.SubElement(case, "error", message=f"pytest ended with code {done.returncode} and wrote no report")
    suite.set("name", SUITE.as_posix())
    return Correctness(suite, done.returncode)


def chosen(names: Collection[str], wanted: Collection[str]) -> list[str]:
    """The wanted benches, by their own name or by their op's. Raises UserError for names that nothing has."""
    for one in wanted:
        if not any(one in (name, name.partition(".")[0]) for name in names):
            raise UserError(f"no bench named {one!r}; known: {', '.join(names)}.")
    return [name for name in names if not wanted or name in wanted or name.partition(".")[0] in wanted]


def decisions(benches: Sequence[Bench]) -> list[Decision]:
    """A decision for every bench, compared or not."""
    compared = {bench.name: (bench.times["base"], bench.times["head"]) for bench in benches if bench.compared}
    made = {decision.bench: decision for decision in decide(compared)}
    return [made.get(bench.name) or _not_compared(bench) for bench in benches]


def _not_compared(bench: Bench) -> Decision:
    if "head" in bench.lacking:
        return Decision(bench.name, "gone", note="the head has no such bench")
    if "head" in bench.errors:
        both = "base" in bench.errors
        return Decision(bench.name, "unmeasured" if both else "broken", note=f"the head fails: {bench.errors['head']}")
    if "base" in bench.errors:
        return Decision(bench.name, "new", note=f"the base fails: {bench.errors['base']}")
    times = sorted(seconds for restart in bench.times["head"] for seconds in restart)
    return Decision(bench.name, "new", head=times[len(times) // 2], note="the base has no such bench")


def stored(path: Path) -> Mapping[str, float]:
    """Median seconds by bench of a stored pytest-benchmark JSON: shown beside the figures, never decided on.

    Raises UserError for a file that is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(bench["name"]): float(bench["stats"]["median"]) for bench in content["benchmarks"]}
    except OSError as error:
        raise UserError(f"{path}: the baseline cannot be read ({error.strerror}); give a pytest-benchmark JSON file.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not a pytest-benchmark JSON file ({type(error).__name__}: {error}); give another one."
        ) from error
