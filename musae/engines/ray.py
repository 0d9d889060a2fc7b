"""The Ray engine: clips, shards, fits and scores on the workers of a Ray cluster, or of one that is started on this machine.

``RAY_ADDRESS`` names a running cluster; without it, one is started here and ends with the command. Every machine of a cluster
sees the run's folder under the same path (of `musae harvest`, it may be a URL), and has this package and the generator's weights.

Workers render and encode clips on one CPU each; where the cluster has GPUs, shards and fits take one each. All of them are cells
that can be done again (`Piece`, `harvest.Cell`, `evaluation.Job`): a cell whose worker dies is tried again, `RETRIES` times at
most, and what its predecessor left on disk is kept. Given the same number of threads, numbers are those of the local engine:
cells hold the same batches.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from musae.activations import harvest, tokens
from musae.activations.harvest import Cell, Part
from musae.activations.tokens import Codec, Piece, Tokens
from musae.card import SuiteCard
from musae.corpora.track import Corpus
from musae.engines.local import Watch
from musae.errors import UserError
from musae.evaluation import Job, do, prepare
from musae.generators.generator import Generator
from musae.provenance import cores
from musae.workspace import Workspace

RETRIES = 5
"""Times that a cell is tried again after its worker died; a cell that kills each of its workers ends the run."""

AHEAD = 2
"""Cells a worker that are handed out, or done and not yet drawn: bounds the memory of the driver."""


class Cluster:
    """A connection to a cluster, for the length of a ``with`` block. Satisfies `musae.workspace.Engines`."""

    def __init__(self, workers: int | None = None) -> None:
        """`workers`: at most so many at once; default one a CPU. Raises UserError where Ray is missing or cannot be reached."""
        self.ray = _ray()
        self.wanted = workers
        self._pools: dict[bool, list[Any]] = {}

    def __enter__(self) -> Cluster:
        address = os.environ.get("RAY_ADDRESS")
        quiet = {"logging_level": "ERROR", "log_to_driver": False}
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own, 15, starves them beside anything else
        try:
            if address:
                self.ray.init(address=address, **quiet)
            else:
                self.ray.init(address="local", num_cpus=self.wanted or cores(), include_dashboard=False, **quiet)
        except Exception as error:  # Ray raises errors of many kinds
            if not address:
                raise UserError(f"ray: a cluster cannot be started on this machine ({_line(error)}).") from error
            raise UserError(
                f"ray: RAY_ADDRESS = {address} cannot be reached ({_line(error)}); check that it runs, and that RAY_AUTH_MODE "
                f"(token or disabled) is the same here as it was for `ray start`."
            ) from error
        found = self.ray.cluster_resources()
        self.gpus = int(found.get("GPU", 0))
        self.workers = self.wanted or max(1, int(found.get("CPU", 1)))
        return self

    def __exit__(self, *_: object) -> None:
        for actor in (actor for pool in self._pools.values() for actor in pool):
            self.ray.kill(actor)
        self.ray.shutdown()

    def tokenizer(self, generator: Callable[[], Generator], corpus: Callable[[], Corpus]) -> tokens.Engine:
        """Renders and encodes clips."""

        def engine(_: Codec, __: Corpus, pieces: Sequence[Piece]) -> Iterator[Tokens]:
            return self._ordered(_encode, pieces, (generator, corpus), gpu=False)

        return engine

    def harvester(self, generator: Callable[[], Generator]) -> harvest.Engine:
        """Computes shards of activations."""

        def engine(_: Generator, cells: Iterable[Cell]) -> Iterator[dict[int, Part]]:
            return self._ordered(Cell.parts, cells, (generator,), gpu=True)

        return engine

    def run(self, suite: SuiteCard, root: Path, todo: Sequence[Job], *, watch: Watch) -> None:
        """Do all jobs; what they read is made first. Raises what the first failing job raised."""
        prepare(Workspace(suite, root, engines=self))
        events = self.ray.util.queue.Queue(actor_options={"num_cpus": 0})
        waiting, done, running = list(todo), set[Job](), dict[Any, tuple[Job, Any, deque[Any]]]()
        idle = {gpu: deque(self._actors(gpu)) for gpu in (True, False)} if self.gpus else {}
        shared = deque() if idle else deque(self._actors(gpu=False))
        while waiting or running:
            for job in [j for j in waiting if j.needs is None or j.needs in done or j.needs not in todo]:
                free = idle.get(job.corpus is None, shared)  # fits may use a GPU
                if free:
                    waiting.remove(job)
                    actor = free.popleft()
                    running[actor.work.remote(_do, (suite, root, job, events), {})] = job, actor, free
            finished, _ = self.ray.wait(list(running), num_returns=1, timeout=0.5)
            for event in events.get_nowait_batch(events.qsize()):
                watch(*event)
            for reference in finished:
                job, actor, free = running.pop(reference)
                self._result(reference)
                free.append(actor)
                done.add(job)
                watch("done", job, {})

    def _actors(self, gpu: bool, most: int | None = None) -> list[Any]:
        """Actors that stay as long as the connection: one a worker, or one a GPU where that is asked for; at most `most`."""
        gpu = gpu and self.gpus > 0
        found = self._pools.setdefault(gpu, [])
        count = min(self.workers, self.gpus) if gpu else self.workers
        kind = self.ray.remote(_Worker).options(
            num_cpus=0 if gpu else 1, num_gpus=int(gpu), max_restarts=RETRIES, max_task_retries=RETRIES
        )
        count = count if most is None else min(count, most)
        while len(found) < count:
            found.append(kind.remote())
        return found[:count]

    def _ordered(
        self, function: Callable[..., Any], items: Iterable[Any], makers: Sequence[Callable[[], Any]], gpu: bool
    ) -> Iterator[Any]:
        """``function(item, *made)`` of each item, in order; a worker makes what `makers` make once, and keeps it.

        A worker that dies is started again, with the item that it had.
        """
        source = iter(items)
        named = {hashlib.sha256(self.ray.cloudpickle.dumps(maker)).hexdigest(): maker for maker in makers}
        queued = deque(islice(source, self.workers))
        idle = deque(self._actors(gpu, len(queued)))
        most = AHEAD * max(1, len(idle))
        working: dict[Any, tuple[int, Any]] = {}
        finished: dict[int, Any] = {}
        sent = drawn = 0
        while queued or working or finished:
            while queued and idle and sent - drawn < most:
                actor = idle.popleft()
                working[actor.work.remote(function, queued.popleft(), named)] = sent, actor
                sent += 1
                queued.extend(islice(source, 1))
            if working and drawn not in finished:
                [done], _ = self.ray.wait(list(working), num_returns=1)
                number, actor = working.pop(done)
                finished[number] = self._result(done)
                idle.append(actor)
            while drawn in finished:
                yield finished.pop(drawn)
                drawn += 1

    def _result(self, reference: Any) -> Any:
        """What a task gave. Raises what it raised itself, or UserError for workers that died."""
        failures = self.ray.exceptions
        try:
            return self.ray.get(reference)
        except failures.RayTaskError as error:
            raise error.cause from error
        except (failures.WorkerCrashedError, failures.RayActorError, failures.OutOfMemoryError) as error:
            raise UserError(
                f"ray: a worker died {RETRIES + 1} times over one cell ({_line(error)}); what is done is kept: give it more "
                f"memory, or fewer --workers, and run the same command again."
            ) from error


class _Worker:
    """An actor: does items with what it has made for them."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self.made: dict[str, Any] = {}

    def work(self, function: Callable[..., Any], item: Any, makers: Mapping[str, Callable[[], Any]]) -> Any:
        # two large generators may not fit beside each other
        kept = {key: made for key, made in self.made.items() if key in makers}
        self.made = kept
        for key in makers.keys() - kept.keys():
            kept[key] = makers[key]()
        return function(item, *(kept[key] for key in makers))


def _encode(piece: Piece, generator: Generator, corpus: Corpus) -> Tokens:
    return piece.tokens(generator, corpus, workers=1)


def _do(item: tuple[SuiteCard, Path, Job, Any]) -> None:
    """A job of a suite."""
    suite, root, job, events = item
    events.put(("started", job, {}))

    def report(figures: Mapping[str, float]) -> None:
        events.put(("report", job, dict(figures)))

    do(_workspace(suite.model_dump_json(), root), job, reports=[report])


@cache
def _workspace(suite: str, root: Path) -> Workspace:
    """One for all jobs of a worker: it keeps what it has read."""
    return Workspace(SuiteCard.model_validate_json(suite), root)


def _ray() -> Any:
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.util.queue")
    except ImportError as error:
        raise UserError("engine ray: the package is not installed; pip install 'musae[ray]', or take --engine local.") from error
    return ray


def _line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
