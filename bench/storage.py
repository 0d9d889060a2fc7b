"""Stores of activations: whether they feed training fast enough, and what their types do to scores.

Speed. A store of nano's stream is read in shuffled batches, and `topk` of the suite `quick`'s sizes takes as many steps over the
same frames in memory, and over the store. Parts take turns. The files are warm: the system has them in memory, so that disks are
left out, and the checksums of a first reading too.

Scores. `topk` is trained on the suite's training activations, stored as each type, and scored with the suite's tasks; held-out
activations are float16 for all. A difference is that to float32, with the paired bootstrap interval over pieces.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from musae import registry
from musae.activations.harvest import harvest
from musae.activations.shards import DType
from musae.activations.store import Store, open_store
from musae.bench.rounds import Estimate, median, ratio, rotation
from musae.bench.rows import BenchRow, estimated
from musae.dictionary import TensorFrames
from musae.evaluation import score
from musae.leaderboard.compare import quantiles
from musae.methods.topk import Topk
from musae.training import Trainer, batches
from musae.workspace import Progress, Workspace, suite_card

TYPES: tuple[DType, ...] = ("float32", "float16", "bfloat16", "int8")
CLIPS = 1024
"""Clips of the store that is read: 262,144 frames."""
BUFFER = 2**16
"""Frames that a pass shuffles at once: four pools, so that reading ahead is part of what is measured."""
STEPS = 96
"""Steps that are timed in a round; reading goes over as many batches."""
EPOCHS = 100
"""Of the trainings: more than any number of rounds needs."""


class Contest:
    """Reading and training, in turns."""

    def __init__(self, root: Path) -> None:
        """`root`: of the runs; stores are kept there."""
        suite, module = suite_card("quick"), registry.load("generators", "nano")
        tokens = module.training_tokens().take(slice(CLIPS))
        folder = root / "bench" / "storage"
        self.stores: dict[str, Store] = {}
        for dtype in TYPES:
            store = harvest(module.load(), tokens, (suite.layer,), folder, dtype=dtype)[suite.layer]
            self.stores[dtype] = open_store(store.folder, buffer_frames=BUFFER)
        x = self.stores["float32"].array().flatten(0, 1)
        memory = Trainer(Topk(suite.width, suite.k, epochs=EPOCHS), TensorFrames(x))
        stored = Trainer(Topk(suite.width, suite.k, epochs=EPOCHS), self.stores["float16"])
        self.batch = memory.method.recipe.batch_size
        self.feeds = {"memory": batches(memory.method, memory.frames), "store": batches(stored.method, stored.frames)}
        self.trainers = {"memory": memory, "store": stored}
        self.parts = [("train", source) for source in self.feeds] + [("read", dtype) for dtype in TYPES]
        self.seconds: dict[tuple[str, str], list[float]] = {part: [] for part in self.parts}

    def run(self, rounds: int, told: Callable[[int, int], None]) -> None:
        """`told` of (rounds done, rounds in all); one more warms up."""
        for number in range(-1, rounds):
            for part in rotation(self.parts, number + 1):
                begun = time.perf_counter()
                self._do(part, number + 1)
                if number >= 0:
                    self.seconds[part].append(time.perf_counter() - begun)
            if number >= 0:
                told(number + 1, rounds)

    def _do(self, part: tuple[str, str], number: int) -> None:
        what, of = part
        if what == "train":
            for x in islice(self.feeds[of], STEPS):
                self.trainers[of].advance(x)
        else:
            for _ in islice(self.stores[of].batches(self.batch, seed=number), STEPS):
                pass


def rows(found: Contest, threads: int) -> list[BenchRow]:
    """Rows of speeds, in frames a second, and of their ratios within rounds."""
    frames = STEPS * found.batch
    case: dict[str, int | str] = {"d": 256, "width": 2048, "k": 32, "n": frames, "threads": threads}
    made = []
    for part in found.parts:
        speed = median([frames / seconds for seconds in found.seconds[part]])
        made.append(estimated(part[0], case, "frames_per_s", "1/s", speed, "measured", part[1]))
    train = found.seconds["train", "memory"]
    for dtype in TYPES:
        faster = ratio(train, found.seconds["read", dtype])
        made.append(estimated("read", case, "speed_ratio", "", faster, "derived", dtype))
    slower = ratio(found.seconds["train", "store"], train)
    return [*made, estimated("train", case, "time_ratio", "", slower, "derived", "store")]


def scores(root: Path, show: Progress) -> list[BenchRow]:
    """Rows of main scores that differ from those of float32: ``<metric>_difference`` for each corpus."""
    workspace = Workspace(suite_card("quick"), root, show)
    suite, made = workspace.suite, []
    found = {}
    for number, dtype in enumerate(TYPES):
        show("types scored", number, len(TYPES))
        folder = root / "activations"
        store = harvest(workspace.generator, workspace.training_tokens(), (suite.layer,), folder, dtype=dtype)[suite.layer]
        dictionary = workspace.fit("topk", 0, store=store)
        for corpus in suite.corpora:
            for file in score(workspace, dictionary, 0, corpus, workspace.scored):
                found[dtype, corpus, file.cell.task] = file
    show("types scored", len(TYPES), len(TYPES))
    for (dtype, corpus, task), file in found.items():
        exact = found["float32", corpus, task]
        for measure, other in zip(file.measures, exact.measures, strict=True):
            if not measure.main or measure.value is None or other.value is None:
                continue
            case: dict[str, int | str] = {"suite": suite.name, "corpus": corpus, "task": task}
            if measure.probe_k is not None:
                case["probe_k"] = measure.probe_k
            if measure.truth:
                case["truth"] = measure.truth
            if dtype == "float32":
                value = Estimate(measure.value, None, None, 0)
                made.append(estimated("topk", case, measure.metric, "", value, "measured", dtype))
                continue
            low, high = quantiles(file.replicates[measure.tag].astype(float) - exact.replicates[measure.tag]) or (None, None)
            value = Estimate(measure.value - other.value, low, high, 0)
            made.append(estimated("topk", case, f"{measure.metric}_difference", "", value, "derived", dtype))
    return made
