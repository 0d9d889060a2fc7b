"""What is chosen for a peer before the comparison: its learning rate and, where it has one, the coefficient of its penalty on
sparsity.

Both are chosen on planted data of another seed, trained on a quarter of the frames. Of the learning rates (`Contestant.rates`),
the one with the highest MCC is taken: the truth itself decides, so that no peer is held back by a setting. Then the coefficient
is sought that brings the held-out L0 nearest to k, by at most `TRIES` trainings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from musae.bench.planted.cells import Result
from musae.bench.planted.contestants import Contestant

SEED = 100
"""Of the data that settings are chosen on; the reported seeds are others."""
SHARE = 4
"""Settings are chosen on the first 1 / SHARE of the frames."""
TRIES = 4
FACTOR = 3.0
"""From the first coefficient to the second."""
LONGEST = math.log(10)
"""No later step is longer than by a factor of ten."""
NEAR = 0.1
"""A search ends where L0 is within this share of k."""

Train = Callable[[Mapping[str, Any]], Result]


@dataclass(frozen=True)
class Choice:
    """Settings, and how many trainings chose them."""

    settings: Mapping[str, Any]
    tried: int


def choose(contestant: Contestant, k: int, train: Train) -> Choice:
    """The settings to compare a contestant with; `train` gives the result of settings on the data for tuning."""
    if not contestant.rates:
        return Choice(contestant.settings, 0)
    fixed = {contestant.penalty: contestant.start} if contestant.penalty else {}
    settings = [{**contestant.settings, **fixed, "lr": rate} for rate in contestant.rates]
    results = [train(one) for one in settings] if len(settings) > 1 else []
    best = max(results, key=lambda result: result.mcc).settings if results else settings[0]
    if not contestant.penalty:
        return Choice(best, len(results))
    more = search(contestant.penalty, contestant.start, k, best, train)
    return Choice(min(more, key=lambda result: _miss(result.l0, k)).settings, len(more) + max(0, len(results) - 1))


def search(penalty: str, start: float, k: int, settings: Mapping[str, Any], train: Train) -> list[Result]:
    """Trainings at coefficients that bring L0 to k: a step by `FACTOR`, then along the line through the two points nearest to k.

    Coefficients and L0 are taken by their logarithms.
    """
    results: list[Result] = []
    coefficient = start
    while len(results) < TRIES:
        results.append(train({**settings, penalty: coefficient}))
        if _miss(results[-1].l0, k) <= math.log(1 + NEAR):
            break
        near = sorted(results, key=lambda result: _miss(result.l0, k))[:2]
        (x, y), *others = ((math.log(one.settings[penalty]), math.log(max(one.l0, 1e-3) / k)) for one in near)
        step = math.copysign(math.log(FACTOR), y)
        if others and others[0][1] != y:
            step = -y * (others[0][0] - x) / (others[0][1] - y)
        coefficient = float(f"{math.exp(x + min(max(step, -LONGEST), LONGEST)):.3g}")
        if coefficient in {result.settings[penalty] for result in results}:
            break
    return results


def _miss(l0: float, k: int) -> float:
    return abs(math.log(max(l0, 1e-3) / k))
