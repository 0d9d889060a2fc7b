"""Conformance suite of a provider of language models (`musae.providers.provider.Provider`), for third parties too::

    from musae.testing_providers import check_provider
    from my_package import my_provider

    def test_conformance():
        check_provider(my_provider, lambda: my_provider.load("my-model"))

`check_provider` takes a module with ``CARD`` and ``load()``, and how to make a provider where ``load`` needs an argument. It runs
all checks and raises AssertionError with a sentence that says what is wrong; `provider_checks` gives them one by one. About 20
short questions are asked and one long one, which a hosted model has to be paid for. How good answers are is another matter.
"""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import cast

from musae.card import ProviderCard
from musae.conformance import Check, run
from musae.providers.client import Client
from musae.providers.provider import Clip, Message, Provider, Reply, Request, Sampling, Unanswered
from musae.providers.schema import parse, problem

ROOTS = ("C", "D", "E", "F", "G", "A", "B")

LABEL = {
    "type": "object",
    "properties": {
        "root": {"enum": list(ROOTS)},
        "loud": {"type": "boolean"},
        "bars": {"type": "integer", "minimum": 1, "maximum": 16},
        "name": {"type": "string", "maxLength": 40},
        "tags": {"type": "array", "items": {"enum": ["slow", "fast"]}, "maxItems": 2},
    },
    "required": ["root", "loud", "bars", "name", "tags"],
    "additionalProperties": False,
}

WORDS = {
    "type": "object",
    "properties": {"text": {"type": "string", "maxLength": 2000}},
    "required": ["text"],
    "additionalProperties": False,
}

LONG = 200_000
"""Characters of a message that is longer than most models' context."""


def check_provider(module: ModuleType, make: Callable[[], Provider] | None = None) -> None:
    """Raise AssertionError, naming what is wrong, unless a provider keeps its contract.

    It answers in form, or raises Unanswered with a reason and nothing else; likelihoods belong to their options; what it is asked
    does not change what it says next; keys stand nowhere.
    """
    run(provider_checks(module, make))


def provider_checks(module: ModuleType, make: Callable[[], Provider] | None = None) -> list[Check]:
    """The checks of `check_provider`, by name."""
    card = cast(ProviderCard, module.CARD)
    again = cast(Callable[[], Provider], make or module.load)
    made = cache(again)
    return [
        Check("it loads, and its card is the module's", lambda: _check_load(card, made(), again()), vital=True),
        Check("an answer fits its schema", lambda: _check_object(card, made())),
        Check("likelihoods are of the options, in their order", lambda: _check_options(card, made())),
        Check("questions before do not change an answer", lambda: _check_order(card, made(), again())),
        Check("several questions at once are not confused", lambda: _check_several(card, made())),
        Check("an answer keeps to max_tokens", lambda: _check_cut(card, made())),
        Check("what is too long is answered, or left with a reason", lambda: _check_long(card, made())),
        Check("it hears clips, or says that it does not", lambda: _check_clips(card, made())),
        Check("tokens are counted before they are sent", lambda: _check_tokens(card, made())),
        Check("no key stands in it", lambda: _check_keys(card, made())),
    ]


def _ask(text: str = "Which chord is it?", sampling: Sampling | None = None, **form: object) -> Request:
    messages = (Message("system", ("You answer questions about music.",)), Message("user", (text,)))
    return Request(messages, "conformance@1", sampling=sampling or Sampling(), **(form or {"schema": LABEL}))  # type: ignore[arg-type]


def _reply(card: ProviderCard, provider: Provider, request: Request) -> Reply | None:
    """What it says; None where it says that it cannot, with a reason."""
    try:
        found = provider.reply(request)
    except Unanswered as failure:
        reason, kind = str(failure), failure.kind
        assert reason.strip(), f"{card.name}: it raises Unanswered without a reason"
        assert "\n" not in reason, f"{card.name}: a reason has several lines: {reason!r}"
        assert kind in ("stable", "passing", "fatal"), f"{card.name}: Unanswered is of kind {kind!r}"
        return None
    except Exception as error:
        raise AssertionError(f"{card.name}: it raises {type(error).__name__} ({error}), and must raise Unanswered") from error
    assert isinstance(found, Reply), f"{card.name}: it replies with a {type(found).__name__}, and no Reply"
    for name, count in (("tokens_in", found.tokens_in), ("tokens_out", found.tokens_out)):
        assert count is None or count >= 0, f"{card.name}: {name} of a reply is {count}"
    return found


