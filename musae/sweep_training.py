"""Trainings of a sweep: what is missing of a grid, trained over one pass of the generator, and the figures of the whole.

    <root>/sweeps/<name>-<digest>/
        <member>-<hash>.safetensors       dictionaries; `musae score` takes them
        <member>-<hash>/log.jsonl         figures of the training
        summary.json, summary.csv

`<digest>` is of the tokens' recipe, the generator's weights and the code that learns; `<hash>` of the method, its options and the
stream. So what exists is right, running again trains only what is missing, and a grid may grow. Interrupted trainings go on from
their last checkpoints.

Figures are measured on clips that are set aside, other clips of the training pieces: held-out pieces are for scores alone, and a
sweep is where hyper-parameters are chosen.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from musae import parallel, registry, streaming
from musae.activations.shards import KINDS
from musae.activations.tokens import Tokens
from musae.dictionary import Dictionary, load
from musae.errors import UserError
from musae.files import atomic_path
from musae.hyperparameters import typed
from musae.streaming import Stream, train
from musae.sweep import Member, Sweep
from musae.training import CHECKPOINT, LOG, GradientMethod, Trainer
from musae.workspace import Workspace, method_card, one_thread, source_of, suite_card

Show = Callable[..., None]
"""Receives (what is being done, how much of it is done, how much there is) and sometimes figures."""


@dataclass(frozen=True)
class Figures:
    """A line of the summary."""

    method: str
    width: int
    k: int
    layer: int
    seed: int
    fvu: float | None
    """Fraction of variance unexplained by the frozen dictionary, on the clips set aside, about these clips' mean."""
    l0: float | None
    """Active latents a frame there."""
    dead: float | None
    """Share of latents that counted as dead at the end of the training, where the method counts them."""
    seconds: float | None
    """Spent in this dictionary's own steps."""
    hash: str
    """The dictionary's content hash; empty where the training failed."""
    file: str
    problem: str = ""


