"""What asking costs: prices, a limit, and what was used."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from musae.errors import UserError
from musae.providers.provider import Answer, Unanswered

MILLION = 1_000_000
OVER = "over --max-cost"
"""The reason of requests that a limit on cost left out."""


@dataclass(frozen=True)
class Prices:
    """Prices of a model, in any currency, for a million tokens read and a million written."""

    read: float
    written: float

    def __post_init__(self) -> None:
        if not (0 <= self.read < float("inf") and 0 <= self.written < float("inf")):
            raise UserError(f"prices {self.read} and {self.written} for a million tokens; give numbers of 0 or more.")

    def of(self, tokens_in: int, tokens_out: int) -> float:
        """What tokens read and written cost."""
        return (tokens_in * self.read + tokens_out * self.written) / MILLION


FREE = Prices(0.0, 0.0)


class Budget:
    """A limit on the cost of a run. Calls under way are counted at the most that they may cost, so that it is not passed.

    It can be passed only by as much as an endpoint reads more tokens than were estimated.
    """

    def __init__(self, prices: Prices | None = None, max_cost: float | None = None) -> None:
        """Raises UserError for a limit without prices, and for a negative one."""
        if max_cost is not None and not max_cost >= 0:
            raise UserError(f"--max-cost is {max_cost}; give 0 or more.")
        if max_cost is not None and prices is None:
            raise UserError(
                "--max-cost needs the model's prices; give them, for a million tokens read and written, or leave it out."
            )
        self.prices, self.max_cost = prices, max_cost
        self._spent = 0.0
        self._lock = threading.Lock()

    def reserve(self, tokens_in: int, tokens_out: int) -> float:
        """Set aside the most that a call may cost, and give it. Raises Unanswered where that would pass the limit."""
        if self.prices is None:
            return 0.0
        most = self.prices.of(tokens_in, tokens_out)
        with self._lock:
            if self.max_cost is not None and self._spent + most > self.max_cost:
                raise Unanswered(OVER, "passing")
            self._spent += most
        return most

    def settle(self, reserved: float, tokens_in: int, tokens_out: int) -> float | None:
        """Put what a call cost in place of what was reserved; None where prices are not known."""
        if self.prices is None:
            return None
        cost = self.prices.of(tokens_in, tokens_out)
        with self._lock:
            self._spent += cost - reserved
        return cost


@dataclass(frozen=True)
class Estimate:
    """What a run would ask for, before it does."""

    requests: int
    kept: int
    """Answered already by an earlier run."""
    tokens_in: int
    tokens_out: int
    """At most, without repairs."""
    cost: float | None
    """At most, without repairs; None where prices are not known."""

    def __str__(self) -> str:
        cost = "cost unknown: no prices given" if self.cost is None else f"cost at most {self.cost:.4f}"
        calls = self.requests - self.kept
        return f"{calls} calls ({self.kept} kept), about {self.tokens_in} tokens read, at most {self.tokens_out} written; {cost}"


@dataclass
class Totals:
    """What was used so far, for a summary."""

    requests: int = 0
    calls: int = 0
    """Exchanges, repairs among them."""
    kept: int = 0
    repaired: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = 0.0
    unscored: Counter[str] = field(default_factory=Counter)
    """Reason -> how many."""

    def add(self, answers: Iterable[Answer]) -> None:
        """Count answers in."""
        for answer in answers:
            self.requests += 1
            self.kept += answer.cached
            self.repaired += answer.repaired and not answer.cached
            self.tokens_in += answer.tokens_in
            self.tokens_out += answer.tokens_out
            self.cost = None if self.cost is None or answer.cost is None else self.cost + answer.cost
            if answer.unscored:
                self.unscored[answer.unscored] += 1

    def __str__(self) -> str:
        cost = "cost unknown: no prices given" if self.cost is None else f"cost {self.cost:.4f}"
        lines = [
            f"{self.requests} requests: {self.kept} kept, {self.calls} calls, {self.repaired} repaired; "
            f"{self.tokens_in} tokens read, {self.tokens_out} written; {cost}"
        ]
        return "\n".join(lines + [f"{count} unscored: {reason}" for reason, count in self.unscored.most_common()])
