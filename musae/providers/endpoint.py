"""Any endpoint with OpenAI's chat completions: vLLM, Ollama, llama.cpp's server, LiteLLM's proxy, hosted models.

``endpoint:http://localhost:8000/v1#Qwen/Qwen2.5-7B-Instruct`` names base URL and model. A key is given by the *name* of the
environment variable that holds it, is read when a request is sent, and is taken out of whatever comes back.
"""

from __future__ import annotations

import base64
import json
import math
import os
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from musae.card import ProviderCard
from musae.errors import UserError
from musae.providers.http import Connection, Failure, Limits
from musae.providers.provider import Clip, Message, Provider, Reply, Request, Unanswered

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
FORM = "Answer with one JSON object that fits this JSON schema, and nothing else:\n"
OPTIONAL = {"response_format": ("response_format", "json_schema"), "seed": ("seed",)}
"""What is left out where an endpoint's complaint has one of these words."""
TOP = 20
"""Likeliest first tokens that are asked for; the most that OpenAI gives."""
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
            return _likelihoods(body, request.options) if request.options else _text(body)

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
        sampling = request.sampling
        messages = [_message(message) for message in request.messages]
        body: dict[str, Any] = {"model": self._name, "messages": messages, "seed": sampling.seed}
        if sampling.temperature is not None:
            body["temperature"] = sampling.temperature
        if request.schema is None:
            body |= {self._limit: 1, "logprobs": True, "top_logprobs": TOP}
        else:
            schema = dict(request.schema)
            messages[-1]["content"] = _with(messages[-1]["content"], FORM + json.dumps(schema, ensure_ascii=False))
            body[self._limit] = sampling.max_tokens
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
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


def _message(message: Message) -> dict[str, Any]:
    """A message as it is sent: a string where it is text alone, which every server takes."""
    if not message.clips:
        return {"role": message.role, "content": message.text}
    return {"role": message.role, "content": [_part(part) for part in message.parts]}


def _part(part: str | Clip) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(part.wav).decode(), "format": "wav"}}


def _with(content: Any, text: str) -> Any:
    """A message's content and a further text."""
    return f"{content}\n\n{text}" if isinstance(content, str) else [*content, {"type": "text", "text": text}]


def _text(body: dict[str, Any]) -> Reply:
    choice, message, reply = _choice(body)
    text = message.get("content")
    if isinstance(text, list):
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    reason = choice.get("finish_reason")
    reply = replace(reply, text=text if isinstance(text, str) else "", cut=reason == "length")
    if refusal := message.get("refusal"):
        raise Unanswered(f"the model refuses: {' '.join(str(refusal).split())[:200]}", "stable", reply)
    if reason == "content_filter":
        raise Unanswered("the model refuses: content filter", "stable", reply)
    return reply


def _likelihoods(body: dict[str, Any], options: tuple[str, ...]) -> Reply:
    """Each option's log-probability: of all listed first tokens that it, and no other option, begins with.

    Case and spaces around a token do not count. An option of which no token is listed gets the least one's, an upper bound.
    """
    choice, _, reply = _choice(body)
    try:
        tops = [(str(top["token"]), float(top["logprob"])) for top in choice["logprobs"]["content"][0]["top_logprobs"]]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Unanswered("the endpoint gives no log-probabilities", "passing", reply) from error
    listed = [(token.strip().lower(), value) for token, value in tops if math.isfinite(value)]
    found: dict[str, list[float]] = {option: [] for option in options}
    for token, value in listed:
        begun = [option for option in options if token and option.strip().lower().startswith(token)]
        if len(begun) == 1:
            found[begun[0]].append(value)
    if not any(found.values()):
        raise Unanswered(f"none of {', '.join(options)} is among the {len(listed)} likeliest first tokens", "stable", reply)
    least = min(value for _, value in listed)
    return replace(reply, likelihoods=tuple(_log_sum(found[option]) if found[option] else least for option in options))


def _log_sum(values: list[float]) -> float:
    most = max(values)
    return most + math.log(sum(math.exp(value - most) for value in values))


def _choice(body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], Reply]:
    """The first choice, its message, and a reply with the tokens used. Raises Unanswered for a body of another form."""
    try:
        choice = body["choices"][0]
        message = choice["message"]
        usage = body.get("usage") or {}
        used = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not isinstance(message, dict) or not all(isinstance(count, int | None) for count in used):
            raise TypeError
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Unanswered("the endpoint's body is no chat completion", "passing") from error
    return choice, message, Reply(tokens_in=used[0], tokens_out=used[1])