class SweepTraining:
    """The trainings of one sweep under one folder. Names, options and sizes that do not fit raise UserError before any work."""

    def __init__(self, sweep: Sweep, root: Path, show: Show) -> None:
        suite = suite_card(sweep.suite)
        generator = registry.find("generators", sweep.generator or suite.generator)
        for corpus in sweep.corpora or ():
            registry.find("corpora", corpus)
        self.sweep, self.show = sweep, show
        self.workspace = Workspace(sweep.card(suite, generator.card.frame_rate), root, show)  # type: ignore[union-attr]
        card = self.workspace.generator_card
        for layer in sweep.layers:
            if layer > card.layers:
                raise UserError(f"layers: generator {card.name!r} has layers 0 to {card.layers}, not {layer}; choose among them.")
        self.members = {member: self._method(member) for member in sweep.members(card.width)}
        self.problems: dict[Member, str] = {}

    def _method(self, member: Member) -> GradientMethod:
        """An unfitted method with the options that the sweep gives it."""
        cls = registry.load("methods", member.method).METHOD
        if not issubclass(cls, GradientMethod):
            raise UserError(f"method {member.method!r} does not learn in steps; leave it out, and fit it with `musae train`.")
        if method_card(member.method).stream != "trained":
            raise UserError(
                f"method {member.method!r} is for a generator with random weights; leave it out, and use `musae train`."
            )
        if cls.sequence > 1:
            raise UserError(f"method {member.method!r} reads sequences of frames, which a stream has not; use `musae train`.")
        options = typed(cls, self.sweep.options_of(member.method), f"sweep {self.sweep.name!r}")
        sizes = {"width": member.width, "k": member.k, "seed": member.seed}
        if clash := sorted(options.keys() & sizes.keys()):
            raise UserError(f"sweep {self.sweep.name!r}: {clash[0]} is an axis of the grid; leave it out of the options.")
        method = cast(GradientMethod, cls(**sizes, **options))
        method.check_sizes()
        return method

    @property
    def home(self) -> Path:
        """Folder of the sweep's dictionaries."""
        return self.workspace.root / "sweeps" / self.workspace.home.name

    @cached_property
    def _tokens(self) -> tuple[Tokens, Tokens]:
        """Clips that are trained on, and those that are set aside."""
        found = parallel.first_then_all(self.workspace.training_tokens)
        aside = np.zeros(len(found), bool)
        aside[np.linspace(0, len(found) - 1, self.sweep.aside).round().astype(int)] = True
        return found.take(np.flatnonzero(~aside)), found.take(np.flatnonzero(aside))

    def stream(self, layers: Sequence[int]) -> Stream:
        """The frames that are trained on, at some layers."""
        sweep = self.sweep
        return Stream(
            self.workspace.generator,
            self._tokens[0],
            layers,
            seed=sweep.order_seed,
            buffer_frames=sweep.buffer_frames,
            batch_clips=sweep.batch_clips,
            dtype=sweep.dtype,
            progress=partial(self.show, "clips through the generator"),
        )

    @cached_property
    def paths(self) -> dict[Member, Path]:
        """Where each member's dictionary lies: its name holds all that it depends on, with the folder's."""
        stream = self.stream(self.sweep.layers)
        found = {}
        for member, method in self.members.items():
            parts = json.dumps([method.name, method.config(), stream.source(member.layer).identity], sort_keys=True)
            sources = source_of("methods", member.method) + Path(streaming.__file__).read_bytes()
            digest = hashlib.sha256(parts.encode() + sources).hexdigest()[:8]
            found[member] = self.home / f"{member.name}-{digest}.safetensors"
        return found

    @property
    def missing(self) -> list[Member]:
        """Members whose dictionary is not there yet."""
        return [member for member, path in self.paths.items() if not path.exists()]

    def run(self) -> list[Member]:
        """Train what is missing, over one pass; returns the members that were. One that fails leaves its reason in `problems`."""
        missing = self.missing
        if missing:
            with one_thread():
                self._train(missing)
            parallel.wait()
        return missing

    def _train(self, missing: Sequence[Member]) -> None:
        stream = self.stream(tuple(dict.fromkeys(member.layer for member in missing)))
        trainers = {}
        for member in missing:
            folder = self.paths[member].with_suffix("")
            source = stream.source(member.layer)
            report = [partial(self._report, member.name)]
            trainers[member] = Trainer(self.members[member], source, folder=folder, reports=report)

        def failed(trainer: Trainer, error: UserError) -> None:
            member = next(member for member, one in trainers.items() if one is trainer)
            self.problems[member] = str(error)

        train(stream, list(trainers.values()), failed)
        for member, trainer in trainers.items():
            if member not in self.problems:
                self._keep(member, trainer)

    def _keep(self, member: Member, trainer: Trainer) -> None:
        """Freeze a trained dictionary and save it with what it was trained on; its checkpoint is not needed any more."""
        generator, path = self.workspace.generator, self.paths[member]
        trainer.finish()
        dictionary = trainer.method.freeze()
        dictionary.trained |= {"generator": f"{generator.card.name}@{generator.revision}", "layer": member.layer}
        if parallel.rank() == 0:
            dictionary.save(path)
            (path.with_suffix("") / CHECKPOINT).unlink(missing_ok=True)

    def _report(self, name: str, values: Mapping[str, float]) -> None:
        self.show(name, int(values["step"]), int(values["steps"]), values)

    def summary(self) -> list[Figures]:
        """Figures of all members, those of this grid that were there already included; written beside the dictionaries."""
        streams = self._aside_frames()
        lines = [self._figures(member, streams) for member in self.members]
        if parallel.rank() == 0:
            self._write(lines)
        return lines

    def _figures(self, member: Member, streams: Mapping[int, Tensor]) -> Figures:
        path = self.paths[member]
        log = _last(path.with_suffix("") / LOG)
        line: dict[str, Any] = {"fvu": None, "l0": None, "hash": "", "problem": self.problems.get(member, "")}
        if path.exists():
            dictionary, x = load(path), streams[member.layer]
            assert isinstance(dictionary, Dictionary)
            code = dictionary.encode(x)
            left, all_of_it = (dictionary.decode(code) - x).double(), (x - x.mean(0)).double()
            fvu = float(left.square().sum() / all_of_it.square().sum())
            line |= {"fvu": fvu, "l0": len(code.values) / len(x), "hash": dictionary.content_hash}
        return Figures(**asdict(member), **line, dead=log.get("dead"), seconds=log.get("seconds"), file=path.name)

    def _aside_frames(self) -> dict[int, Tensor]:
        """The stream of the clips set aside, float32 ``[n, d]`` for each layer."""
        layers, tokens, size = tuple(dict.fromkeys(self.sweep.layers)), self._tokens[1], self.sweep.batch_clips
        with torch.inference_mode():
            parts = [
                self.workspace.generator.stream(tokens.tensor(slice(start, start + size)), layers)
                for start in range(0, len(tokens), size)
            ]
        return {layer: torch.cat([part[layer].cpu() for part in parts]).flatten(0, 1).clone() for layer in layers}

    def _write(self, lines: Sequence[Figures]) -> None:
        sweep = self.sweep.model_dump(mode="json", exclude_defaults=True)
        rows = [asdict(line) for line in lines]
        with atomic_path(self.home / "summary.json") as temporary:
            temporary.write_text(json.dumps({"sweep": sweep, "dictionaries": rows}, indent=1) + "\n", encoding="utf-8")
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with atomic_path(self.home / "summary.csv") as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")


def memory(training: SweepTraining) -> int:
    """Bytes that a sweep holds beside the generator: buffers of frames; weights, both moments and averages; one gradient."""
    sweep, d = training.sweep, training.workspace.generator_card.width
    frames = min(sweep.buffer_frames, training.workspace.suite.training_frames)
    buffers = len(set(sweep.layers)) * d * (KINDS[sweep.dtype].size * frames + 4 * sweep.batch_size)
    weights = {member: 4 * (2 * member.width * d + member.width + d) for member in training.members}
    states = sum(weights[member] * (4 if method.recipe.ema else 3) for member, method in training.members.items())
    return buffers + states + max(weights.values())


def _last(log: Path) -> dict[str, float]:
    """The last line of a training's log; nothing where there is none."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return cast("dict[str, float]", json.loads(lines[-1])) if lines else {}
