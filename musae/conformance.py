"""Checks of a contract, one by one: what the conformance suites are lists of, and what `musae validate` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from musae.errors import UserError


@dataclass(frozen=True)
class Check:
    """One promise of a contract."""

    name: str
    """What holds where it passes, in a few words."""
    run: Callable[[], object]
    """Raises AssertionError, with a sentence that says what is wrong, where it does not hold."""
    vital: bool = False
    """The checks after it need what it makes: where it fails, they cannot be run."""

    def problem(self) -> str:
        """What is wrong, on one line; empty where it holds. Whatever `run` raises counts: others' code may fail in any way."""
        try:
            self.run()
        except (AssertionError, UserError) as error:
            return " ".join(str(error).split()) or "an assertion without words failed"
        except Exception as error:
            return " ".join(f"it raised {type(error).__name__}: {error}".split())
        return ""


def run(checks: Iterable[Check]) -> None:
    """Run checks in order; the first that fails raises AssertionError."""
    for check in checks:
        check.run()
