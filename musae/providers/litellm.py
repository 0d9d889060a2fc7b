"""Models that speak other interfaces than OpenAI's, through LiteLLM: Anthropic, Gemini, Bedrock, Vertex and many more.

``litellm:anthropic/claude-3-5-haiku-latest`` names a model as LiteLLM does (https://docs.litellm.ai/docs/providers). Keys are
read by LiteLLM from the environment variables that it documents for the provider (``ANTHROPIC_API_KEY``), and are taken out of
whatever comes back. Its own cache, logging and list of prices are not used: the list would be fetched from the network at import.
"""

from __future__ import annotations

import importlib.util
import os
import re
from typing import Any, Literal

from musae.card import ProviderCard
from musae.errors import UserError
from musae.providers import completions
from musae.providers.http import Limits, Pace
from musae.providers.provider import Provider, Reply, Request, Unanswered

CARD = ProviderCard(
    name="litellm",
    summary="models of other interfaces (Anthropic, Gemini, Bedrock, ...) through LiteLLM",
    source="https://docs.litellm.ai",
    argument="a model as LiteLLM names it, as in anthropic/claude-3-5-haiku-latest",
)

REVISION = "chat-1"
"""Raised whenever a request is put in another way."""

FATAL = ("AuthenticationError", "PermissionDeniedError", "NotFoundError", "BudgetExceededError")
"""Errors of LiteLLM after which no other request would succeed."""
STABLE = ("ContextWindowExceededError", "ContentPolicyViolationError")
"""Errors after which the same request would fare no better."""
AGAIN = ("RateLimitError", "Timeout", "APIConnectionError", "InternalServerError", "ServiceUnavailableError")
"""Errors after which the same request may succeed."""
SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$")
"""Names of environment variables whose values stand in no message."""


def card(argument: str) -> ProviderCard:
    """The card of one model."""
    return CARD.model_copy(update={"name": f"litellm:{argument}"})


def load(
    argument: str = "",
    *,
    revision: str = "",
    audio: bool = False,
    concurrency: int = 4,
    limits: Limits | None = None,
) -> LiteLLM:
    """The model; see `musae.providers.endpoint.load` for the options.

    Raises UserError where LiteLLM is not installed, and for an argument that names no model.
    """
    if not argument:
        raise UserError(f"provider 'litellm' needs {CARD.argument}.")
    if concurrency < 1:
        raise UserError(f"concurrency is {concurrency}; give at least 1.")
    if importlib.util.find_spec("litellm") is None:
        raise UserError("provider 'litellm' needs the package litellm; install it with `pip install 'musae[litellm]'`.")
    return LiteLLM(argument, revision, audio, concurrency, limits or Limits())


class LiteLLM(Provider):
    """One model."""

    def __init__(self, argument: str, revision: str, audio: bool, concurrency: int, limits: Limits) -> None:
        self.card, self._name = card(argument), argument
        self.model = f"litellm:{argument}"
        self.revision = f"{REVISION} {revision}".strip()
        self.hears, self.concurrency = audio, concurrency
        self.free = False
        self._limits, self._pace = limits, Pace(limits.per_minute)

    def __repr__(self) -> str:
        return f"LiteLLM({self._name!r})"

    def reply(self, request: Request) -> Reply:
        """One exchange. What a model does not take (a seed, a schema) is left out by LiteLLM; the schema is in the text, too."""
        completion = _litellm().completion
        body = completions.body(self._name, request)
        for attempt in range(self._limits.attempts):
            self._pace.wait()
            try:
                found = completion(**body, timeout=self._limits.timeout, max_retries=0, drop_params=True).model_dump()
            except Exception as error:  # its own classes, and those of the clients below it
                if not _is(error, AGAIN) or attempt + 1 == self._limits.attempts:
                    raise Unanswered(_said(error), _kind(error)) from None  # a traceback may hold the request's headers
                self._pace.pause(self._limits.backoff * 2**attempt, everyone=False)
            else:
                return completions.reply(found, request)
        raise AssertionError("at least one attempt is made")


def _litellm() -> Any:
    """The package, told to keep to itself; imported where it is used, since that takes seconds."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm


def _kind(error: Exception) -> Literal["stable", "passing", "fatal"]:
    return "fatal" if _is(error, FATAL) else "stable" if _is(error, STABLE) else "passing"


def _is(error: Exception, names: tuple[str, ...]) -> bool:
    """Whether it is of a class of one of these names: LiteLLM's classes are not imported, nor those below it."""
    return any(kind.__name__ in names for kind in type(error).__mro__)


def _said(error: Exception) -> str:
    """An error in one line, without the values of variables that hold keys."""
    text, kind = str(error), type(error).__name__
    for name, value in os.environ.items():
        if SECRET.search(name.upper()) and len(value) >= 4:
            text = text.replace(value, "[key]")
    text = " ".join(text.split())
    return (text if kind in text else f"{kind}: {text}")[:240].rstrip(": ")
