"""OpenAI's chat completions as JSON: a request put into their form, and what a body says.

The form is spoken by endpoints (`musae.providers.endpoint`) and by LiteLLM (`musae.providers.litellm`).
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import replace
from typing import Any

from musae.providers.provider import Clip, Message, Reply, Request, Unanswered

FORM = "Answer with one JSON object that fits this JSON schema, and nothing else:\n"
TOP = 20
"""Likeliest first tokens that are asked for; the most that OpenAI gives."""


def body(model: str, request: Request, limit: str = "max_tokens") -> dict[str, Any]:
    """A request to a model; `limit`: the name of the limit on tokens there."""
    sampling = request.sampling
    messages = [_message(message) for message in request.messages]
    put: dict[str, Any] = {"model": model, "messages": messages, "seed": sampling.seed}
    if sampling.temperature is not None:
        put["temperature"] = sampling.temperature
    if request.schema is None:
        return put | {limit: 1, "logprobs": True, "top_logprobs": TOP}
    schema = dict(request.schema)
    messages[-1]["content"] = _with(messages[-1]["content"], FORM + json.dumps(schema, ensure_ascii=False))
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return put | {limit: sampling.max_tokens, "response_format": form}


def reply(answer: dict[str, Any], request: Request) -> Reply:
    """What a body says: text, or likelihoods of the options. Raises Unanswered for a refusal, and a body of another form."""
    return _likelihoods(answer, request.options) if request.options else _text(answer)


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


def _text(answer: dict[str, Any]) -> Reply:
    choice, message, used = _choice(answer)
    text = message.get("content")
    if isinstance(text, list):
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    reason = choice.get("finish_reason")
    found = replace(used, text=text if isinstance(text, str) else "", cut=reason == "length")
    if refusal := message.get("refusal"):
        raise Unanswered(f"the model refuses: {' '.join(str(refusal).split())[:200]}", "stable", found)
    if reason == "content_filter":
        raise Unanswered("the model refuses: content filter", "stable", found)
    return found


def _likelihoods(answer: dict[str, Any], options: tuple[str, ...]) -> Reply:
    """Each option's log-probability: of all listed first tokens that it, and no other option, begins with.

    Case and spaces around a token do not count. An option of which no token is listed gets the least one's, an upper bound.
    """
    choice, _, used = _choice(answer)
    try:
        tops = [(str(top["token"]), float(top["logprob"])) for top in choice["logprobs"]["content"][0]["top_logprobs"]]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Unanswered("the endpoint gives no log-probabilities", "passing", used) from error
    listed = [(token.strip().lower(), value) for token, value in tops if math.isfinite(value)]
    found: dict[str, list[float]] = {option: [] for option in options}
    for token, value in listed:
        begun = [option for option in options if token and option.strip().lower().startswith(token)]
        if len(begun) == 1:
            found[begun[0]].append(value)
    if not any(found.values()):
        raise Unanswered(f"none of {', '.join(options)} is among the {len(listed)} likeliest first tokens", "stable", used)
    least = min(value for _, value in listed)
    return replace(used, likelihoods=tuple(_log_sum(found[option]) if found[option] else least for option in options))


def _log_sum(values: list[float]) -> float:
    most = max(values)
    return most + math.log(sum(math.exp(value - most) for value in values))


def _choice(answer: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], Reply]:
    """The first choice, its message, and a reply with the tokens used. Raises Unanswered for a body of another form."""
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        usage = answer.get("usage") or {}
        used = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not isinstance(message, dict) or not all(isinstance(count, int | None) for count in used):
            raise TypeError
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Unanswered("the endpoint's body is no chat completion", "passing") from error
    return choice, message, Reply(tokens_in=used[0], tokens_out=used[1])
