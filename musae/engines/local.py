"""The local engine: jobs in worker processes on this machine, one thread each (`musae.workspace.one_thread`).

A job waits for the one that it needs; a job that lies on disk is skipped. A job that fails stops the run: what is done stays
done. Workers end with their parent, however it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from joblib.externals.loky import get_reusable_executor

from musae.card import SuiteCard
from musae.evaluation import Job, do, prepare
from musae.workspace import Workspace

Watch = Callable[[str, Job, Mapping[str, float]], None]
"""Receives (event, job, figures): ``started`` (none), ``report`` (a training's figures), ``done`` (none)."""


def run(suite: SuiteCard, root: Path, todo: Sequence[Job], *, workers: int, watch: Watch) -> None:
    """Do all jobs; what they read is harvested first, in this process. Raises what the first failing job raised."""
    prepare(Workspace(suite, root))
    get_reusable_executor().shutdown()  # the renderers have done their work; free their memory
    context = multiprocessing.get_context("spawn")
    events: Any = context.Queue()
    waiting, running, done = list(todo), dict[Future[None], Job](), set[Job]()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(suite, root, events)) as pool:
        try:
            while waiting or running:
                for job in [j for j in waiting if j.needs is None or j.needs in done or j.needs not in todo]:
                    waiting.remove(job)
                    running[pool.submit(_work, job)] = job
                finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                _drain(events, watch)
                for future in finished:
                    job = running.pop(future)
                    future.result()
                    done.add(job)
                    watch("done", job, {})
        except BaseException:
            for process in list((pool._processes or {}).values()):  # a worker in the middle of a fit would hold up the exit
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_workspace: Workspace
_events: Any


def _begin(suite: SuiteCard, root: Path, events: Any) -> None:
    global _workspace, _events
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _workspace, _events = Workspace(suite, root), events


def _end_with_parent() -> None:
    """A worker whose parent was killed would work on, unseen, beside the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: Job) -> None:
    _events.put(("started", job, {}))
    do(_workspace, job, reports=[lambda figures: _events.put(("report", job, dict(figures)))])


def _drain(events: Any, watch: Watch) -> None:
    while True:
        try:
            watch(*events.get_nowait())
        except queue.Empty:
            return
