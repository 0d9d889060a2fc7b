"""LiteLLM: what it is asked and what its errors mean, on a module that plays it; and the real one on loopback where installed."""

import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from musae import registry
from musae.errors import UserError
from musae.providers import litellm
from musae.providers.client import Client
from musae.providers.http import Limits
from musae.providers.provider import Clip, Message, Request
from musae.testing_providers import check_provider

sys.path.insert(0, str(Path(__file__).parent))
from stub import first_tokens, said, serving
from test_conformance_providers import plays

QUICK = Limits(timeout=5.0, attempts=3, backoff=0.001)
SCHEMA = {"type": "object", "properties": {"root": {"enum": ["C", "D"]}}, "required": ["root"]}
KEY = "sk-1234567890"


class Answers:
    """A response, as LiteLLM's are."""

    def __init__(self, body):
        self.body = body

    def model_dump(self):
        return self.body


@pytest.fixture
def played(monkeypatch):
    """A module in place of LiteLLM that does what `script` says, an exception or a body at a time, the last one for ever."""
    module = ModuleType("litellm")
    module.__spec__ = ModuleSpec("litellm", None)
    module.asked, module.script = [], []

    def completion(**given):
        module.asked.append(given)
        step = module.script[min(len(module.asked), len(module.script)) - 1]
        step = step(given) if callable(step) and not isinstance(step, type) else step
        if isinstance(step, Exception):
            raise step
        return Answers(step)

    module.completion = completion
    monkeypatch.setitem(sys.modules, "litellm", module)
    monkeypatch.setenv("TOY_API_KEY", KEY)
    return module


def error(name, text=""):
    """An exception of a class of this name, as LiteLLM derives them."""
    return type(name, (type("APIStatusError", (Exception,), {}),), {})(text)


def one(played, *script, request=None, **options):
    played.script = list(script)
    provider = registry.make("providers", "litellm:toy/m", {"limits": QUICK, **options})
    (answer,) = Client(provider).complete([request or Request((Message("user", ("Which root?",)),), "t@1", SCHEMA)])
    return answer


def test_what_is_sent(played):
    answer = one(played, said('{"root": "C"}'))
    assert (answer.value, answer.tokens_in, answer.tokens_out) == ({"root": "C"}, 10, 5)
    sent = played.asked[0]
    assert (sent["model"], sent["temperature"], sent["drop_params"], sent["timeout"]) == ("toy/m", 0.0, True, 5.0)
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA
    assert json.dumps(SCHEMA) in sent["messages"][0]["content"]
    assert KEY not in str(sent)
    assert played.suppress_debug_info


def test_likelihoods_and_clips(played):
    options = Request((Message("user", ("Is it?",)),), "t@1", options=("yes", "no"))
    assert one(played, first_tokens(yes=-0.5, no=-2.0), request=options).value == {"yes": -0.5, "no": -2.0}
    played.asked.clear()
    clip = Request((Message("user", (Clip(b"RIFF"), "What?")),), "t@1", SCHEMA)
    assert one(played, said('{"root": "C"}'), request=clip).unscored == "litellm:toy/m hears no audio"
    assert one(played, said('{"root": "D"}'), request=clip, audio=True).value == {"root": "D"}
    assert played.asked[0]["messages"][0]["content"][0]["type"] == "input_audio"


@pytest.mark.parametrize(
    ("raised", "times", "said"),
    [
        (
            error("AuthenticationError", f"litellm.AuthenticationError: wrong key {KEY}"),
            1,
            "AuthenticationError: wrong key [key]",
        ),
        (error("ContextWindowExceededError", "too\n long"), 1, "ContextWindowExceededError: too long"),
        (error("BadRequestError", "no such thing"), 1, "BadRequestError: no such thing"),
        (error("RateLimitError", "slow"), 3, "RateLimitError: slow"),
        (error("Timeout"), 3, "Timeout"),
        (error("SomethingElse", f"headers: {KEY}"), 1, r"SomethingElse: headers: \[key\]".replace("\\", "")),
    ],
)
def test_errors(played, raised, times, said):
    answer = one(played, raised)
    assert answer.value is None
    assert said in answer.unscored
    assert KEY not in answer.unscored
    assert len(played.asked) == times


def test_it_is_asked_again(played):
    assert one(played, error("RateLimitError"), error("InternalServerError"), said('{"root": "C"}')).value == {"root": "C"}


def test_after_a_wrong_key_nothing_is_asked(played):
    played.script = [error("AuthenticationError", "no")]
    client = Client(registry.make("providers", "litellm:toy/m", {"concurrency": 1}))
    requests = [Request((Message("user", (str(n),)),), "t@1", SCHEMA) for n in range(3)]
    assert {answer.unscored for answer in client.complete(requests)} == {"AuthenticationError: no"}
    assert len(played.asked) == 1


def test_conformance(played):
    played.script = [lambda given: _body(given)]
    check_provider(litellm, lambda: litellm.load("toy/m", limits=QUICK))


def _body(given):
    step = plays(given)
    return step if isinstance(step, dict) else error("ContextWindowExceededError", "too long")


def test_what_is_missing(monkeypatch):
    with pytest.raises(UserError, match="needs a model as LiteLLM names it"):
        registry.make("providers", "litellm")
    monkeypatch.setattr(litellm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'musae\[litellm\]'"):
        litellm.load("toy/m")


@pytest.mark.slow
def test_the_real_one(monkeypatch):
    """Imports LiteLLM, which takes seconds."""
    if importlib.util.find_spec("litellm") is None:
        pytest.skip("litellm is not installed")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(plays) as (url, got):
        monkeypatch.setenv("OPENAI_API_BASE", url)
        check_provider(litellm, lambda: litellm.load("openai/gpt-4o-mini", limits=QUICK))
        assert all(step["path"] == "/v1/chat/completions" for step in got)
