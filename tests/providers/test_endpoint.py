"""Endpoints that answer well, badly, late, in part or not at all; a stub on the loopback interface plays them."""

import email.utils
import json
import logging
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from musae import registry
from musae.errors import UserError
from musae.providers.cache import AnswerCache
from musae.providers.client import Client
from musae.providers.endpoint import load
from musae.providers.http import Limits
from musae.providers.provider import Clip, Message, Request, Sampling

sys.path.insert(0, str(Path(__file__).parent))
from stub import Step, first_tokens, said, serving

QUICK = Limits(timeout=5.0, attempts=3, backoff=0.01)
SCHEMA = {
    "type": "object",
    "properties": {"root": {"enum": ["C", "D", "none"]}},
    "required": ["root"],
    "additionalProperties": False,
}
GOOD = {"root": "C"}


def ask(text="Which root?", **changes):
    return Request((Message("user", (text,)),), "test@1", SCHEMA, **changes)


def answers(script, *requests, limits=QUICK, **options):
    """(answers, requests that the stub got) of a client without a cache."""
    with serving(script) as (url, got):
        client = Client(load(f"{url}#m", limits=limits, **options))
        return client.complete(requests or [ask()]), got


def one(script, request=None, **options):
    (answer,), got = answers(script, request or ask(), **options)
    return answer, got


def test_an_answer_and_what_is_sent():
    answer, got = one([said(json.dumps(GOOD))], ask(sampling=Sampling(0.5, 77, 3)))
    assert (answer.value, answer.unscored, answer.tokens_in, answer.tokens_out) == (GOOD, "", 10, 5)
    assert answer.cost is None
    body = got[0]["body"]
    assert got[0]["path"] == "/v1/chat/completions"
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("m", 0.5, 77, 3)
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert json.dumps(SCHEMA) in body["messages"][0]["content"]
    assert "Authorization" not in got[0]["headers"]


@pytest.mark.parametrize(
    "text",
    [
        'Sure! {"root": "C"} I hope that helps.',
        '```json\n{"root": "C"}\n```',
        '<think>{"root": "E"} or {"x": {"root": "C"}}?</think> {not json} {"root": "C"} {"root": "D"}',
        '{"root": NaN} {"root": "C"}',
    ],
)
def test_the_first_object_that_fits_is_taken_out_of_prose(text):
    answer, got = one([said(text)])
    assert answer.value == GOOD
    assert len(got) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"root": "E"}', "root: 'E' is not one of ['C', 'D', 'none']"),
        ('{"root": "C", "why": 1}', "'why' was unexpected"),
        ('{"root": ', "no complete JSON object"),
        ("I think it is C.", "no complete JSON object"),
        ("", "the answer is empty"),
    ],
)
def test_what_does_not_fit_is_sent_back_once(text, told):
    answer, got = one([said(text), said(json.dumps(GOOD))])
    assert (answer.value, answer.repaired, answer.tokens_in, len(got)) == (GOOD, True, 20, 2)
    *_, invalid, problem = got[1]["body"]["messages"]
    assert invalid == {"role": "assistant", "content": text or "{}"}
    assert told in problem["content"]
    answer, got = one([said(text)])
    assert answer.value is None
    assert answer.unscored.startswith("no valid answer after one repair: ")
    assert told in answer.unscored
    assert len(got) == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (said("", refusal="I cannot\nhelp."), "the model refuses: I cannot help."),
        (said("", finish="content_filter"), "the model refuses: content filter"),
        (said('{"root": "', finish="length"), "the answer was cut off after 256 tokens"),
        ({"choices": []}, "the endpoint's body is no chat completion"),
        ({"choices": [{"message": None}]}, "the endpoint's body is no chat completion"),
        ([1], "the endpoint's body is no JSON object, 3 times"),
        (b"<html>", "the endpoint's body is no JSON object, 3 times"),
        (Step({"error": {"message": "maximum context length is 8"}}, 400), "HTTP 400: maximum context length is 8"),
        (Step("", 302, {"Location": "http://127.0.0.1:9/"}), "HTTP 302: no message"),
        (Step(b"overloaded", 500), "HTTP 500: overloaded, 3 times"),
        (Step(said("{}"), cut=20), "the endpoint's body broke off, 3 times"),
        (said("x" * 2**20), "the endpoint's body has more than 1048576 bytes, 3 times"),
    ],
)
def test_unscored_with_a_reason(body, reason):
    answer, _ = one([body])
    assert (answer.value, answer.unscored) == (None, reason)


