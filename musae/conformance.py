"""Checks of a contract, one by one: what the conformance suites are lists of, and what `musae validate` runs.

A `Check` is a name and a function that raises AssertionError, with a sentence that says what is wrong. `run` stops at the first
that fails, for a test; `outcomes` goes on, for a report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from musae.errors import UserError


@dataclass(frozen=True)
class Check:
    """One promise of a contract."""

    name: str
    """What holds where it passes, in a few words."""
    run: Callable[[], object]
    """Raises AssertionError where it does not hold."""
    vital: bool = False
    """The checks after it need what it makes: where it fails, they are not run."""


@dataclass(frozen=True)
class Outcome:
    """What came of a check."""

    name: str
    problem: str
    """A sentence; empty where it passed."""


def run(checks: Iterable[Check]) -> None:
    """Run checks in order; the first that fails raises AssertionError."""
    for check in checks:
        check.run()


def outcomes(checks: Iterable[Check]) -> Iterator[Outcome]:
    """Run checks in order, whatever they come to, each when its outcome is asked for.

    Anything that a check raises is a problem: a third party's object may fail in any way. A vital check that fails is the last.
    """
    for check in checks:
        problem = ""
        try:
            check.run()
        except (AssertionError, UserError) as error:
            problem = str(error) or "an assertion without words failed"
        except Exception as error:
            problem = f"it raised {type(error).__name__}: {error}"
        yield Outcome(check.name, " ".join(problem.split()))
        if problem and check.vital:
            return
