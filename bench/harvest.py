"""What harvesting costs: activations of a MusicGen of musicgen-small's size kept on disk, against its plain forward pass.

The weights are random (no others are at hand without a network), the architecture is that model's: 24 blocks, d = 1,024. A round
harvests some clips anew, every sixth block and the last, from tokens to finished stores; and it runs transformers' own forward
pass over as many clips, in batches of the same size. Parts take turns. Memory is the process's resident set after each round.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from musae.activations.harvest import harvest
from musae.activations.tokens import Tokens
from musae.bench.rounds import Estimate, median, ratio, rotation
from musae.bench.rows import BenchRow, estimated
from musae.generators import musicgen
from musae.generators.autoregressive import delay
from musae.generators.musicgen.adapter import MusicGen

LAYERS = (6, 12, 18, 24)
CLIPS, FRAMES = 8, 250
"""Clips of a round, and frames of each: 5 s at 50 Hz."""
BATCH_CLIPS = 4
PARTS = ("harvest", "forward")


def checkpoint(folder: Path) -> Path:
    """The random checkpoint, written once (1.7 GB); small text encoder and EnCodec, which no part runs."""
    from transformers import EncodecConfig, MusicgenConfig, MusicgenForConditionalGeneration, T5Config
    from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

    if not (folder / "done").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        torch.manual_seed(0)
        config = MusicgenConfig(
            text_encoder=T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2),
            audio_encoder=EncodecConfig(
                sampling_rate=32_000, upsampling_ratios=[8, 5, 4, 4], num_filters=4, codebook_size=2048, target_bandwidths=[2.2]
            ),
            decoder=MusicgenDecoderConfig(),
        )
        MusicgenForConditionalGeneration(config).save_pretrained(folder)
        (folder / "done").touch()
    return folder


class Contest:
    """Both parts over the same random codes."""

    def __init__(self, root: Path) -> None:
        """`root`: where checkpoint and stores lie."""
        self.root = root
        self.generator: MusicGen = musicgen.load(str(checkpoint(root / "checkpoint")))
        self.seconds: dict[str, list[tuple[float, float]]] = {part: [] for part in PARTS}
        self.resident: list[float] = []

    def run(self, rounds: int, told: Callable[[int, int], None]) -> None:
        """Time the parts in rotation, after one round that warms up; `told` of (rounds done, rounds in all)."""
        parts: dict[str, Callable[[Tokens], None]] = {"harvest": self._harvest, "forward": self._forward}
        for number in range(-1, rounds):
            tokens = self._tokens(number + 1)
            for name in rotation(PARTS, number + 1):
                wall, cpu = time.perf_counter(), time.process_time()
                parts[name](tokens)
                taken = time.perf_counter() - wall, time.process_time() - cpu
                if number >= 0:
                    self.seconds[name].append(taken)
            if number >= 0:
                self.resident.append(resident())
                told(number + 1, rounds)

    def once(self, number: int) -> None:
        """One harvest of a round's clips."""
        self._harvest(self._tokens(number))

    def _tokens(self, number: int) -> Tokens:
        """Random codes; other ones in each round, so that no store is there already."""
        draw = np.random.default_rng(number)
        words = self.generator.network.config.vocab_size
        names = np.array([f"{number}-{clip}" for clip in range(CLIPS)])
        return Tokens(
            codes=draw.integers(0, words, (CLIPS, self.generator.card.codebooks, FRAMES)).astype(np.uint16),
            clips=names,
            tracks=names,
            groups=names,
            starts=np.zeros(CLIPS),
            corpus=np.zeros(CLIPS, np.uint8),
            corpora=("random",),
            revisions=("0000000000",),
            generator=self.generator.card.name,
            codec=self.generator.codec_revision,
        )

    def _harvest(self, tokens: Tokens) -> None:
        harvest(self.generator, tokens, LAYERS, self.root / "stores", batch_clips=BATCH_CLIPS)
        shutil.rmtree(self.root / "stores")

    @torch.inference_mode()
    def _forward(self, tokens: Tokens) -> None:
        network = self.generator.network
        for start in range(0, CLIPS, BATCH_CLIPS):
            inputs = delay(tokens.tensor(slice(start, start + BATCH_CLIPS)), network.config.vocab_size, self.generator.delays)
            network.model.decoder(input_ids=inputs.flatten(0, 1), use_cache=False)


def resident() -> float:
    """MiB that the process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def rows(found: Contest, threads: int) -> list[BenchRow]:
    """Rows of the ratio, of the parts, and of memory: its median, and what it grew by from the first round to the last."""
    case: dict[str, int | str] = {"layers": len(LAYERS), "n": CLIPS * FRAMES, "d": found.generator.card.width, "threads": threads}
    made = []
    for clock, kind in enumerate(("wall", "cpu")):
        harvested, plain = ([taken[clock] for taken in found.seconds[part]] for part in PARTS)
        made.append(estimated("overhead", case, f"{kind}_ratio", "", ratio(harvested, plain), "derived"))
        made += [
            estimated(p, case, f"{kind}_s", "s", median(s), "measured") for p, s in zip(PARTS, (harvested, plain), strict=True)
        ]
    growth = found.resident[-1] - found.resident[0]
    made.append(estimated("memory", case, "resident", "MiB", median(found.resident), "measured"))
    return [*made, estimated("memory", case, "growth", "MiB", Estimate(growth, None, None, len(found.resident)), "measured")]