def test_a_refusal_is_paid():
    assert one([said("", refusal="no")])[0].tokens_in == 10


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_repeated_until_it_succeeds(status):
    answer, got = one([Step({}, status), Step(said("{}"), cut=9), said(json.dumps(GOOD))])
    assert (answer.value, len(got)) == (GOOD, 3)


def test_retry_after_holds_all_back():
    body = json.dumps(GOOD)
    answer, got = one([Step({}, 429, {"Retry-After": "0.4"}), said(body)])
    assert answer.value == GOOD
    assert got[1]["at"] - got[0]["at"] >= 0.4
    soon = email.utils.formatdate(time.time() + 2, usegmt=True)
    answer, got = one([Step({}, 503, {"Retry-After": soon}), said(body)])
    assert answer.value == GOOD
    assert got[1]["at"] - got[0]["at"] > 0.5
    answer, got = one([Step({}, 429, {"Retry-After": "9999"})])
    assert answer.unscored == "HTTP 429: no message (it asks to wait 9999 s)"
    assert len(got) == 1


@pytest.mark.parametrize("step", [Step(said("{}"), late=0.5), Step(said("{}"), drip=0.03)])
def test_an_endpoint_that_is_late(step):
    start = time.monotonic()
    answer, got = one([step], limits=replace(QUICK, timeout=0.1, attempts=2))
    assert (answer.unscored, len(got)) == ("no answer within 0.1 s, 2 times", 2)
    assert time.monotonic() - start < 2


def test_rate_limit():
    _, got = answers([said(json.dumps(GOOD))], *map(ask, "abcd"), limits=replace(QUICK, per_minute=600))
    times = sorted(call["at"] for call in got)
    assert times[-1] - times[0] >= 0.25


def test_order_is_kept_by_concurrent_requests():
    def echo(body):
        letter = body["messages"][0]["content"][0]
        return Step(said(json.dumps({"root": letter})), late=0.1 if letter == "C" else 0.0)

    found, _ = answers(echo, *map(ask, ["C1", "D1", "C2", "D2"]), concurrency=4)
    assert [answer.value["root"] for answer in found] == ["C", "D", "C", "D"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_after_a_fatal_failure_nothing_more_is_asked(status):
    found, got = answers([Step({"error": "no"}, status)], *map(ask, "abc"), concurrency=1)
    assert [answer.unscored for answer in found] == [f"HTTP {status}: no"] * 3
    assert len(got) == 1


def test_nobody_listens():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        client = Client(load(f"http://127.0.0.1:{held.getsockname()[1]}/v1#m", limits=QUICK, concurrency=1))
        found = client.complete([ask("a"), ask("b")])
    assert [answer.unscored for answer in found] == ["nobody answers at the endpoint's address, 3 times"] * 2
    assert client.totals.calls == 1


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("response_format", "response_format is not supported"),
        ("seed", "extra fields: seed"),
        ("max_tokens", "use max_completion_tokens"),
    ],
)
def test_a_server_that_does_not_know_a_parameter(name, complaint):
    def strict(body):
        return Step({"error": {"message": complaint}}, 400) if name in body else said(json.dumps(GOOD))

    found, got = answers(strict, ask("a"), ask("b"), concurrency=1)
    assert [answer.value for answer in found] == [GOOD] * 2
    assert [name in call["body"] for call in got] == [True, False, False]
    assert answers(strict, *map(ask, "abcdef"), concurrency=6)[0][5].value == GOOD
    assert one([Step({"error": {"message": complaint}}, 400)])[0].unscored == f"HTTP 400: {complaint}"


