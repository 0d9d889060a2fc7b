"""What streaming costs: dictionaries of two layers trained over one pass of a generator, against the parts of that.

A round trains every dictionary for some steps over freshly computed frames (`musae.streaming`); it runs the generator alone over
as many clips; and it trains equal dictionaries one after the other on as many frames that lie in memory. The ratio of the first
to the sum of the others is what sharing a pass costs. Parts take turns within seconds, so that neighbours on the machine hit all
alike; what a training needs to start is in neither.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import cast

import torch

from musae import registry
from musae.activations.tokens import Tokens
from musae.bench.rounds import Estimate, median, ratio, rotation
from musae.bench.rows import BenchRow, estimated
from musae.dictionary import TensorFrames
from musae.errors import UserError
from musae.generators.generator import Generator
from musae.methods.topk import Topk
from musae.streaming import Stream, steps
from musae.training import Trainer, batches

LAYERS = (2, 5)
GRID = tuple((layer, width, k) for layer in LAYERS for width in (1024, 8192) for k in (32, 100))
"""Eight dictionaries: the grid of the sweep `paper` (expansions 4 and 32 of 256 columns) on two layers."""
CLIPS = 32
"""Clips of a round: with 256 frames each, eight steps of 1,024."""
BATCH_CLIPS = 16
PARTS = ("streamed", "generator", "trainings")
Clock = tuple[float, float]
"""Wall-clock and processor seconds."""


@dataclass
class Rounds:
    """Seconds of each part in each round."""

    seconds: dict[str, list[Clock]] = field(default_factory=lambda: {part: [] for part in PARTS})
    loads: list[float] = field(default_factory=list)
    """Processes that wanted to run, on average over the minute before each round's end."""

    def of(self, part: str, clock: int) -> list[float]:
        """One clock of a part: 0 wall, 1 processor."""
        return [taken[clock] for taken in self.seconds[part]]

    def ratio(self, clock: int) -> Estimate:
        """Streaming over the sum of its parts."""
        apart = [a + b for a, b in zip(self.of("generator", clock), self.of("trainings", clock), strict=True)]
        return ratio(self.of("streamed", clock), apart)


class Contest:
    """The three parts over the same tokens of the embedded generator, one round after the other."""

    def __init__(self, rounds: int) -> None:
        """`rounds`: that will be asked for; one more warms up. Raises UserError where there are not enough tokens."""
        module = registry.load("generators", "nano")
        self.generator = cast(Generator, module.load())
        shipped = cast(Tokens, module.training_tokens())
        wanted = (rounds + 1) * CLIPS
        if len(shipped) < wanted:
            raise UserError(f"--rounds {rounds}: there are tokens for {len(shipped) // CLIPS - 1} rounds; take fewer.")
        self.tokens = shipped.take(slice(wanted))
        self.per_round = CLIPS * self.tokens.frames
        stream = Stream(self.generator, self.tokens, LAYERS, buffer_frames=self.per_round, batch_clips=BATCH_CLIPS)
        self.steps = self.per_round // Topk.defaults.batch_size
        self.streamed = steps(stream, [Trainer(Topk(width, k), stream.source(layer)) for layer, width, k in GRID])
        memory = {layer: TensorFrames(x) for layer, x in self._frames().items()}
        self.alone = [Trainer(Topk(width, k), memory[layer]) for layer, width, k in GRID]
        self.feeds = [batches(trainer.method, trainer.frames) for trainer in self.alone]

    def run(self, rounds: int, told: Callable[[int, int], None]) -> Rounds:
        """Time the parts in rotation; `told` of (rounds done, rounds in all)."""
        found = Rounds()
        for number in range(-1, rounds):  # the first one warms up
            generate = partial(self._generate, number + 1)
            parts: dict[str, Callable[[], None]] = {"streamed": self._stream, "generator": generate, "trainings": self._train}
            for name in rotation(PARTS, number + 1):
                taken = _timed(parts[name])
                if number >= 0:
                    found.seconds[name].append(taken)
            if number >= 0:
                found.loads.append(os.getloadavg()[0])
                told(number + 1, rounds)
        return found

    def _stream(self) -> None:
        for _ in islice(self.streamed, self.steps):
            pass

    def _generate(self, number: int) -> None:
        for start in range(number * CLIPS, (number + 1) * CLIPS, BATCH_CLIPS):
            self.generator.stream(self.tokens.tensor(slice(start, start + BATCH_CLIPS)), LAYERS)

    def _train(self) -> None:
        for trainer, feed in zip(self.alone, self.feeds, strict=True):
            for x in islice(feed, self.steps):
                trainer.advance(x)

    def _frames(self) -> dict[int, torch.Tensor]:
        parts = [
            self.generator.stream(self.tokens.tensor(slice(start, start + BATCH_CLIPS)), LAYERS)
            for start in range(0, len(self.tokens), BATCH_CLIPS)
        ]
        return {layer: torch.cat([part[layer] for part in parts]).flatten(0, 1).clone() for layer in LAYERS}


def rows(found: Rounds, frames: int, threads: int) -> list[BenchRow]:
    """Rows of the ratio, of the parts and of the machine's load; `frames`: of a round."""
    case: dict[str, int | str] = {"dictionaries": len(GRID), "layers": len(LAYERS), "n": frames, "threads": threads}
    made = []
    for clock, kind in enumerate(("wall", "cpu")):
        made.append(estimated("streaming", case, f"{kind}_ratio", "", found.ratio(clock), "derived"))
        made += [estimated(part, case, f"{kind}_s", "s", median(found.of(part, clock)), "measured") for part in PARTS]
    return [*made, estimated("machine", case, "load", "", median(found.loads), "measured")]


def _timed(part: Callable[[], None]) -> Clock:
    wall, cpu = time.perf_counter(), time.process_time()
    part()
    return time.perf_counter() - wall, time.process_time() - cpu
