"""The comparison: which settings are fastest, then interleaved rounds of all contestants; every round is saved as it ends.

Two phases for each size. *Screening*: the settings of one peer take turns, two rounds of training and encoding; one that was
clearly slower in the first is spared the second. *Main*: musae on every path, each peer in its fastest setting for training
and in its fastest for encoding, and the limit's worker take turns. Ratios come from the main phase alone, so that having
chosen the fastest does not flatter it.

Started again with the same code, environment and machine, a comparison goes on with the first round that is missing: workers
start anew, with a step and a pass that are not timed. Where any of these changed, it starts over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from musae.bench import workloads
from musae.bench.peers.contestants import Library
from musae.bench.peers.record import STAGES, Phase, Record, Sample, Stage
from musae.bench.peers.workers import Process, WorkerError
from musae.bench.rounds import rotation
from musae.bench.workloads import Size

SCREENING = 2
"""Rounds in which a peer's settings are compared with each other."""
HOPELESS = 1.25
"""A setting that took this many times as long as the fastest, in the first screening round, has no second."""

Show = Callable[[str, int, int], None]
Key = tuple[str, str]
"""Library and setting."""


class Comparison:
    """Fills a record, size by size."""

    def __init__(
        self,
        record: Record,
        path: Path,
        libraries: Sequence[Library],
        pythons: Mapping[bool, Path],
        threads: int,
        folder: Path,
        show: Show,
    ) -> None:
        """`path`: where the record is saved; `pythons`: interpreter by `Library.own`; `folder`: where data files are written."""
        self.record, self.path = record, path
        self.libraries = {library.name: library for library in libraries}
        self.pythons, self.threads, self.folder, self.show = pythons, threads, folder, show

    def run(self, size: Size, rounds: int) -> None:
        """Both phases of one size. Contestants that fail are left out, with their sentence in the record."""
        workloads.write(self.folder / size.name, size)
        with ExitStack() as stack:
            _Size(self, size, stack).run(rounds)

    def clock(self, size: Size) -> str:
        """What settings are screened by: processor time where it is all that counts, else wall-clock time."""
        return "cpu_s" if self.threads == 1 and size.device == "cpu" else "wall_s"

    def entered(self, size: Size) -> dict[Key, tuple[Stage, ...]]:
        """Who takes part in the main phase, and in which stages."""
        found: dict[Key, tuple[Stage, ...]] = {}
        for library in self.libraries.values():
            fastest = {
                stage: self.record.fastest(size.name, library.name, stage, SCREENING, self.clock(size)) for stage in STAGES
            }
            for setting in library.settings:
                stages = tuple(stage for stage in STAGES if library.own or fastest[stage] == setting)
                if stages:
                    found[library.name, setting] = stages
        return found


