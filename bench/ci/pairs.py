"""Timing two checkouts side by side: two workers on one device, one of which idles while the other is timed.

A comparison consists of `RESTARTS` rounds, each with two fresh worker processes. In a round every bench is prepared on both sides
and sampled in pairs, in the order ABBA ABBA ... with a coin deciding which side is A, benches in random order. A sample repeats a
call until it takes about `SAMPLE_SECONDS`; the number of repeats is the same on both sides and in all rounds.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from musae.bench.ci.checkouts import environment
from musae.errors import UserError

RESTARTS = 6
"""Fresh pairs of processes: what is peculiar to one process must not pass for a difference between checkouts."""
SAMPLE_SECONDS = 0.02
"""Long against the clock's and the pipe's jitter, short against the time in which neighbours come and go."""
PATIENCE = 900.0
"""Seconds to wait for an answer: a first call may compile a kernel or build an extension."""
PAD = 4096
"""Processes get an environment of random size, up to so many bytes: it moves the stack, and thereby timings (Mytkowicz et al.
2009, "Producing wrong data without doing anything obviously wrong!"), which must not depend on the checkouts' paths."""

Side = Literal["base", "head"]
SIDES: tuple[Side, Side] = ("base", "head")
Show = Callable[[str, int, int], None]
"""Told what is being done, how many of it are done, and of how many."""


@dataclass
class Bench:
    """What was measured of one bench."""

    name: str
    wall: dict[Side, list[list[float]]] = field(default_factory=lambda: {"base": [], "head": []})
    """Wall seconds of one call, for each restart and pair."""
    cpu: dict[Side, list[list[float]]] = field(default_factory=lambda: {"base": [], "head": []})
    """CPU seconds of one call; empty on a GPU."""
    repeats: int = 0
    """Calls in a sample."""
    lacking: set[Side] = field(default_factory=set)
    """Sides that do not have this bench."""
    errors: dict[Side, str] = field(default_factory=dict)
    """Why a side that has it cannot run it."""

    @property
    def times(self) -> dict[Side, list[list[float]]]:
        """What counts: CPU time where there is one, so that neighbours on a shared machine count less; else the device's time."""
        return self.cpu if self.cpu["head"] else self.wall

    @property
    def compared(self) -> bool:
        """Whether both sides were measured."""
        return not self.lacking and not self.errors