def test_likelihoods():
    request = Request((Message("user", ("Loud?",)),), "detect@1", options=("yes", "no"))
    answer, got = one([first_tokens(Yes=-1.0, yes=-1.0, No=-3.0, maybe=-9.0)], request)
    assert answer.value == pytest.approx({"yes": -1 + 0.6931472, "no": -3.0})
    body = got[0]["body"]
    assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)
    assert one([first_tokens(Yes=-1.0, maybe=-9.0)], request)[0].value == {"yes": -1.0, "no": -9.0}
    assert one([first_tokens(Yes=-1.0, no=float("-inf"), maybe=-9.0)], request)[0].value == {"yes": -1.0, "no": -9.0}
    assert one([first_tokens(maybe=-9.0)], request)[0].unscored == "none of yes, no is among the 1 likeliest first tokens"
    assert one([said("yes")], request)[0].unscored == "the endpoint gives no log-probabilities"


def test_audio_goes_as_audio_and_metadata_only_when_asked_for():
    clip = Clip(b"RIFFaudio", {"title": "Secret"})
    request = Request((Message("user", ("Listen:", clip)),), "test@1", SCHEMA)
    assert one([said("{}")], request)[0].unscored.endswith("hears no audio")
    with serving([said(json.dumps(GOOD))]) as (url, got):
        provider = load(f"{url}#m", audio=True, limits=QUICK)
        Client(provider).complete([request])
        Client(provider, metadata=True).complete([request])
    without, told = (call["body"]["messages"][0]["content"] for call in got)
    assert without[1] == {"type": "input_audio", "input_audio": {"data": "UklGRmF1ZGlv", "format": "wav"}}
    assert "Secret" not in json.dumps(without)
    assert "Secret" in told[2]["text"]


def test_the_key_is_sent_and_never_shown(tmp_path, monkeypatch, caplog):
    secret = "sk-very-secret-0123456789"
    monkeypatch.setenv("STUB_KEY", secret)
    caplog.set_level(logging.DEBUG)
    echo = said(json.dumps({"root": "C", "why": secret}))
    script = [Step({"error": {"message": f"slow down, {secret}"}}, 429), echo, said(secret), Step(f"wrong key {secret}", 401)]
    with serving(script) as (url, got):
        provider = load(f"{url}#m", key_variable="STUB_KEY", limits=QUICK, concurrency=1)
        client = Client(provider, AnswerCache(tmp_path))
        found = client.complete([ask("a"), ask("b")])
    assert {call["headers"]["Authorization"] for call in got} == {f"Bearer {secret}"}
    assert "[key]" in found[1].unscored
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert kept
    shown = f"{found} {client.totals} {provider!r} {vars(provider)} {vars(provider._connection)} {kept} {caplog.text}"
    assert secret not in shown


def test_a_key_that_is_missing_or_none(monkeypatch):
    monkeypatch.delenv("STUB_KEY", raising=False)
    found, got = answers([said("{}")], key_variable="STUB_KEY")
    assert found[0].unscored == "no key: the environment variable STUB_KEY is not set"
    monkeypatch.setenv("STUB_KEY", "two words")
    assert "two words" not in answers([said("{}")], key_variable="STUB_KEY")[0][0].unscored
    assert not got


@pytest.mark.parametrize(
    "argument", ["", "localhost:8000#m", "http://localhost/v1", "ftp://x/v1#m", "http://u:pw@h/v1#m", "http://h/v1?k=pw#m"]
)
def test_arguments_that_are_no_endpoint(argument):
    with pytest.raises(UserError, match="endpoint") as error:
        load(argument)
    assert "pw" not in str(error.value)


def test_by_name():
    made = registry.make("providers", "endpoint:http://localhost:8000/v1#org/model", {"revision": "abc"})
    assert made.card.name == "endpoint:http://localhost:8000/v1#org/model"
    assert (made.model, made.revision) == ("http://localhost:8000/v1#org/model", "chat-1 abc")
