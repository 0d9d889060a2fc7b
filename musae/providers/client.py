"""Asks a provider: answers in order, checked, kept and counted; whatever goes wrong is `unscored`, with a reason."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock

from musae.providers.budget import FREE, Budget, Estimate, Totals
from musae.providers.cache import AnswerCache, key
from musae.providers.provider import Answer, Clip, Message, Provider, Reply, Request, Unanswered
from musae.providers.schema import LONGEST, parse

REPAIR = "That answer does not fit the schema: {problem}. Answer again."
"""What a model is told of an answer that does not fit; raise `musae.providers.cache.FORM` when it changes."""

Progress = Callable[[int, int], None]
"""Done, of how many."""


class Client:
    """What a task asks through: a provider with a cache, a budget, and a say on what leaves this machine."""

    def __init__(
        self,
        provider: Provider,
        cache: AnswerCache | None = None,
        budget: Budget | None = None,
        *,
        metadata: bool = False,
    ) -> None:
        """`cache`: None keeps nothing. `metadata`: whether the metadata of clips are sent, as text beside the clip.

        `budget`: of a provider that costs nothing the prices are 0, whatever it says.
        """
        self.provider, self.cache, self.metadata = provider, cache, metadata
        self.budget = Budget(FREE) if provider.free else budget or Budget()
        self.totals = Totals()
        self._lock = Lock()

    def complete(self, requests: Sequence[Request], progress: Progress = lambda done, total: None) -> list[Answer]:
        """The answer to each request, in order. Equal requests are asked once; after a `fatal` failure nothing more is asked.

        `progress` is told after each answer how many of the distinct requests are done.
        """
        sent = [self._as_sent(request) for request in requests]
        names = [key(self.provider, request) for request in sent]
        asked = dict(zip(names, sent, strict=True))
        run = _Run()
        found: dict[str, Answer] = {}

        def keep(each: Iterable[Answer]) -> None:
            for name, answer in zip(asked, each, strict=True):
                found[name] = answer
                progress(len(found), len(asked))

        if self.provider.concurrency == 1:
            keep(self._answer(name, asked[name], run) for name in asked)
        else:
            with ThreadPoolExecutor(self.provider.concurrency) as pool:
                keep(pool.map(lambda name: self._answer(name, asked[name], run), asked))
        answers, seen = [], set()
        for name in names:
            again = name in seen
            answers.append(replace(found[name], tokens_in=0, tokens_out=0, cost=0.0, seconds=0.0) if again else found[name])
            seen.add(name)
        self.totals.add(answers)
        return answers

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """What `complete` would ask for, without asking: for a dry run."""
        asked = {key(self.provider, request): request for request in map(self._as_sent, requests)}
        left = [request for name, request in asked.items() if not (self.cache and self.cache.get(name, request))]
        read = sum(map(self.provider.tokens, left))
        written = sum(map(_most_written, left))
        prices = self.budget.prices
        return Estimate(len(asked), len(asked) - len(left), read, written, prices.of(read, written) if prices else None)

    def _as_sent(self, request: Request) -> Request:
        """The request with metadata of clips as text where they may be sent, and without them otherwise."""
        return replace(request, messages=tuple(self._message(message) for message in request.messages))

    def _message(self, message: Message) -> Message:
        parts: list[str | Clip] = []
        for part in message.parts:
            if isinstance(part, str):
                parts.append(part)
                continue
            if part.wav:
                parts.append(Clip(part.wav))
            if self.metadata and part.metadata:
                parts.append(json.dumps(dict(part.metadata), ensure_ascii=False))
        return Message(message.role, tuple(parts))

    def _answer(self, name: str, request: Request, run: _Run) -> Answer:
        if self.cache and (kept := self.cache.get(name, request)):
            return kept
        call = _Call(self, run)
        start = time.perf_counter()
        stable = True
        try:
            if any(message.clips for message in request.messages) and not self.provider.hears:
                raise Unanswered(f"{self.provider.model} hears no audio", "passing")
            answer = self._options(request, call) if request.options else self._object(request, call)
        except Unanswered as failure:
            if failure.kind == "fatal":
                run.over = str(failure)
            stable = failure.kind == "stable"
            answer = Answer(None, str(failure))
        answer = replace(
            answer,
            tokens_in=call.tokens_in,
            tokens_out=call.tokens_out,
            cost=call.cost,
            seconds=time.perf_counter() - start if call.count else 0.0,
        )
        if self.cache and stable:
            self.cache.put(name, request, answer, self.provider.model)
        return answer

    def _options(self, request: Request, call: _Call) -> Answer:
        found = call.make(request).likelihoods
        return Answer(dict(zip(request.options, found, strict=True)))

    def _object(self, request: Request, call: _Call) -> Answer:
        """The object in the first reply that has one that fits; a reply that does not is sent back once with what is wrong."""
        schema = request.schema or {}
        reply = call.make(request)
        value, wrong = parse(reply.text, schema)
        if value is not None:
            return Answer(value)
        if reply.cut:
            raise Unanswered(f"the answer was cut off after {request.sampling.max_tokens} tokens", "stable")
        turns = (Message("assistant", (reply.text or "{}",)), Message("user", (REPAIR.format(problem=wrong),)))
        value, wrong = parse(call.make(replace(request, messages=request.messages + turns)).text, schema)
        if value is None:
            raise Unanswered(f"no valid answer after one repair: {wrong}"[:LONGEST], "stable")
        return Answer(value, repaired=True)


@dataclass
class _Run:
    """What the requests of one `complete` share."""

    over: str = ""
    """Why nothing more is asked."""


class _Call:
    """The exchanges of one request, and what they used."""

    def __init__(self, client: Client, run: _Run) -> None:
        self.client, self.run = client, run
        self.count = self.tokens_in = self.tokens_out = 0
        self.cost: float | None = 0.0

    def make(self, request: Request) -> Reply:
        """One exchange within the budget. Raises Unanswered."""
        if self.run.over:
            raise Unanswered(self.run.over, "passing")
        provider, budget = self.client.provider, self.client.budget
        tokens_in = provider.tokens(request)
        reserved = budget.reserve(tokens_in, _most_written(request))
        used: Reply | None = None
        try:
            with self.client._lock:
                self.client.totals.calls += 1
            self.count += 1
            used = provider.reply(request)
            return used
        except Unanswered as failure:
            used = failure.reply
            raise
        finally:
            self._count(used, tokens_in, reserved)

    def _count(self, reply: Reply | None, estimated: int, reserved: float) -> None:
        """Count what the endpoint says was used; what it does not say is estimated, and nothing is counted where nothing came."""
        read = written = 0
        if reply is not None:
            read = estimated if reply.tokens_in is None else reply.tokens_in
            written = len(reply.text) // 3 + 1 if reply.tokens_out is None else reply.tokens_out
        self.tokens_in += read
        self.tokens_out += written
        cost = self.client.budget.settle(reserved, read, written)
        self.cost = None if cost is None or self.cost is None else self.cost + cost


def _most_written(request: Request) -> int:
    """The most tokens that one reply may have."""
    return 1 if request.options else request.sampling.max_tokens
