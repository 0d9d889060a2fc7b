"""Providers whose answers are known."""

import re

from musae.card import ProviderCard
from musae.providers.provider import Provider, Reply, Unanswered


class Fake(Provider):
    """Answers by a function of the last message's text."""

    def __init__(self, answer, ranks=False, hears=False):
        self.card = ProviderCard(name="fake", summary="", source="", argument="")
        self.model, self.revision = "fake", "1"
        self.ranks, self.hears, self.free = ranks, hears, True
        self.answer, self.seen = answer, []

    def reply(self, request):
        self.seen.append(request)
        found = self.answer(request)
        if isinstance(found, Unanswered):
            raise found
        return Reply(likelihoods=tuple(found)) if request.options else Reply(text=found)


def first_line(request):
    """The claim on the first line, by likelihood; a name for the rest."""
    if request.options:
        return [-1.0] + [-5.0] * (len(request.options) - 1)
    return '{"name": "music"}'


def first_claim(request):
    """A label of the claim on the first line that has counts."""
    found = re.search(r"^(root|key) (.+): \d+ of", request.messages[-1].text, re.MULTILINE)
    if not found:
        return '{"claims": [{"kind": "none_of_these"}], "name": "unclear", "description": "", "confidence": 0}'
    kind, value = found.groups()
    return (
        f'Here it is: {{"claims": [{{"kind": "{kind}", "{kind}": "{value}"}}], "name": "x", "description": "y", "confidence": 1}}'
    )
