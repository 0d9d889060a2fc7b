"""One training loop for every method that learns by gradient descent.

A method subclasses `GradientMethod`: it says how it starts, what its loss is and what it freezes to. The loop does the rest:
order of frames, learning rate, Adam (`musae.kernels.adam`), weight averages, figures, checkpoints, resuming, stopping cleanly,
and sharing batches between processes (`musae.parallel`).

A checkpoint holds parameters, moments, averages, buffers and the step; the order of frames depends on seed and step alone; so a
resumed training gives bit for bit what an uninterrupted one gives on the same machine, kernel path and number of threads.

Units: a step is one batch, a frame one row; `musae.recipe` says how long and how fast.
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
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, NoReturn, Self, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from musae import parallel
from musae.activations.shuffle import sequences_per_clip
from musae.dictionary import Dictionary, FrameSource, Report, SequenceSource
from musae.errors import UserError
from musae.files import atomic_path
from musae.kernels import factored
from musae.kernels.adam import adam, sum_of
from musae.kernels.dispatch import path_for
from musae.kernels.factored import Outer
from musae.metrics_log import JsonLines
from musae.recipe import Recipe

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
CHECKPOINTS = 10
"""Checkpoints in a run: each costs milliseconds, and an interrupted run loses at most a tenth."""
REPORTS = 50
"""Reports in a run: enough for a curve."""


class GradientMethod(Dictionary):
    """A dictionary that learns by `train`. Subclasses give `start`, `loss` and `freeze`, and may override the other hooks.

    The constructor takes `width`, `k`, `seed`, a method's own hyper-parameters, and the options of `Recipe` by name.
    """

    defaults: ClassVar[Recipe] = Recipe()
    """The recipe of the method, of which the constructor's options replace a part."""
    unit_norm: tuple[str, ...] = ()
    """Names of the parameters whose rows are kept at norm 1."""
    fixed: ClassVar[tuple[str, ...]] = ()
    """Names of the parameters that are not learnt."""
    sequence: ClassVar[int] = 1
    """Frames in each row of a batch. Above 1 they follow each other in one clip, and batches are ``[b, sequence, d]``, with
    b * sequence frames in all."""

    def __init__(self, width: int = 2048, k: int = 32, seed: int = 0, **recipe: Any) -> None:
        """`width`, `k`: as in `Dictionary`; `seed`: of the initial weights and of the order of frames; `recipe`: see `Recipe`."""
        super().__init__()
        self.width = width
        self.k = k
        self.seed = seed
        self.recipe = self.defaults.changed(self.name, recipe)
        if self.recipe.resample and self.fixed:
            raise UserError(f"{self.name}: resample = {self.recipe.resample} would change what is fixed here; leave it at 0.")
        self.parameters: dict[str, Tensor] = {}
        """Learnt tensors, float32, requiring gradients; set by `start`."""
        self.buffers: dict[str, Tensor] = {}
        """State that is not learnt by gradient: input scaling, counters; set by `start`, kept in checkpoints."""
        self.progress = 0.0
        """Share of the run's steps that are done; set by the loop before each call of `loss`."""

    def config(self) -> dict[str, Any]:
        return {**super().config(), **asdict(self.recipe)}

    @abstractmethod
    def start(self, frames: FrameSource) -> None:
        """Set `parameters` and `buffers`, from `seed` and (a sample of) the frames."""

    @abstractmethod
    def loss(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Scalar loss of frames ``[b, d]`` (or of sequences), a mean over them, and figures to report: scalars, averaged between
        reports.

        Called once for each part of a batch; it may update `buffers`, by what all processes found (`musae.parallel`).
        """

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step (0, 1, ...) of so many."""
        return self.recipe.rate(step, steps)

    def constrain(self) -> None:
        """Called after each step, for constraints on the parameters beyond `unit_norm`."""

    def resample(self, x: Tensor, moments: Mapping[str, Tensor]) -> None:
        """Start dead latents anew, given a batch ``[b, d]``, and clear their moments; called as `Recipe.resample` says."""
        raise UserError(
            f"{self.name}: resample = {self.recipe.resample}, and this method cannot start latents anew; leave it at 0."
        )

    def fit(self, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> Self:
        """Learn by `train`; see `Dictionary.fit` for the arguments."""
        self.check_sizes()
        train(self, frames, folder=folder, reports=reports)
        return self.freeze()


def train(method: GradientMethod, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()) -> None:
    """Run the whole training of `method`, or what is left of it. `Trainer` says what is kept and raised."""
    trainer = Trainer(method, frames, folder=folder, reports=reports)
    with deferred_interrupt() as interrupted:
        for x in batches(method, frames, trainer.done):
            trainer.advance(x)
            if parallel.any_of(interrupted.is_set()):
                trainer.save()
                raise KeyboardInterrupt
    trainer.finish()


def batches(method: GradientMethod, frames: FrameSource, start_step: int = 0) -> Iterator[Tensor]:
    """The batches of a training: frames ``[b, d]``, or sequences of them where the method reads these."""
    recipe, order = method.recipe, {"seed": method.seed, "epochs": method.recipe.epochs, "start_step": start_step}
    if method.sequence == 1:
        return frames.batches(recipe.batch_size, **order)
    return cast(SequenceSource, frames).sequences(recipe.batch_size // method.sequence, method.sequence, **order)


def rows(method: GradientMethod, frames: FrameSource) -> int:
    """Rows of an epoch: frames, or sequences. Raises UserError where the method reads sequences and the source has none."""
    length = method.sequence
    if length == 1:
        return frames.frames
    if not hasattr(frames, "sequences"):
        raise UserError(
            f"{method.name} learns from sequences of {length} frames of one clip, and {frames.identity!r} has single frames; "
            f"train it from an activation store."
        )
    if method.recipe.batch_size < length:
        raise UserError(f"{method.name}: batch_size = {method.recipe.batch_size} holds no sequence of {length}; raise it.")
    source = cast(SequenceSource, frames)
    return source.frames // source.frames_per_clip * sequences_per_clip(source.frames_per_clip, length)


class Trainer:
    """One training, batch by batch: who has the batches drives it.

    With a `folder`, figures go to ``log.jsonl`` and the state to ``checkpoint.safetensors`` there; a checkpoint that is found is
    continued: `done` steps, which took `seconds`, are then behind it. Among several processes the first one writes.

    Raises UserError for NaN or infinite frames or loss, naming step and shard (the last good checkpoint stays), and for a
    checkpoint that is damaged or of another training.
    """

    def __init__(
        self, method: GradientMethod, frames: FrameSource, *, folder: Path | None = None, reports: Sequence[Report] = ()
    ) -> None:
        self.method, self.frames = method, frames
        self.rows = rows(method, frames)
        self.steps = method.recipe.epochs * math.ceil(self.rows / (method.recipe.batch_size // method.sequence))
        self.device = parallel.device()
        method.start(frames)
        for group in (method.parameters, method.buffers):
            group.update({name: tensor.to(self.device) for name, tensor in group.items()})
        self.moments = {f"{kind}.{name}": torch.zeros_like(p) for name, p in method.parameters.items() for kind in ("avg", "sq")}
        self.averages = {name: p.clone() for name, p in method.parameters.items()} if method.recipe.ema else {}
        groups = {"parameter": method.parameters, "moment": self.moments, "average": self.averages, "buffer": method.buffers}
        self.checkpoint = Checkpoint(method, groups, frames, folder / CHECKPOINT) if folder else None
        self.done, self.seconds = self.checkpoint.restore() if self.checkpoint else (0, 0.0)
        parallel.wait()
        for name, tensor in method.parameters.items():
            tensor.requires_grad_(name not in method.fixed)
        self.writes = parallel.rank() == 0
        log = [JsonLines(folder / LOG, self.done)] if folder and self.writes else []
        self.reports: Sequence[Report] = (*log, *reports) if self.writes else ()
        self.window = Window()

    def advance(self, x: Tensor) -> None:
        """One step on the next batch ``[b, d]`` (or of sequences: see `batches`); now and then, report figures and save."""
        begun = time.perf_counter()
        method, number = self.method, self.done
        method.progress = number / self.steps
        rate = method.rate(number, self.steps)
        figures = step(method, x.to(self.device), self.moments, number + 1, rate)
        if figures is None:
            self._stop()
        self._average()
        self.done += 1
        if method.recipe.resamples(self.done, self.steps):
            method.resample(x.to(self.device), self.moments)
            self._average_anew()
        self.window.add(len(x) * method.sequence, figures)
        self.seconds += time.perf_counter() - begun
        if self._passes(REPORTS):
            progress = {"step": self.done, "steps": self.steps, "seconds": self.seconds, "learning_rate": rate}
            line = {**progress, **self.window.take()}
            for report in self.reports:
                report(line)
        if self._passes(CHECKPOINTS):
            self.save()

    def save(self) -> None:
        """Write a checkpoint, where there is a folder. Raises UserError, and writes none, for weights that are not finite."""
        if self.checkpoint is None:
            return
        if not all(bool(p.isfinite().all()) for p in self.method.parameters.values()):
            self.done -= 1
            self._stop()
        if self.writes:
            self.checkpoint.save(self.done, self.seconds)

    def finish(self) -> None:
        """Take the averaged weights where the recipe asks for them, and note what was seen; the method can then be frozen."""
        for name, average in self.averages.items():
            self.method.parameters[name] = functional.normalize(average, dim=1) if name in self.method.unit_norm else average
        self.method.trained = {
            "frames": self.method.recipe.epochs * self.rows * self.method.sequence,
            "store": self.frames.identity,
        }

    @torch.no_grad()
    def _average(self) -> None:
        """Update the moving averages; early on their memory is shorter, so that they forget where the weights began."""
        weight = 1 - min(self.method.recipe.ema, (self.done + 1) / (self.done + 10))
        for name, average in self.averages.items():
            average.lerp_(self.method.parameters[name].detach(), weight)

    @torch.no_grad()
    def _average_anew(self) -> None:
        """Where a row has not learnt since it started anew (its second moment is 0), its average starts there, too."""
        for name, average in self.averages.items():
            fresh = (
                (self.moments[f"sq.{name}"].flatten(1) if average.dim() > 1 else self.moments[f"sq.{name}"][:, None]).eq(0).all(1)
            )
            average[fresh] = self.method.parameters[name].detach()[fresh]

    def _passes(self, times: int) -> bool:
        """Whether the step just done is one of so many, evenly spread over the run."""
        return self.done * times // self.steps > (self.done - 1) * times // self.steps

    def _stop(self) -> NoReturn:
        """Raise the UserError for a loss, frame or parameter that is not finite."""
        where = getattr(self.frames, "locate_nonfinite", str)()
        cause = (
            f"NaN or infinite frames in {where}; harvest it again" if where else "no bad frame was found; lower the learning rate"
        )
        path = self.checkpoint.path if self.checkpoint else None
        kept = f" The last good state is kept in {path}." if path and path.exists() else ""
        raise UserError(f"{self.method.name}: the training is not finite at step {self.done + 1}: {cause}.{kept}")


def step(
    method: GradientMethod, x: Tensor, moments: Mapping[str, Tensor], number: int, rate: float
) -> Mapping[str, Tensor] | None:
    """One step of training on a batch ``[b, d]``, the `number`-th (from 1): loss, gradients, Adam with learning rate `rate`.

    Weight gradients are kept as factors and summed by the optimiser while it updates a row, unless a parameter has others
    besides, or they are summed over parts of the batch or over processes. `moments` holds ``avg.<parameter>`` and
    ``sq.<parameter>``. Returns the figures, loss among them; or None, with nothing changed but buffers, where the loss is not
    finite.
    """
    recipe = method.recipe
    if parallel.size() > 1 and len(x) < parallel.size() * recipe.accumulate:
        with parallel.alone():
            return step(method, x, moments, number, rate)
    parts = x.tensor_split(min(recipe.accumulate, len(x)))
    alone = len(parts) == 1 and parallel.size() == 1
    gradients: dict[str, Tensor | Sequence[Outer]] = {}
    totals: dict[str, Tensor] = {}
    for whole in parts:
        part = parallel.share(whole)
        portion = len(part) / len(x)
        with factored.collect() as factors:
            loss, figures = method.loss(part)
            if not math.isfinite(float(parallel.add(loss.detach() * portion))):
                return None
            torch.autograd.backward(loss if alone else loss * portion)
        for name, value in {"loss": loss.detach(), **figures}.items():
            totals[name] = totals.get(name, torch.zeros((), device=value.device)) + value * portion
        for name, p in method.parameters.items():
            found = _gradient(p, factors.of(p))
            p.grad = None
            if found is not None:
                gradients[name] = found if alone else _dense(p, found) + gradients.get(name, 0)  # type: ignore[operator]
    for name, p in method.parameters.items():
        if name in gradients:
            gradient = gradients[name] if alone else parallel.add(gradients[name])  # type: ignore[arg-type]
            adam(p.detach(), gradient, moments[f"avg.{name}"], moments[f"sq.{name}"], number, rate, name in method.unit_norm)
    method.constrain()
    return totals if parallel.size() == 1 else dict(zip(totals, parallel.add(torch.stack(list(totals.values()))), strict=True))


def _gradient(p: Tensor, outers: Sequence[Outer]) -> Tensor | Sequence[Outer] | None:
    """What `adam` is to be given: the dense gradient, its factors, or the sum of both."""
    if p.grad is None or not outers:
        return outers or p.grad
    return sum_of([p.grad, _dense(p, outers)])


def _dense(p: Tensor, gradient: Tensor | Sequence[Outer]) -> Tensor:
    """A gradient that may be given by its factors, as a tensor."""
    if isinstance(gradient, Tensor):
        return gradient
    path = path_for(p)
    return sum_of([path.outer(o.transposed, o.weights, o.rows, p.dtype) for o in gradient])


class Checkpoint:
    """The state of a training in one file, written atomically."""

    def __init__(
        self, method: GradientMethod, groups: Mapping[str, Mapping[str, Tensor]], frames: FrameSource, path: Path
    ) -> None:
        """`groups`: kind of state -> its tensors, which `restore` fills in place."""
        self.path = path
        self.groups = groups
        self.training = {"method": method.name, "config": method.config(), "store": frames.identity}
        """What a checkpoint must agree with to be continued."""

    def save(self, step: int, seconds: float) -> None:
        """Write the state after `step` steps, which took `seconds`."""
        tensors = {f"{kind}/{name}": t.detach() for kind, group in self.groups.items() for name, t in group.items()}
        metadata = {"training": json.dumps(self.training), "step": str(step), "seconds": str(seconds)}
        with atomic_path(self.path) as temporary:
            save_file(tensors, temporary, metadata=metadata)

    def restore(self) -> tuple[int, float]:
        """Load the state in place, where there is one; returns the number of steps done, and the seconds that they took."""
        if not self.path.exists():
            return 0, 0.0
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata()
                training, step, seconds = json.loads(metadata["training"]), int(metadata["step"]), float(metadata["seconds"])
                if training == json.loads(json.dumps(self.training)):
                    for kind, group in self.groups.items():
                        for name, tensor in group.items():
                            tensor.copy_(file.get_tensor(f"{kind}/{name}"))
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
            raise UserError(f"{self.path}: not a checkpoint, or damaged ({error}); delete it to train from the start.") from error
        if training != json.loads(json.dumps(self.training)):
            raise UserError(f"{self.path}: it belongs to another training, {training}; delete it or give another folder.")
        return step, seconds


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
