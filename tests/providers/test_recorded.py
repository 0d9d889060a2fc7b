"""Answers of SmolLM2 that were recorded are replayed without it: the form of kept answers, and their keys, stay what they are.

`python tests/providers/test_recorded.py` records them anew: due when `musae.providers.cache.FORM`, or a prompt's version,
was raised.
"""

import sys
from pathlib import Path

import pytest

from musae import registry
from musae.errors import UserError
from musae.labels import prompts
from musae.providers.cache import AnswerCache
from musae.providers.client import Client
from musae.providers.provider import Message, Provider, Request, Sampling
from musae.providers.schema import problem
from musae.testing_providers import LABEL

FOLDER = Path(__file__).parent / "recorded"
MODEL, REVISION = "SmolLM2-135M-Instruct.Q4_1", "fields-1 b179c9523d0e6a0f"


def detection(label, excerpt):
    prompt = prompts.read("detection", 1)
    return Request(prompt.messages(label=label, excerpt=excerpt), prompt.tag, options=("yes", "no"))


def plain(text):
    return Request((Message("user", (text,)),), "recorded@1", LABEL, sampling=Sampling(max_tokens=128))


REQUESTS = (
    detection("root C", "chord C:maj; key C major; tempo 96"),
    detection("root C", "chord F#:min; key F# minor; tempo 160"),
    plain("A slow piece begins on a chord of E minor. Describe it."),
    plain("la " * 9000),
)


class Unplugged(Provider):
    """The model that answers were recorded of, which cannot be asked here."""

    model, revision, free = MODEL, REVISION, True

    def reply(self, request):
        raise AssertionError(f"{request.prompt} is asked, and not found among the recorded answers")


def test_recorded_answers_are_replayed():
    client = Client(Unplugged(), AnswerCache(FOLDER))
    yes, no, label, long = client.complete(REQUESTS)
    assert client.totals.calls == 0
    for answer in (yes, no):
        assert set(answer.value) == {"yes", "no"}
        assert all(value < 0 for value in answer.value.values())
    assert problem(label.value, LABEL) == ""
    assert "exceed the context" in long.unscored
    assert all(answer.cached for answer in (yes, no, label, long))


def test_nothing_else_is_found():
    with pytest.raises(AssertionError, match="is asked, and not found"):
        Client(Unplugged(), AnswerCache(FOLDER)).complete([detection("root D", "chord D:maj")])


@pytest.mark.slow
def test_the_model_still_says_so(tmp_path):
    try:
        provider = registry.make("providers", "local")
    except UserError as error:
        pytest.skip(str(error))
    if (provider.model, provider.revision) != (MODEL, REVISION):
        pytest.skip(f"answers were recorded of {MODEL} {REVISION}, and {provider.model} {provider.revision} is here")
    recorded = Client(Unplugged(), AnswerCache(FOLDER)).complete(REQUESTS)
    for answer, kept in zip(Client(provider).complete(REQUESTS), recorded, strict=True):
        likelihoods = kept.value is not None and "yes" in kept.value
        assert answer.value == (pytest.approx(kept.value, abs=0.02) if likelihoods else kept.value)
        assert answer.unscored == kept.unscored


if __name__ == "__main__":
    provider = registry.make("providers", "local")
    print(provider.model, provider.revision, file=sys.stderr)
    for answer in Client(provider, AnswerCache(FOLDER)).complete(REQUESTS):
        print(answer.value or answer.unscored, file=sys.stderr)
