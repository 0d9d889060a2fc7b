"""What a second Ray worker brings: the embedded generator's harvest, from notes to stores, on one worker and on two.

Workers compute with one thread each, and lie on this machine. They have loaded what they need before the rounds begin, as workers
of a long run have: a round renders and encodes some clips that no round has had, and computes their activations.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from musae import registry
from musae.activations.harvest import harvest
from musae.activations.tokens import tokenize
from musae.bench.rounds import median, ratio, rotation
from musae.bench.rows import BenchRow, estimated
from musae.corpora.track import Clip, Split
from musae.engines.ray import Cluster

CLIPS = 64
"""Clips of a round and part: 11 minutes of music."""
PIECE = 4
"""Clips that a worker renders at a time."""
SHARD = 8
"""Clips of a shard."""
LAYER = 5
WORKERS = (1, 2)


class Contest:
    """Harvests with one worker and with two, in turns."""

    def __init__(self, root: Path) -> None:
        """`root`: where stores are kept while a round lasts."""
        self.root = root
        self.seconds: dict[int, list[float]] = {workers: [] for workers in WORKERS}
        self.make = partial(registry.make, "generators", "nano")
        self.make_corpus = partial(registry.make, "corpora", "procedural")
        self.generator, self.corpus = self.make(), self.make_corpus()

    def run(self, rounds: int, told: Callable[[int, int], None]) -> None:
        """`told` of (rounds done, rounds in all); one more warms up."""
        wanted = (rounds + 1) * len(WORKERS) * CLIPS
        clips = list(self.corpus.clips(Split.TRAIN, seconds=10.24, limit=wanted))
        with Cluster(max(WORKERS)) as cluster:
            for number in range(-1, rounds):
                for workers in rotation(WORKERS, number + 1):
                    some, clips = clips[:CLIPS], clips[CLIPS:]
                    begun = time.perf_counter()
                    self._harvest(cluster, workers, some)
                    if number >= 0:
                        self.seconds[workers].append(time.perf_counter() - begun)
                    shutil.rmtree(self.root)
                if number >= 0:
                    told(number + 1, rounds)

    def _harvest(self, cluster: Cluster, workers: int, clips: list[Clip]) -> None:
        cluster.workers = workers
        encode, compute = cluster.tokenizer(self.make, self.make_corpus), cluster.harvester(self.make)
        tokens = tokenize(self.generator, self.corpus, clips, cache=self.root / "tokens", piece=PIECE, batch=PIECE, engine=encode)
        harvest(self.generator, tokens, (LAYER,), self.root / "stores", shard_clips=SHARD, batch_clips=SHARD, engine=compute)


def rows(found: Contest) -> list[BenchRow]:
    """Rows of the clips a second, and of the speed-up."""
    case: dict[str, int | str] = {"n": CLIPS, "generator": "nano", "threads": 1}
    made = []
    for workers, seconds in found.seconds.items():
        speed = median([CLIPS / taken for taken in seconds])
        made.append(estimated("harvest", case, "clips_per_s", "1/s", speed, "measured", f"{workers}-workers"))
    faster = ratio(found.seconds[1], found.seconds[2])
    return [*made, estimated("harvest", case, "speed_ratio", "", faster, "derived", "2-workers")]
