"""A language model that is told in words what was heard where a latent fires, and where it does not.

``text`` asks the local model (SmolLM2-135M, `musae.providers.local`), ``text:PROVIDER`` any other, as
``text:endpoint:http://localhost:8000/v1#model``. What was heard is counted in the vocabulary of claims, on the strongest excerpts
and on silent ones, hard negatives among them; the claims that are heard most more often are told, with their counts. The answer has
the form of `Label`; one of another form is sent back once, then it is unscored (`musae.providers.client`).
"""

from __future__ import annotations

from musae import registry
from musae.card import ExplainerCard
from musae.explainers.chat import Chat, told
from musae.explainers.explainer import Case
from musae.labels import prompts
from musae.labels.claims import answer_schema
from musae.labels.evidence import Evidence
from musae.providers.provider import Request, Sampling

CARD = ExplainerCard(
    name="text",
    summary="a language model on what was heard; text asks the local one, text:PROVIDER any other",
    reads="descriptors",
    argument="a provider, as endpoint:URL#MODEL",
)

MAX_TOKENS = 256
"""Of an answer; about 80 are used."""


class Text(Chat):
    """A provider with the prompt."""

    prompt = ("explain", 1)

    def request(self, shown: Evidence, case: Case) -> Request:
        prompt = prompts.read(*self.prompt)
        return Request(prompt.messages(lines=told(shown)), prompt.tag, answer_schema(), sampling=Sampling(max_tokens=MAX_TOKENS))


def card(argument: str) -> ExplainerCard:
    """The card of a provider's labels."""
    return CARD.model_copy(update={"name": f"text:{argument}"})


def load(argument: str = "local") -> Text:
    """The explainer. Raises UserError for a provider that there is not, or that is not installed."""
    return Text(registry.make("providers", argument), CARD if argument == "local" else card(argument))