def _check_load(card: ProviderCard, provider: Provider, other: Provider) -> None:
    assert isinstance(provider, Provider), f"{card.name}: load() gives a {type(provider).__name__}, and no Provider"
    name = provider.card.name
    assert name.partition(":")[0] == card.name, f"{card.name}: load() gives a provider whose card is called {name!r}"
    assert provider.model, f"{card.name}: its model is empty"
    assert provider.revision, f"{card.name}: its revision is empty"
    same = (provider.model, provider.revision) == (other.model, other.revision)
    assert same, f"{card.name}: loaded again it has another model or revision, so that no answer would be found again"
    assert provider.concurrency >= 1, f"{card.name}: its concurrency is {provider.concurrency}"


def _check_object(card: ProviderCard, provider: Provider) -> None:
    (answer,) = Client(provider).complete([_ask()])
    assert answer.value is not None, f"{card.name}: a plain question is not answered in form: {answer.unscored}"
    assert not problem(answer.value, LABEL), f"{card.name}: an answer does not fit: {problem(answer.value, LABEL)}"


def _check_options(card: ProviderCard, provider: Provider) -> None:
    found = [_reply(card, provider, _ask("Is C a note?", options=options)) for options in (("yes", "no"), ("no", "yes"))]
    first, turned = ((reply.likelihoods if reply else ()) for reply in found)
    if found[0] is None and found[1] is None:  # not all endpoints give them
        return
    for values in (first, turned):
        assert len(values) == 2, f"{card.name}: two options, and {len(values)} likelihoods"
        sound = all(value <= 1e-6 for value in values)
        assert sound, f"{card.name}: {list(values)} are no log-probabilities: finite, and 0 or less"
    near = max(abs(a - b) for a, b in zip(first, reversed(turned), strict=True)) < 0.5
    assert near, (
        f"{card.name}: turned round, yes and no have {list(turned)} instead of {list(first)}: they do not follow the options"
    )


def _check_order(card: ProviderCard, provider: Provider, fresh: Provider) -> None:
    """Of models on this machine only: hosted ones batch, and are not exact."""
    if not provider.free:
        return
    request = _ask("Is it loud?", options=("yes", "no"))
    _reply(card, provider, _ask("Something else.", options=("yes", "no")))
    _reply(card, provider, _ask())
    used, unused = (_reply(card, one, request) for one in (provider, fresh))
    same = (used and used.likelihoods) == (unused and unused.likelihoods)
    assert same, f"{card.name}: what was asked before changes an answer"


def _check_several(card: ProviderCard, provider: Provider) -> None:
    """Each question allows one answer only."""
    requests = []
    for root in ROOTS:
        schema = {"type": "object", "properties": {"root": {"enum": [root]}}, "required": ["root"], "additionalProperties": False}
        requests.append(_ask(f"The root is {root}. Which is it?", schema=schema))
    answers = Client(provider).complete(requests)
    for root, answer in zip(ROOTS, answers, strict=True):
        wrong = answer.unscored.startswith("no valid answer")
        assert not wrong, f"{card.name}: asked for the root {root} among others, it says another: {answer.unscored}"
    given = sum(answer.value is not None for answer in answers)
    assert given, f"{card.name}: of {len(ROOTS)} questions none is answered: {answers[0].unscored}"


def _check_cut(card: ProviderCard, provider: Provider) -> None:
    reply = _reply(card, provider, _ask("Describe a symphony at length.", Sampling(max_tokens=8), schema=WORDS))
    if reply is None:
        return
    whole = parse(reply.text, WORDS)[0] is not None
    assert whole or reply.cut, f"{card.name}: with max_tokens = 8 its text breaks off, and `cut` does not say so"


def _check_long(card: ProviderCard, provider: Provider) -> None:
    _reply(card, provider, _ask("la " * (LONG // 3), options=("yes", "no")))


def _check_clips(card: ProviderCard, provider: Provider) -> None:
    request = Request((Message("user", ("What is it?", Clip(_silence()))),), "conformance@1", LABEL)
    if provider.hears:
        _reply(card, provider, request)
        return
    (answer,) = Client(provider).complete([request])
    assert answer.unscored, f"{card.name}: it hears nothing, and answers a question about a clip"


def _check_tokens(card: ProviderCard, provider: Provider) -> None:
    short, long = provider.tokens(_ask("a")), provider.tokens(_ask("a " * 3000))
    assert 0 < short < long, f"{card.name}: it estimates {short} tokens for a short question and {long} for a long one"


def _check_keys(card: ProviderCard, provider: Provider) -> None:
    shown = " ".join((repr(provider), str(provider.card), provider.model, provider.revision))
    names = [n for n in os.environ if n.upper().endswith(("KEY", "TOKEN", "SECRET")) and len(os.environ[n]) >= 8]
    shows = [name for name in names if os.environ[name] in shown]
    assert not shows, f"{card.name}: the value of {shows[0]} stands in its repr, card, model or revision"


def _silence() -> bytes:
    """A quarter of a second of 16-bit mono WAV at 16 kHz."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(bytes(8000))
    return file.getvalue()
