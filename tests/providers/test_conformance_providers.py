"""The conformance suite of providers: of endpoints, the local model and LiteLLM, and of providers that break their contract."""

import json
import sys
import types
from pathlib import Path

import pytest

from musae.card import ProviderCard
from musae.providers import endpoint, local
from musae.providers.provider import Provider, Reply, Unanswered
from musae.testing_providers import LONG, check_provider, provider_checks

sys.path.insert(0, str(Path(__file__).parent))
from stub import Step, first_tokens, said, serving
from tiny_reader import tiny_reader


def plays(body):
    """A server that answers in form and minds the limit on tokens."""
    text = body["messages"][-1]["content"]
    if len(text) > LONG / 2:
        return Step({"error": {"message": "maximum context length is 4096 tokens"}}, status=400)
    if body.get("logprobs"):
        return first_tokens(yes=-0.1, no=-3.0)
    properties = body["response_format"]["json_schema"]["schema"]["properties"]
    if "text" in properties:
        return said('{"text": "A symphony is', finish="length")
    value = {"root": properties["root"]["enum"][0], "loud": True, "bars": 4, "name": "n", "tags": []}
    return said(json.dumps({name: value[name] for name in properties}))


def test_an_endpoint():
    with serving(plays) as (url, _):
        check_provider(endpoint, lambda: endpoint.load(f"{url}#m"))


def test_the_local_model(tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF")

    def make():
        provider = local.Local(path, local.CARD)
        provider._reader = tiny_reader()
        return provider

    check_provider(local, make)


CARD = ProviderCard(name="toy", summary="s", source="s")


class Toy(Provider):
    """Answers in form; what is `wrong` with it is said by a name."""

    card, model, free = CARD, "toy", True

    def __init__(self, wrong=""):
        self.wrong, self.count, self.revision = wrong, 0, "1"
        if wrong == "revision":
            self.revision = str(id(self))
        if wrong == "card":
            self.card = CARD.model_copy(update={"name": "other"})
        self.hears = wrong == "deaf"

    def __repr__(self):
        return "Toy(sk-1234567890)" if self.wrong == "key" else "Toy()"

    def tokens(self, request):
        return 1 if self.wrong == "tokens" else super().tokens(request)

    def reply(self, request):
        self.count += 1
        if self.wrong == "raises" and len(request.messages[-1].text) > LONG / 2:
            raise ValueError("too long")
        if self.wrong == "silent" and len(request.messages[-1].text) > LONG / 2:
            raise Unanswered("", "stable")
        if self.wrong == "deaf" and request.messages[-1].clips:
            raise KeyError("audio")
        if request.options:
            values = {"yes": -0.1, "no": -3.0}
            found = tuple(values[option] for option in (sorted(request.options) if self.wrong == "order" else request.options))
            found = tuple(value - self.count for value in found) if self.wrong == "memory" else found
            return Reply(
                likelihoods=found[:1] if self.wrong == "few" else tuple(map(abs, found)) if self.wrong == "sign" else found
            )
        properties = request.schema["properties"]
        value = {"loud": True, "bars": 4, "name": "n", "tags": [], "text": "a symphony"}
        value["root"] = "C" if self.wrong == "confused" else properties["root"]["enum"][0] if "root" in properties else ""
        text = json.dumps({name: value[name] for name in properties})
        if self.wrong == "form" and "bars" in properties:
            text = "It is a chord."
        if self.wrong == "cut" and request.sampling.max_tokens == 8:
            text = text[:10]
        return Reply(text)


def toy(wrong=""):
    module = types.ModuleType("toy")
    module.CARD, module.load = CARD, lambda: Toy(wrong)
    return module


def test_a_toy():
    check_provider(toy())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("card", "whose card is called 'other'"),
        ("revision", "loaded again it has another model or revision"),
        ("form", "a plain question is not answered in form"),
        ("few", "two options, and 1 likelihoods"),
        ("sign", "are no log-probabilities"),
        ("order", "they do not follow the options"),
        ("memory", "what was asked before changes an answer|do not follow"),
        ("confused", "asked for the root D among others, it says another"),
        ("cut", "breaks off, and `cut` does not say so"),
        ("raises", "it raises ValueError"),
        ("silent", "Unanswered without a reason"),
        ("deaf", "it raises KeyError"),
        ("tokens", "it estimates 1 tokens"),
        ("key", "the value of TOY_KEY stands in its repr"),
    ],
)
def test_a_broken_promise_is_named(wrong, message, monkeypatch):
    monkeypatch.setenv("TOY_KEY", "sk-1234567890")
    with pytest.raises(AssertionError, match=message):
        check_provider(toy(wrong))


def test_checks_have_names():
    names = [check.name for check in provider_checks(toy())]
    assert len(set(names)) == len(names) == 10
