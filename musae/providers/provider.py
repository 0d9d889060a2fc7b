"""The contract of a provider of language models: messages in, text or log-probabilities out.

One file in `musae/providers/` provides one, as a module-level ``CARD`` and ``load()``. A provider makes one exchange and says
honestly what came of it; `musae.providers.client` does the rest: it checks answers against their schema, asks once for a repair,
keeps answers, counts tokens and costs, and turns whatever goes wrong into an `Answer` that is `unscored`, with a reason.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from musae.card import ProviderCard
from musae.errors import UserError
from musae.providers.schema import check_schema

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Clip:
    """A clip of audio in a message."""

    wav: bytes = field(repr=False)
    """A WAV file; empty where only its metadata may be told."""
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Title, performer and the like: sent only by a client that was made with ``metadata=True``."""

    @property
    def sha256(self) -> str:
        """Of the WAV file; it stands for the audio in the key of an answer."""
        return hashlib.sha256(self.wav).hexdigest()


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    parts: tuple[str | Clip, ...]

    @property
    def text(self) -> str:
        """Its text, without clips."""
        return "\n".join(part for part in self.parts if isinstance(part, str))

    @property
    def clips(self) -> tuple[Clip, ...]:
        """Its clips that have audio."""
        return tuple(part for part in self.parts if isinstance(part, Clip) and part.wav)


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn."""

    temperature: float | None = 0.0
    """0 for the likeliest token each time; None leaves it to the endpoint: some models take no temperature."""
    max_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UserError(f"max_tokens is {self.max_tokens}; give at least 1.")
        if self.temperature is not None and not self.temperature >= 0:
            raise UserError(f"temperature is {self.temperature}; give 0 or more, or None.")


@dataclass(frozen=True)
class Request:
    """One question, which is answered by an object that fits `schema` or by the log-probabilities of `options`."""

    messages: tuple[Message, ...]
    """Messages that many requests share go first: a local model reads them once."""
    prompt: str
    """Name and version of the prompt that made the messages, as in ``explain@2``; part of the answer's key."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema (draft 2020-12) of an object."""
    options: tuple[str, ...] = ()
    """Beginnings of the assistant's turn that are compared, as in ``("yes", "no")``."""
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        if not self.messages or self.messages[-1].role != "user":
            raise UserError(f"request of {self.prompt}: its last message must be the user's.")
        if (self.schema is None) == (not self.options):
            raise UserError(f"request of {self.prompt}: give either a schema or options.")
        if self.options and (len(set(self.options)) < max(2, len(self.options)) or not all(self.options)):
            raise UserError(f"request of {self.prompt}: options {list(self.options)}; give two or more, none empty, none twice.")
        if self.schema is not None:
            check_schema(self.schema, self.prompt)


@dataclass(frozen=True)
class Reply:
    """What one exchange gave."""

    text: str = ""
    likelihoods: tuple[float, ...] = ()
    """Natural log-probability of each of the options, in their order."""
    tokens_in: int | None = None
    """None where the endpoint does not say."""
    tokens_out: int | None = None
    cut: bool = False
    """Whether `max_tokens` ended the text."""


class Unanswered(Exception):
    """There is no answer; the message says why, in one line, and holds no key."""

    def __init__(self, reason: str, kind: Literal["stable", "passing", "fatal"], reply: Reply | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        """`stable`: the same request would fare no better, so that it is kept; `passing`: it may; `fatal`: no other request of
        this run would either (a wrong key, nobody listening)."""
        self.reply = reply
        """What was received, and has to be paid, all the same (of a refusal, say)."""


@dataclass(frozen=True)
class Answer:
    """What came of a request: a value, or the reason why there is none."""

    value: dict[str, Any] | None
    """An object that fits the schema; of a request with options, each option's natural log-probability."""
    unscored: str = ""
    """Why there is no value; empty where there is one."""
    tokens_in: int = 0
    """Of all exchanges made for it in this run; as `tokens_out`, `cost` and `seconds`, 0 where it was kept from before."""
    tokens_out: int = 0
    cost: float | None = 0.0
    """In the currency of the prices; None where prices are not known."""
    seconds: float = 0.0
    cached: bool = False
    repaired: bool = False
    """Whether the first answer did not fit and the second did."""


class Provider(ABC):
    """A language model that can be asked."""

    card: ProviderCard
    model: str
    """What is asked, and where: part of every answer's key."""
    revision: str
    """Changes with the weights and with how they are asked; part of every answer's key."""
    hears: bool = False
    """Whether messages may have clips of audio."""
    ranks: bool = False
    """Whether likelihoods are those of whole options, so that these can be ranked by them."""
    free: bool = False
    """Whether asking costs no money."""
    concurrency: int = 1
    """How many exchanges may be under way at once."""

    @abstractmethod
    def reply(self, request: Request) -> Reply:
        """One exchange: the text of an answer, or the likelihoods of the options.

        Raises Unanswered. Whether the text fits the schema is not the provider's concern; it does what it can.
        """

    def tokens(self, request: Request) -> int:
        """About how many tokens the messages have: a token for every 3 characters, and 25 for every second of audio.

        On the high side for English text (about 4 characters a token), since it guards a limit on cost.
        """
        characters = sum(len(message.text) + 16 for message in request.messages) + len(json.dumps(request.schema))
        audio = sum(len(clip.wav) for message in request.messages for clip in message.clips)
        return characters // 3 + audio // (BYTES_A_SECOND // 25)


BYTES_A_SECOND = 32_000
"""Of mono WAV, 16 bits at 16 kHz."""
