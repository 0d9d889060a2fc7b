"""Continuations of prompts under interventions: generated once, heard once, and kept on disk under all that they depend on.

    <folder>/continuations/<digest>.npz    codes and loss
    <folder>/heard/<kind>-<digest>.npz     what an ear measured of them

One seed gives every intervention the same random numbers (`Generator.generate`), so that two of them differ by their doing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musae.generators.generator import Generator, Splice
from musae.steering import arrays, spectra
from musae.steering.ears import Ear

BATCH = 32
"""Prompts that are continued at once."""


Measure = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Audio ``[n, samples]`` -> ``[n, columns]``."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """Beginnings of held-out clips, one of each piece."""

    codes: Tensor
    """``[n, K, T0]``"""
    pieces: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Of the codes."""
        return hashlib.sha256(self.codes.contiguous().numpy().tobytes()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Intervention:
    """A splice at the session's layer, or none, and a name that no other intervention has."""

    identity: str
    splice: Splice | None = None


UNSTEERED = Intervention("unsteered")


@dataclass(eq=False)
class Continuations:
    """Makes, hears and keeps continuations of `frames` frames at one layer of a generator."""

    generator: Generator
    layer: int
    frames: int
    folder: Path
    made: int = 0
    """Batches generated in this process, for those who watch."""

    def codes(self, prompts: Prompts, what: Intervention, seed: int) -> Tensor:
        """The whole clips, prompts first ``[n, K, T0 + frames]``."""
        return self._made(prompts, what, seed)[0]

    def loss(self, prompts: Prompts, what: Intervention, seed: int) -> NDArray[np.float64]:
        """Nats a token under the unsteered generator ``[n]``, mean over the codebooks and over prompt and continuation."""
        return self._made(prompts, what, seed)[1]

    def audio(self, prompts: Prompts, what: Intervention, seed: int) -> NDArray[np.float32]:
        """Audio of the continuations alone ``[n, samples]``; what follows a prompt is cut from the decoded whole."""
        codes = self.codes(prompts, what, seed)
        whole = self.generator.decode(codes).numpy()
        return np.ascontiguousarray(whole[:, round(whole.shape[1] * prompts.codes.shape[2] / codes.shape[2]) :])

    def heard(self, prompts: Prompts, what: Intervention, seed: int, ears: list[Ear]) -> dict[str, NDArray[np.float64]]:
        """What ears measure of the continuations: kind -> ``[n, columns]``; and ``similarity [n, 1]`` to the unsteered."""

        rate = self.generator.card.rate

        def likeness(waves: NDArray[np.float32]) -> NDArray[np.float64]:
            plain = self.audio(prompts, UNSTEERED, seed)
            return np.array([[spectra.similarity(a, b, rate)] for a, b in zip(plain, waves, strict=True)])

        def by(ear: Ear) -> Measure:
            return lambda waves: np.array([ear.hear(wave, rate) for wave in waves])

        measures: list[tuple[str, str, Measure]] = [("similarity", "log-mel-1", likeness)]
        measures += [(ear.kind, ear.revision, by(ear)) for ear in ears]
        key, audio, found = self._key(prompts, what, seed), None, dict[str, NDArray[np.float64]]()
        for kind, revision, measure in measures:
            path = self.folder / "heard" / f"{kind}-{hashlib.sha256(f'{key} {revision}'.encode()).hexdigest()[:16]}.npz"
            if path.is_file():
                found[kind] = arrays.load(path)["values"]
                continue
            audio = self.audio(prompts, what, seed) if audio is None else audio
            found[kind] = measure(audio)
            arrays.save(path, {"values": found[kind]})
        return found

    def resemblance(self, prompts: Prompts, seed: int, other: int) -> NDArray[np.float64]:
        """Similarity of two unsteered continuations of each prompt ``[n]``: as much as luck leaves alike."""
        both = zip(self.audio(prompts, UNSTEERED, seed), self.audio(prompts, UNSTEERED, other), strict=True)
        return np.array([spectra.similarity(a, b, self.generator.card.rate) for a, b in both])

    def _key(self, prompts: Prompts, what: Intervention, seed: int) -> str:
        facts = [self.generator.revision, self.layer, self.frames, prompts.digest, what.identity, seed]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def _made(self, prompts: Prompts, what: Intervention, seed: int) -> tuple[Tensor, NDArray[np.float64]]:
        key = self._key(prompts, what, seed)
        path = self.folder / "continuations" / f"{key}.npz"
        if path.is_file():
            kept = arrays.load(path)
            return torch.from_numpy(kept["codes"].astype(np.int64)), kept["loss"]
        layer = None if what.splice is None else self.layer
        parts = [
            self.generator.generate(part, self.frames, seed=1000 * seed + i, layer=layer, splice=what.splice)
            for i, part in enumerate(torch.split(prompts.codes, BATCH))
        ]
        codes = torch.cat(parts)
        loss = torch.cat([self.generator.loss(part).mean(1) for part in parts]).double().numpy()
        self.made += 1
        arrays.save(path, {"codes": codes.numpy().astype(np.int32), "loss": loss})
        return codes, loss
