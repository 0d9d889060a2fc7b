"""What explainers that ask a language model share: chunks of requests, checked labels, and what was heard, in words."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from musae.card import ExplainerCard
from musae.explainers.explainer import Case, Explainer, Explanation
from musae.labels.claims import Claim, Label
from musae.labels.evidence import Evidence, Example
from musae.labels.explain_statistically import CANDIDATES
from musae.labels.words import claim
from musae.providers.budget import Budget
from musae.providers.cache import AnswerCache
from musae.providers.client import Client
from musae.providers.provider import Answer, Provider, Request
from musae.providers.schema import LONGEST

LINES = 8
"""Claims that are told, those heard most more often where the latent fires."""

SILENT = "fires nowhere on the explaining pieces"


class Chat(Explainer):
    """An explainer that asks a provider."""

    def __init__(self, provider: Provider, card: ExplainerCard, cache: AnswerCache | None = None) -> None:
        self.card = card
        self.client = Client(provider, cache or AnswerCache())

    @abstractmethod
    def requests(self, shown: Sequence[Evidence], case: Case) -> list[Request]:
        """What is asked first of latents that fire somewhere, one request each."""

    @abstractmethod
    def ask(self, shown: Sequence[Evidence], case: Case) -> list[Explanation]:
        """Ask of latents that fire somewhere."""

    def explain(self, case: Case) -> list[Explanation]:
        found: list[Explanation] = []
        seen = case.evidence()
        at_once = 4 * self.client.provider.concurrency
        for start in range(0, len(seen), at_once):
            case.progress("labels", start, len(seen))
            some = seen[start : start + at_once]
            answers = iter(self.ask([one for one in some if one.top], case))
            found += [next(answers) if one.top else Explanation(unscored=SILENT) for one in some]
        case.progress("labels", len(seen), len(seen))
        return found

    def estimate(self, case: Case) -> str:
        return str(self.client.estimate(self.requests([one for one in case.evidence() if one.top], case)))

    def limit(self, budget: Budget) -> None:
        if not self.client.provider.free:
            self.client.budget = budget

    @property
    def totals(self) -> str:
        return str(self.client.totals)


def explanation(answer: Answer) -> Explanation:
    """The label in an answer of the form of `musae.labels.claims.answer_schema`."""
    if answer.value is None:
        return Explanation(unscored=answer.unscored)
    try:
        return Explanation(Label.model_validate(answer.value))
    except ValidationError as error:  # what a schema cannot say: low < high
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return Explanation(unscored=f"no valid label: {where}: {first['msg']}"[:LONGEST])


@dataclass(frozen=True)
class Heard:
    """In how many excerpts a claim holds, and of how many that is known."""

    claim: Claim
    active: tuple[int, int]
    silent: tuple[int, int]
    alike: tuple[int, int]
    """Among the hard negatives."""

    @property
    def lift(self) -> float:
        """How much more often it holds where the latent fires."""
        return self.active[0] / self.active[1] - self.silent[0] / self.silent[1]

    @property
    def line(self) -> str:
        """For a prompt."""
        counts = {"active": self.active, "silent": self.silent, "look-alikes": self.alike}
        return f"{claim(self.claim)}: " + ", ".join(f"{a} of {b} {name}" for name, (a, b) in counts.items() if b)


def heard(shown: Evidence) -> list[Heard]:
    """The claims that are heard most more often where a latent fires than where it is silent, the most telling first."""
    silent = list({(place.clip, place.start): place for place in (*shown.near, *shown.random)}.values())
    counted = [Heard(one, *(_count(one, places) for places in (shown.top, silent, shown.hard))) for one in CANDIDATES]
    lifted = [one for one in counted if one.active[1] and one.silent[1] and one.lift > 0]
    return sorted(lifted, key=lambda one: -one.lift)[:LINES]


def _count(one: Claim, places: Sequence[Example]) -> tuple[int, int]:
    said = [one.holds(place.descriptors[one.fact]) for place in places if one.fact in place.descriptors]
    return sum(answer is True for answer in said), sum(answer is not None for answer in said)
