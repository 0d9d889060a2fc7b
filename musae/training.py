"""One training loop for every method that learns by gradient descent.

A method subclasses `GradientMethod`: it says how it starts, what its loss is and what it freezes to. The loop does the rest:
order of frames, learning rate, Adam (`musae.kernels.adam`), figures, checkpoints, resuming, and stopping cleanly.

A checkpoint holds parameters, moments, buffers and the step; the order of frames depends on seed and step alone; so a resumed
training gives bit for bit what an uninterrupted one gives on the same machine, kernel path and number of threads.

Units: a step is one batch, a frame one row; the learning rate rises linearly over `Recipe.warmup` of the steps, stays, and falls
linearly to zero over the last `Recipe.decay`.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import ClassVar, NoReturn, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from musae.dictionary import Dictionary, FrameSource, Report
from musae.errors import UserError
from musae.files import atomic_path
from musae.kernels import factored
from musae.kernels.adam import adam, sum_of
from musae.kernels.dispatch import path_for
from musae.kernels.factored import Outer
from musae.metrics_log import JsonLines

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
CHECKPOINTS = 10
"""Checkpoints in a run: each costs milliseconds, and an interrupted run loses at most a tenth."""
REPORTS = 50
"""Reports in a run: enough for a curve."""


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to learn."""

    batch_size: int
    learning_rate: float
    epochs: int = 1
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises: Adam's second moment is noise at first."""
    decay: float = 0.3
    """Share of the steps, the last ones, over which it falls to 0."""

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step (0, 1, ...)."""
        rising = (step + 1) / max(1.0, self.warmup * steps)
        falling = (steps - step) / max(1.0, self.decay * steps)
        return self.learning_rate * min(1.0, rising, falling)


class GradientMethod(Dictionary):
    """A dictionary that learns by `train`. Subclasses give `recipe`, `start`, `loss` and `freeze`."""

    unit_norm: ClassVar[tuple[str, ...]] = ()
    """Names of the parameters whose rows are kept at norm 1."""

    def __init__(self) -> None:
        super().__init__()
        self.parameters: dict[str, Tensor] = {}
        """Learnt tensors, float32, requiring gradients; set by `start`."""
        self.buffers: dict[str, Tensor] = {}
        """State that is not learnt by gradient: input scaling, counters; set by `start`, kept in checkpoints."""

    @property
    @abstractmethod
    def recipe(self) -> Recipe:
        """Batch size, learning rate and their like, from the hyper-parameters."""

    @abstractmethod
    def start(self, frames: FrameSource) -> None:
        """Set `parameters` and `buffers`, from `seed` and (a sample of) the frames."""

    @abstractmethod
    def loss(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Scalar loss of a batch of raw frames ``[b, d]``, and figures to report (scalars; averaged between reports).

        Called once a step: it may update `buffers`.
        """

    def fit(self, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> Self:
        """Learn by `train`; see `Dictionary.fit` for the arguments."""
        self.check_sizes()
        seen = train(self, frames, folder=folder, reports=reports)
        self.trained = {"frames": seen, "store": frames.identity}
        return self.freeze()


def train(method: GradientMethod, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> int:
    """Run the whole training of `method`, or what is left of it; returns the number of frames seen, over all epochs.

    With a `folder`, figures go to ``log.jsonl`` and the state to ``checkpoint.safetensors`` there; a checkpoint that is found is
    continued. On SIGINT the state is saved after the present step and KeyboardInterrupt raised.

    Raises UserError for NaN or infinite frames or loss, naming step and shard (the last good checkpoint stays), and for a
    checkpoint that is damaged or of another training.
    """
    recipe = method.recipe
    steps = recipe.epochs * math.ceil(frames.frames / recipe.batch_size)
    method.start(frames)
    moments = {f"{kind}.{name}": torch.zeros_like(p) for name, p in method.parameters.items() for kind in ("avg", "sq")}
    checkpoint = Checkpoint(method, moments, frames, folder / CHECKPOINT) if folder else None
    first = checkpoint.restore() if checkpoint else 0
    for tensor in method.parameters.values():
        tensor.requires_grad_()
    if folder:
        reports = (JsonLines(folder / LOG, first), *reports)
    window = Window()

    with deferred_interrupt() as interrupted:
        batches = frames.batches(recipe.batch_size, seed=method.seed, epochs=recipe.epochs, start_step=first)
        for number, x in enumerate(batches, start=first):
            rate = recipe.rate(number, steps)
            figures = step(method, x, moments, number + 1, rate)
            if figures is None:
                _stop(method, frames, number, checkpoint)
            done = number + 1
            window.add(len(x), figures)
            if done * REPORTS // steps > number * REPORTS // steps:
                line = {"step": done, "steps": steps, "learning_rate": rate, **window.take()}
                for report in reports:
                    report(line)
            if checkpoint and (done * CHECKPOINTS // steps > number * CHECKPOINTS // steps or interrupted.is_set()):
                if not all(bool(p.isfinite().all()) for p in method.parameters.values()):
                    _stop(method, frames, number, checkpoint)
                checkpoint.save(done)
            if interrupted.is_set():
                raise KeyboardInterrupt
    return recipe.epochs * frames.frames


def step(
    method: GradientMethod, x: Tensor, moments: Mapping[str, Tensor], number: int, rate: float
) -> Mapping[str, Tensor] | None:
    """One step of training on a batch ``[b, d]``, the `number`-th (from 1): loss, gradients, Adam with learning rate `rate`.

    Weight gradients are kept as factors and summed by the optimiser while it updates a row, unless a parameter has others
    besides. `moments` holds ``avg.<parameter>`` and ``sq.<parameter>``. Returns the figures, loss among them; or None, with
    nothing changed but buffers, where the loss is not finite.
    """
    with factored.collect() as factors:
        loss, figures = method.loss(x)
        if not math.isfinite(float(loss.detach())):
            return None
        torch.autograd.backward(loss)
    for name, p in method.parameters.items():
        gradient = _gradient(p, factors.of(p))
        if gradient is not None:
            adam(p.detach(), gradient, moments[f"avg.{name}"], moments[f"sq.{name}"], number, rate, name in method.unit_norm)
            p.grad = None
    return {"loss": loss.detach(), **figures}


def _gradient(p: Tensor, outers: Sequence[Outer]) -> Tensor | Sequence[Outer] | None:
    """What `adam` is to be given: the dense gradient, its factors, or the sum of both."""
    if p.grad is None or not outers:
        return outers or p.grad
    path = path_for(p)
    return sum_of([p.grad, *(path.outer(o.transposed, o.weights, o.rows, p.dtype) for o in outers)])


class Checkpoint:
    """The state of a training in one file, written atomically."""

    def __init__(self, method: GradientMethod, moments: dict[str, Tensor], frames: FrameSource, path: Path) -> None:
        self.path = path
        self.groups = {"parameter": method.parameters, "moment": moments, "buffer": method.buffers}
        self.training = {"method": method.name, "config": method.config(), "store": frames.identity}
        """What a checkpoint must agree with to be continued."""

    def save(self, step: int) -> None:
        """Write the state after `step` steps."""
        tensors = {f"{kind}/{name}": t.detach() for kind, group in self.groups.items() for name, t in group.items()}
        with atomic_path(self.path) as temporary:
            save_file(tensors, temporary, metadata={"training": json.dumps(self.training), "step": str(step)})

    def restore(self) -> int:
        """Load the state in place, where there is one; returns the number of steps done."""
        if not self.path.exists():
            return 0
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata()
                training, step = json.loads(metadata["training"]), int(metadata["step"])
                if training == json.loads(json.dumps(self.training)):
                    for kind, group in self.groups.items():
                        for name, tensor in group.items():
                            tensor.copy_(file.get_tensor(f"{kind}/{name}"))
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
            raise UserError(f"{self.path}: not a checkpoint, or damaged ({error}); delete it to train from the start.") from error
        if training != json.loads(json.dumps(self.training)):
            raise UserError(f"{self.path}: it belongs to another training, {training}; delete it or give another folder.")
        return step


class Window:
    """Means of figures since the last report, and the speed."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self._restart()

    def add(self, frames: int, figures: Mapping[str, Tensor]) -> None:
        """Count one step."""
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, torch.zeros(())) + value
        self.frames += frames
        self.steps += 1

    def take(self) -> dict[str, float]:
        """The means, and frames (tokens) a second; start anew."""
        means = {name: float(total) / self.steps for name, total in self.sums.items()}
        means["tokens_per_s"] = self.frames / (time.perf_counter() - self.since)
        self._restart()
        return means

    def _restart(self) -> None:
        self.sums.clear()
        self.frames = self.steps = 0
        self.since = time.perf_counter()


@contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Turn SIGINT into an event for the length of the block (in the main thread; elsewhere signals do not arrive)."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def note(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt  # the second time: at once
        interrupted.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _stop(method: GradientMethod, frames: FrameSource, step: int, checkpoint: Checkpoint | None) -> NoReturn:
    """Raise the UserError for a loss, frame or parameter that is not finite."""
    where = getattr(frames, "locate_nonfinite", str)()
    cause = f"NaN or infinite frames in {where}; harvest it again" if where else "no bad frame was found; lower the learning rate"
    kept = f" The last good state is kept in {checkpoint.path}." if checkpoint and checkpoint.path.exists() else ""
    raise UserError(f"{method.name}: the training is not finite at step {step + 1}: {cause}.{kept}")
