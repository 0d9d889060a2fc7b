"""Any endpoint with OpenAI's chat completions: vLLM, Ollama, llama.cpp's server, LiteLLM's proxy, hosted models.

``endpoint:http://localhost:8000/v1#Qwen/Qwen2.5-7B-Instruct`` names base URL and model. A key is given by the *name* of the
environment variable that holds it, is read when a request is sent, and is taken out of whatever comes back.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from musae.card import ProviderCard
from musae.errors import UserError
from musae.providers import completions
from musae.providers.http import Connection, Failure, Limits
from musae.providers.provider import Provider, Reply, Request, Unanswered

CARD = ProviderCard(
    name="endpoint",
    summary="any endpoint with OpenAI's chat completions: vLLM, Ollama, llama.cpp's server, hosted models",
    source="https://platform.openai.com/docs/api-reference/chat",
    argument="a base URL, # and a model, as in http://localhost:8000/v1#Qwen/Qwen2.5-7B-Instruct",
)

KEY = "MUSAE_API_KEY"
"""The environment variable whose key is sent where no other is named."""

REVISION = "chat-1"
"""Raised whenever a request is put to an endpoint in another way."""
OPTIONAL = {"response_format": ("response_format", "json_schema"), "seed": ("seed",)}
"""What is left out where an endpoint's complaint has one of these words."""
CONTEXT = ("context_length", "context length", "context size", "context window", "maximum context", "too many tokens")
"""Words by which endpoints say that messages are too long."""


def card(argument: str) -> ProviderCard:
    """The card of one endpoint and model."""
    _parts(argument)
    return CARD.model_copy(update={"name": f"endpoint:{argument}"})


def load(
    argument: str = "",
    *,
    key_variable: str = "",
    revision: str = "",
    audio: bool = False,
    concurrency: int = 4,
    limits: Limits | None = None,
) -> Endpoint:
    """The model at an endpoint.

    `key_variable`: name of the environment variable with the key; where none is named, `KEY` is taken if it is set, and no key
    is sent otherwise. `revision`: of the weights, where it is known: raising it asks anew. `audio`: whether the model hears
    (clips go as ``input_audio``).

    Raises UserError for an argument that is no URL, # and model.
    """
    if not argument:
        raise UserError(f"provider 'endpoint' needs {CARD.argument}.")
    if concurrency < 1:
        raise UserError(f"concurrency is {concurrency}; give at least 1.")
    key_variable = key_variable or (KEY if os.environ.get(KEY) else "")
    return Endpoint(argument, key_variable, revision, audio, concurrency, limits or Limits())


class Endpoint(Provider):
    """One model at one endpoint."""

    def __init__(self, argument: str, key_variable: str, revision: str, audio: bool, concurrency: int, limits: Limits) -> None:
        base, self._name = _parts(argument)
        self.card = card(argument)
        self.model = f"{base}#{self._name}"
        self.revision = f"{REVISION} {revision}".strip()
        self.hears, self.concurrency = audio, concurrency
        self.free = False
        self._connection = Connection(f"{base}/chat/completions", key_variable, limits)
        self._limit = "max_tokens"
        self._unknown: set[str] = set()

    def __repr__(self) -> str:
        return f"Endpoint({self.model!r})"

    def reply(self, request: Request) -> Reply:
        """One exchange; what an older or newer server will not take is put another way, once."""
        while True:
            sent = self._body(request)
            try:
                body = self._connection.post(sent)
            except Failure as failure:
                if self._put_another_way(failure, sent):
                    continue
                long = failure.status in (400, 413, 422) and any(words in str(failure).lower() for words in CONTEXT)
                raise Unanswered(str(failure), "stable" if long else failure.kind) from failure
            return completions.reply(body, request)

    def _put_another_way(self, failure: Failure, sent: dict[str, Any]) -> bool:
        """Whether to ask again: without what is not known there, or with the newer name of the limit on tokens."""
        if failure.status not in (400, 422):
            return False
        said = str(failure)
        if "max_tokens" in sent and "max_completion_tokens" in said:
            self._limit = "max_completion_tokens"
            return True
        unknown = {name for name, words in OPTIONAL.items() if name in sent and any(word in said for word in words)}
        self._unknown |= unknown
        return bool(unknown)

    def _body(self, request: Request) -> dict[str, Any]:
        body = completions.body(self._name, request, self._limit)
        return {name: value for name, value in body.items() if name not in self._unknown}


def _parts(argument: str) -> tuple[str, str]:
    """Base URL and model. Raises UserError."""
    base, _, model = argument.partition("#")
    url = urlsplit(base)
    if url.username or url.password or url.query:
        raise UserError(
            f"endpoint {url.scheme}://{url.hostname}: its URL holds a user, a password or a query; "
            "give a key by the name of an environment variable."
        )
    if url.scheme not in ("http", "https") or not url.hostname or not model:
        raise UserError(f"endpoint {argument!r}: give {CARD.argument}.")
    return base.rstrip("/"), model
