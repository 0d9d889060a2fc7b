"""What explainers that ask a language model share: requests in, checked labels out, whatever goes wrong unscored."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from pydantic import ValidationError

from musae.card import ExplainerCard
from musae.explainers.explainer import Case, Explainer, Explanation
from musae.labels import prompts
from musae.labels.claims import ABSTENTION, Claim, Label
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
    """An explainer that asks a provider one question a latent."""

    prompt: tuple[str, int]
    """Name and version of its prompt."""

    def __init__(self, provider: Provider, card: ExplainerCard, cache: AnswerCache | None = None) -> None:
        self.card = card
        self.client = Client(provider, cache or AnswerCache())

    @property
    def revision(self) -> str:
        provider = self.client.provider
        return f"{prompts.read(*self.prompt).tag} {provider.model} {provider.revision}"

    @abstractmethod
    def request(self, shown: Evidence, case: Case) -> Request:
        """What is asked of a latent that fires somewhere."""

    def explain(self, case: Case) -> list[Explanation]:
        found: list[Explanation] = []
        seen = case.evidence()
        at_once = 4 * self.client.provider.concurrency
        for start in range(0, len(seen), at_once):
            case.progress("labels", start, len(seen))
            some = seen[start : start + at_once]
            answers = iter(self.client.complete([self.request(one, case) for one in some if one.top]))
            found += [_explanation(next(answers)) if one.top else Explanation(unscored=SILENT) for one in some]
        case.progress("labels", len(seen), len(seen))
        return found

    def estimate(self, case: Case) -> str:
        return str(self.client.estimate([self.request(one, case) for one in case.evidence() if one.top]))

    def limit(self, budget: Budget) -> None:
        self.client.budget = budget if not self.client.provider.free else self.client.budget

    @property
    def totals(self) -> str:
        return str(self.client.totals)


def _explanation(answer: Answer) -> Explanation:
    if answer.value is None:
        return Explanation(unscored=answer.unscored)
    try:
        label = Label.model_validate(answer.value)
    except ValidationError as error:  # what a schema cannot say: low < high
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return Explanation(unscored=f"no valid label: {where}: {first['msg']}"[:LONGEST])
    return Explanation(label if label.checkable else label.model_copy(update={"claims": ABSTENTION.claims}))


def told(shown: Evidence) -> str:
    """The claims that are heard most more often where a latent fires, one a line with its counts, the most telling first."""
    silent = list({(place.clip, place.start): place for place in (*shown.hard, *shown.near, *shown.random)}.values())
    counted = []
    for one in CANDIDATES:
        (a, b), (c, d) = (_count(one, places) for places in (shown.top, silent))
        if b and d and a / b > c / d:
            counted.append((c / d - a / b, f"{claim(one)}: {a} of {b} active, {c} of {d} silent"))
    best = sorted(counted, key=lambda found: found[0])[:LINES]
    return "\n".join(line for _, line in best) or "nothing"


def _count(one: Claim, places: Sequence[Example]) -> tuple[int, int]:
    """In how many places a claim holds, and in how many it is known whether it does."""
    said = [one.holds(place.descriptors[one.fact]) for place in places if one.fact in place.descriptors]
    return sum(answer is True for answer in said), sum(answer is not None for answer in said)
