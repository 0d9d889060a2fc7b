"""A language model that is told in words what was heard where a latent fires, and where it does not.

``text`` asks the local model (SmolLM2-135M, `musae.providers.local`), ``text:PROVIDER`` any other, as
``text:endpoint:http://localhost:8000/v1#model``. What was heard is counted in the vocabulary of claims, on the strongest excerpts
and on silent ones; the claims that are heard most more often are told, the most telling first.

A chat model answers in the form of `Label` (`musae.labels.claims.answer_schema`); one of another form is sent back once, then it
is unscored. The local model is too small for that: asked so, it repeats the prompt's example. Of a model whose likelihoods of
whole answers are known (`Provider.ranks`), the told claims and "nothing" are ranked by their likelihood, which is the confidence,
and the name alone is written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from musae import registry
from musae.card import ExplainerCard
from musae.explainers.chat import Chat, Heard, explanation, heard
from musae.explainers.explainer import Case, Explanation
from musae.labels import prompts
from musae.labels.claims import WORDS, Label, answer_schema
from musae.labels.evidence import Evidence
from musae.labels.words import claim
from musae.providers.provider import Answer, Request, Sampling

CARD = ExplainerCard(
    name="text",
    summary="a language model on what was heard; text asks the local one, text:PROVIDER any other",
    reads="descriptors",
    argument="a provider, as endpoint:URL#MODEL",
)

ANSWER, NAME = ("explain", 1), ("name", 1)
RANK = ("rank", 1)
"""Of 60 latents of one dictionary of nano (layer 5, topk), the claims that this prompt ranks first score a Youden index of .114
[.093, .136]; with counts in place of percentages .090, with the claims in random order .042, divided by the likelihood without
evidence .056, as an object of the form of `Label` .056 (24 latents). Always to take the first claim scores .112, and the
statistical ceiling .183."""

NOTHING = "nothing"

MAX_TOKENS = 256
"""Of an answer; about 80 are used."""

FORM = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 3, "maxLength": WORDS[0]}},
    "required": ["name"],
    "additionalProperties": False,
}


class Text(Chat):
    """A provider with the prompts."""

    @property
    def revision(self) -> str:
        provider = self.client.provider
        used = (RANK, NAME) if provider.ranks else (ANSWER,)
        return " ".join((*(prompts.read(*one).tag for one in used), provider.model, provider.revision))

    def requests(self, shown: Sequence[Evidence], case: Case) -> list[Request]:
        told = [heard(one) for one in shown]
        return [_ranking(lines) if self.client.provider.ranks else _question(lines) for lines in told]

    def ask(self, shown: Sequence[Evidence], case: Case) -> list[Explanation]:
        answers = self.client.complete(self.requests(shown, case))
        if not self.client.provider.ranks:
            return [explanation(answer) for answer in answers]
        return [self._named(answer, heard(one)) for answer, one in zip(answers, shown, strict=True)]

    def _named(self, answer: Answer, lines: Sequence[Heard]) -> Explanation:
        """The likeliest of the claims, with a name."""
        if answer.value is None:
            return Explanation(unscored=answer.unscored)
        total = sum(map(math.exp, answer.value.values()))
        best = max(answer.value, key=lambda said: answer.value[said] if answer.value else 0.0)
        confidence = math.exp(answer.value[best]) / total if total > 0 else 0.0
        chosen = [one.claim for one in lines if claim(one.claim) == best][:1]
        if not chosen:
            return Explanation(Label(name="unclear", confidence=confidence))
        prompt = prompts.read(*NAME)
        [named] = self.client.complete([Request(prompt.messages(claim=best), prompt.tag, FORM, sampling=Sampling(max_tokens=16))])
        name = str(named.value["name"]) if named.value else best
        said = {"name": name, "description": best, "confidence": confidence, "claims": chosen}
        return Explanation(Label.model_validate(said))


def _question(lines: Sequence[Heard]) -> Request:
    prompt = prompts.read(*ANSWER)
    told = "\n".join(one.line for one in lines) or NOTHING
    return Request(prompt.messages(lines=told), prompt.tag, answer_schema(), sampling=Sampling(max_tokens=MAX_TOKENS))


def _ranking(lines: Sequence[Heard]) -> Request:
    prompt = prompts.read(*RANK)
    told = "\n".join(f"{claim(one.claim)}: {100 * one.lift:.0f}%" for one in lines)
    options = tuple(claim(one.claim) for one in lines) or ("something",)
    return Request(prompt.messages(lines=told), prompt.tag, options=(*options, NOTHING))


def card(argument: str) -> ExplainerCard:
    """The card of a provider's labels."""
    return CARD.model_copy(update={"name": f"text:{argument}"})


def load(argument: str = "local") -> Text:
    """The explainer. Raises UserError for a provider that there is not, or that is not installed."""
    return Text(registry.make("providers", argument), CARD if argument == "local" else card(argument))
