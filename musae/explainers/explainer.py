"""The contract of an explainer: latents with their evidence in, labels out.

One file in `musae/explainers/` provides one, as a module-level ``CARD`` and ``load()``. An explainer sees the explaining half of
the pieces only; its labels are judged on the other. Where it has nothing to say it abstains (`musae.labels.claims.ABSTENTION`);
where it could not answer, its label is an abstention too and `Explanation.unscored` says why: the run goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from musae.card import ExplainerCard
from musae.labels import descriptors, evidence
from musae.labels.claims import ABSTENTION, Label
from musae.labels.descriptors import Estimated, Tables
from musae.labels.evidence import Evidence, Firing
from musae.providers.budget import Budget
from musae.scores.heldout import HeldOut

COUNT = 10
"""Exemplars of a latent, and as many negatives of a kind: the paper's ten."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Case:
    """Latents to be explained, and what may be seen of them. Compared by identity."""

    firing: Firing
    data: HeldOut
    level: str
    """Level of truth of the annotations: read by an explainer that is an oracle, and by nobody else."""
    oracle: bool = False
    """Whether evidence is described by the annotations instead of by estimates."""
    permuted: bool = False
    """A null: with annotations permuted between pieces."""
    count: int = COUNT
    estimated: Estimated = field(default_factory=Estimated)
    progress: Progress = lambda what, done, total: None

    def evidence(self, judging: bool = False) -> list[Evidence]:
        """Of each latent, from one half of the pieces. Raises UserError where an estimator that is needed is not installed."""
        tables = self.tables(judging)
        columns = range(len(self.firing.latents))
        return [evidence.evidence(self.firing, j, self.data, tables, judging, self.count) for j in columns]

    def tables(self, judging: bool = False) -> Tables:
        """What is known of the places."""
        return descriptors.exact(self.data, self.level) if self.oracle else self.estimated.tables(self.data, judging)


@dataclass(frozen=True)
class Explanation:
    """What an explainer says of a latent."""

    label: Label = ABSTENTION
    p: float | None = None
    """Holm-adjusted p-value of its claim, where the explainer has one."""
    unscored: str = ""
    """Why there is no answer; empty where there is one, be it an abstention."""


class Explainer(ABC):
    """A way to label latents."""

    card: ExplainerCard

    @property
    @abstractmethod
    def revision(self) -> str:
        """Changes with whatever changes its labels: model, prompt, settings."""

    @abstractmethod
    def explain(self, case: Case) -> list[Explanation]:
        """An explanation of each latent of the case, in order."""

    def estimate(self, case: Case) -> str:
        """What `explain` would cost, in words."""
        return "no calls"

    def limit(self, budget: Budget) -> None:  # noqa: B027  (most cost nothing)
        """Give its calls a limit on cost."""

    @property
    def totals(self) -> str:
        """What its calls have used so far, in words; empty where it makes none."""
        return ""
