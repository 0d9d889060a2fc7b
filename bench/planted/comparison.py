"""The comparison: data, settings of the peers, and a cell for each contestant and seed; one worker at a time, on one thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from musae.bench.peers.workers import Process, WorkerError
from musae.bench.planted import cells, data, tuning
from musae.bench.planted.cells import Result
from musae.bench.planted.contestants import HERE, Contestant
from musae.errors import UserError

BATCH = 1024
"""Frames in a step: the default of musae's methods and of SAELens's trainer for synthetic data."""
INITIAL = 1000
"""Added to a data seed to seed a contestant: no initialisation shares its numbers with the data."""
PATIENCE = 4 * 3600.0
"""Seconds to wait for a training."""

Show = Callable[[str, int, int], None]


@dataclass
class Entry:
    """A contestant's results."""

    contestant: Contestant
    choice: tuning.Choice
    results: list[Result] = field(default_factory=list)
    """One for each seed, in their order."""


class Comparison:
    """Trains and scores; results are kept in `root`."""

    def __init__(self, root: Path, of: data.Planted, seeds: Sequence[int], pythons: Mapping[bool, Path], show: Show) -> None:
        """`root`: where data and cells lie; `pythons`: interpreter by `Contestant.own`."""
        self.root, self.of, self.seeds, self.pythons, self.show = root, of, seeds, pythons, show
        self.environments = {own: cells.installed(python) for own, python in pythons.items()}
        self.failed: list[str] = []
        """Sentences about contestants that are left out."""

    def run(self, contestants: Sequence[Contestant]) -> list[Entry]:
        """All contestants, in order; those that fail are left out."""
        entries: list[Entry] = []
        for contestant in contestants:
            try:
                choice = tuning.choose(contestant, self.of.k, partial(self.tuning, contestant))
                entry = Entry(contestant, choice)
                for done, seed in enumerate(self.seeds):
                    self.show(contestant.name, done, len(self.seeds))
                    entry.results.append(self.cell(contestant, seed, choice.settings, self.of.frames))
            except UserError as error:  # a worker that fails, a method that is not there
                self.failed.append(str(error) if contestant.name in str(error) else f"{contestant.name}: {error}")
                continue
            self.show(contestant.name, len(self.seeds), len(self.seeds))
            entries.append(entry)
        return entries

    def tuning(self, contestant: Contestant, settings: Mapping[str, Any]) -> Result:
        """A training for the choice of settings."""
        self.show(f"{contestant.name}: settings", 0, 1)
        return self.cell(contestant, tuning.SEED, settings, self.of.frames // tuning.SHARE)

    def cell(self, contestant: Contestant, seed: int, settings: Mapping[str, Any], frames: int) -> Result:
        """Read or compute one cell. Raises WorkerError where the contestant fails."""
        size = {
            "d": self.of.d, "width": self.of.atoms, "k": self.of.k, "batch": BATCH,
            "frames": frames, "steps": frames // BATCH, "seed": INITIAL + seed,
        }  # fmt: skip
        key = cells.key(contestant, self.of.digest(seed), size, settings, self.environments[contestant.own])
        path = self.root / "cells" / f"{contestant.library}-{contestant.method}-s{seed}-{key}.json"
        found = Result.load(path)
        if found is not None:
            return found
        folder = data.write(self.root / "data", self.of, seed)
        learnt = path.with_suffix(".npz")
        learnt.parent.mkdir(parents=True, exist_ok=True)
        command = [str(self.pythons[contestant.own]), "-P", str(HERE / "worker.py"), str(contestant.file)]
        with Process(contestant.name, command, threads=1, patience=PATIENCE) as worker:
            answer = worker.ask(
                "learn", folder=str(folder.resolve()), method=contestant.method, size=size, settings=dict(settings),
                out=str(learnt.resolve()),
            )  # fmt: skip
        scores = cells.score(folder, learnt)
        learnt.unlink()
        if scores["fvu"] != scores["fvu"]:
            raise WorkerError(f"{contestant.name}: what it learnt with {dict(settings)} is not finite; it was left out.")
        result = Result(contestant.name, seed, frames, dict(settings), **scores, **answer)
        result.save(path)
        return result