class _Size:
    """A comparison at one size. Workers live as long as `stack`; whoever comes out of the screening goes on warm."""

    def __init__(self, comparison: Comparison, size: Size, stack: ExitStack) -> None:
        self.of, self.record, self.size, self.stack = comparison, comparison.record, size, stack
        self.workers: dict[Key, Process] = {}

    def run(self, rounds: int) -> None:
        for library in self.of.libraries.values():
            if not library.own:
                self.screen(library)
        have = {s.round for s in self.record.of(size=self.size.name, phase="main")}
        todo = [round_ for round_ in range(rounds) if round_ not in have]
        if todo or not any(entry["size"] == self.size.name for entry in self.record.learnt):
            self.main(todo, rounds)

    def screen(self, library: Library) -> None:
        done = self.record.of(size=self.size.name, library=library.name, phase="screening")
        if len({s.round for s in done}) == SCREENING:
            return
        self.forget(phase="screening", library=library.name)
        self.start([(library.name, setting) for setting in library.settings], "screening")
        taken: list[Sample] = []
        for round_ in range(SCREENING):
            for key in rotation([key for key in self.workers if key[0] == library.name], round_):
                stages = [s for s in library.settings[key[1]].stages if not _hopeless(taken, key[1], s, self.of.clock(self.size))]
                taken += self.sample(key, "screening", round_, stages)
            self.of.show(f"{self.size.name}: settings of {library.name}", round_ + 1, SCREENING)
        self.record.samples += taken
        self.record.save(self.of.path)
        entered = self.of.entered(self.size)
        for key in [key for key in self.workers if key[0] == library.name and key not in entered]:
            self.workers.pop(key).close()

    def main(self, todo: Sequence[int], rounds: int) -> None:
        self.forget(phase="main")
        entered = self.of.entered(self.size)
        self.start([key for key in entered if key not in self.workers], "main")
        command = [str(self.of.pythons[True]), "-P", "-m", "musae.bench.limits"]
        limit = self.stack.enter_context(Process("limit", command, self.of.threads))
        limit.ask("setup", size=asdict(self.size), threads=self.of.threads, device=self.size.device)
        for round_ in todo:
            rates = limit.ask("measure")
            taken: list[Sample] = []
            for key in rotation([key for key in entered if key in self.workers], round_):
                taken += self.sample(key, "main", round_, entered[key])
            self.record.samples += taken
            self.record.limits.append({"size": self.size.name, "round": round_, **rates})
            self.record.save(self.of.path)
            self.of.show(f"{self.size.name}: rounds", round_ + 1, rounds)
        for key in [key for key in entered if key in self.workers and "train" in entered[key]]:
            with self.failing(key, "main"):
                self.note(key, self.workers[key].ask("learnt"))
        self.record.save(self.of.path)

    def start(self, keys: Sequence[Key], phase: Phase) -> None:
        """Start workers, all together, since imports are most of it; then set up and warm each: a step and a pass are done."""
        for key in keys:
            with self.failing(key, phase):
                library = self.of.libraries[key[0]]
                script = Path(__file__).resolve().parent / "worker.py"
                command = [str(self.of.pythons[library.own]), "-P", str(script), str(library.file)]
                worker = Process(f"{key[0]} ({key[1]})", command, self.of.threads, library.settings[key[1]].env)
                self.workers[key] = self.stack.enter_context(worker)
        for key in keys:
            if key in self.workers:
                with self.failing(key, phase):
                    self.warm(key)

    def warm(self, key: Key) -> None:
        worker = self.workers[key]
        answer = worker.ask(
            "setup",
            folder=str((self.of.folder / self.size.name).resolve()),
            size=asdict(self.size),
            settings=dict(self.of.libraries[key[0]].settings[key[1]].options),
            learning_rate=workloads.LEARNING_RATE,
            threads=self.of.threads,
        )
        worker.ask("train", steps=1)
        worker.ask("encode", passes=1)
        self.record.packages[key[0]], self.record.returns[key[0]] = answer["packages"], answer["returns"]

    def sample(self, key: Key, phase: Phase, round_: int, stages: Sequence[Stage]) -> list[Sample]:
        """One round of a contestant; nothing if it fails."""
        taken: list[Sample] = []
        with self.failing(key, phase):
            for stage in stages:
                asked = {"steps": self.size.steps} if stage == "train" else {"passes": self.size.passes}
                answer = self.workers[key].ask(stage, **asked)
                taken.append(Sample(self.size.name, *key, phase, round_, stage, **answer))
        return taken if key in self.workers else []

    @contextmanager
    def failing(self, key: Key, phase: Phase) -> Iterator[None]:
        """Leave a contestant out, and note why, if the block raises WorkerError."""
        try:
            yield
        except WorkerError as error:
            entry = {"size": self.size.name, "library": key[0], "setting": key[1], "phase": phase, "why": str(error)}
            self.record.failed.append(entry)
            if key in self.workers:
                self.workers.pop(key).close()

    def forget(self, **again: str) -> None:
        """Drop earlier failures of what is about to be tried again."""
        wanted = {"size": self.size.name, **again}
        self.record.failed = [entry for entry in self.record.failed if not wanted.items() <= entry.items()]

    def note(self, key: Key, answer: Mapping[str, Any]) -> None:
        """Keep what a contestant has learnt, in place of an earlier answer."""
        entry = {"size": self.size.name, "library": key[0], "setting": key[1]}
        self.record.learnt = [other for other in self.record.learnt if not entry.items() <= other.items()]
        self.record.learnt.append({**entry, **answer})


def _hopeless(taken: Sequence[Sample], setting: str, stage: Stage, clock: str) -> bool:
    """Whether a setting was so slow in the first screening round of a stage that a second would change nothing."""
    first = {s.setting: getattr(s, clock) for s in taken if s.stage == stage and s.round == 0}
    return setting in first and first[setting] > HOPELESS * min(first.values())