class Worker:
    """One side's process. `hello` is what it says at the start; see `musae.bench.ci.worker`."""

    def __init__(self, side: Side, checkout: Path, device: str) -> None:
        self.side, self.checkout, self.device = side, checkout, device
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._buffer = b""
        script = Path(__file__).with_name("worker.py")
        # a session of its own: Ctrl-C reaches this process alone, which then ends its workers
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script), str(checkout), device],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, cwd=checkout, start_new_session=True,
            env={**environment(checkout), "MUSAE_CI_PAD": "x" * random.randrange(PAD)},
        )  # fmt: skip
        self.alive = True
        self.hello: dict[str, Any] = {}

    def ready(self) -> None:
        """Wait until it listens. Raises UserError where it cannot start, or has imported another musae."""
        self.hello = self.answer()
        if "error" in self.hello:
            raise UserError(
                f"{self.checkout}: the {self.side} checkout's kernels cannot be timed ({self.hello['error']}); repair it first."
            )
        if not Path(self.hello["musae"]).resolve().is_relative_to(self.checkout.resolve()):
            raise UserError(
                f"{self.checkout}: Python imports {self.hello['musae']} for the {self.side}; look at your .pth files."
            )

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """Send a request, and wait for its answer."""
        self.request(do, **more)
        return self.answer()

    def request(self, do: str, **more: Any) -> None:
        """Send a request; `answer` must follow."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has died, which `answer` will say
            self._process.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The next answer; a worker that dies or keeps silent gives an ``error``, and is not `alive` any more."""
        assert self._process.stdout is not None
        until = time.monotonic() + PATIENCE
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                self.alive = False
                self._kill()
                return {"error": f"no answer within {PATIENCE:.0f} s"}
            chunk = os.read(self._process.stdout.fileno(), 2**16)
            if not chunk:
                return self._died()
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process, and what it has started (a compiler, for instance)."""
        self.alive = False
        self._kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)

    def _died(self) -> dict[str, Any]:
        self.alive = False
        code = self._process.wait()
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        return {"error": said[-1] if said and code > 0 else f"its process ended with code {code}"}


def compare(
    checkouts: Mapping[Side, Path], device: str, *, pairs: int, choose: Callable[[Collection[str]], Collection[str]], show: Show
) -> tuple[list[Bench], str]:
    """Measure both checkouts: the benches that were measured or should have been, and the device in words.

    `pairs`: of each bench in each restart. `choose`: picks benches from the names that either checkout has, once.
    Raises UserError where a checkout's workers cannot start.
    """
    benches: dict[str, Bench] = {}
    words = ""
    for restart in range(RESTARTS):
        with _Both(checkouts, device) as both:
            if not restart:
                has = {side: both[side].hello["benches"] for side in SIDES}
                words = both["head"].hello["device"]
                for name in choose([*has["head"], *(name for name in has["base"] if name not in has["head"])]):
                    benches[name] = Bench(name, lacking={side for side in SIDES if name not in has[side]})
            names = [name for name, bench in benches.items() if not bench.errors]
            random.shuffle(names)
            for done, name in enumerate(names):
                show("speed", restart * len(benches) + done, RESTARTS * len(benches))
                _round(benches[name], both, pairs)
    show("speed", RESTARTS * len(benches), RESTARTS * len(benches))
    return list(benches.values()), words


class _Both:
    """Workers of both sides; one that has died is replaced when it is asked for."""

    def __init__(self, checkouts: Mapping[Side, Path], device: str) -> None:
        self._checkouts, self._device = checkouts, device
        self._workers: dict[Side, Worker] = {}

    def __enter__(self) -> _Both:
        try:
            for side in random.sample(SIDES, 2):
                self._workers[side] = Worker(side, self._checkouts[side], self._device)
            for worker in self._workers.values():
                worker.ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers.values():
            worker.close()

    def __getitem__(self, side: Side) -> Worker:
        if not self._workers[side].alive:
            self._workers[side].close()
            self._workers[side] = Worker(side, self._checkouts[side], self._device)
            self._workers[side].ready()
        return self._workers[side]

    def answer(self, side: Side) -> dict[str, Any]:
        """The answer to a side's request, from the worker that got it."""
        return self._workers[side].answer()


def _round(bench: Bench, both: _Both, pairs: int) -> None:
    """One restart's pairs of one bench; of a new one, the new side alone. A side that fails is noted, and nothing kept."""
    if "head" in bench.lacking:
        return
    seconds = []
    sides = [side for side in SIDES if side not in bench.lacking]
    for side in sides:
        both[side].request("prepare", bench=bench.name)
    for side in sides:
        answer = both.answer(side)
        if "error" in answer:
            bench.errors[side] = answer["error"]
        else:
            seconds.append(answer["seconds"])
    if bench.errors:
        return
    bench.repeats = bench.repeats or max(1, round(SAMPLE_SECONDS / max(seconds)))
    wall: dict[Side, list[float]] = {"base": [], "head": []}
    cpu: dict[Side, list[float]] = {"base": [], "head": []}
    for side in _order(pairs):
        if side not in sides:
            continue
        answer = both[side].ask("sample", calls=bench.repeats)
        if "error" in answer:
            bench.errors[side] = answer["error"]
            return
        wall[side].append(answer["wall"])
        if answer["cpu"] is not None:
            cpu[side].append(answer["cpu"])
    for side in SIDES:
        if wall[side]:
            bench.wall[side].append(wall[side])
        if cpu[side]:
            bench.cpu[side].append(cpu[side])


def _order(pairs: int) -> Iterator[Side]:
    """ABBA ABBA ...: a drift that is linear in time cancels."""
    first = random.sample(SIDES, 2)
    for pair in range(pairs):
        yield from first if pair % 2 == 0 else reversed(first)
