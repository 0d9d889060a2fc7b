"""All that the tables need of one dictionary, measured once and kept on disk.

    <root>/tables/<generator>@<revision>/<corpus>@<revision>/layer<L>/<member>-<digest>.npz

`<digest>` is of the dictionary's content, the held-out activations and the code that measures: what exists is right, and an
interrupted command goes on with the next dictionary.
"""

from __future__ import annotations

import hashlib
import importlib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musae.files import atomic_path
from musae.labels import evidence, facts
from musae.scores.heldout import Features, HeldOut
from musae.tables import activity, judged, profiles

SOURCES = ("musae.labels", "musae.scores")
"""Packages whose code decides what is measured, beside the modules of this one."""


UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
"""What numpy raises for a file that is missing, truncated, altered or something else altogether."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One dictionary on the held-out clips. Arrays by name: what is per level of truth has it in its key."""

    pieces: int
    l0: float
    """Active latents of a frame."""
    silent: int
    """Latents that fire on no frame of the clips."""
    active: NDArray[np.int32]
    """Clips on which each latent is active, at each of `activity.LEVELS` ``[levels, F]``."""
    frames: NDArray[np.int32]
    """Probe rows on which each fires, at `evidence.LEVEL` ``[F]``."""
    rows: NDArray[np.int64]
    """Clips, probe rows."""
    counts: NDArray[np.float64]
    """Latents within the paper's band by each of `activity.DEFINITIONS`, with replicates ``[3, 1 + R]``."""
    alive: int
    """Latents that the sample is drawn from."""
    latents: NDArray[np.int64]
    """The sample ``[S]``."""
    statistics: NDArray[np.float64]
    concepts: NDArray[np.float64]
    """See `musae.tables.profiles`; of the level of truth at which most clips are annotated."""
    each: Mapping[str, NDArray[np.float32]]
    """Level of truth -> Youden index of each latent of the sample: see `judged.each`."""
    labels: Mapping[str, judged.LabelScores]
    """Level of truth -> the task's scores; a level at which no latent qualifies is left out."""

    @property
    def width(self) -> int:
        """Number of latents F."""
        return int(self.active.shape[1])

    @property
    def rates(self) -> NDArray[np.float64]:
        """Share of clips on which each latent is active, at each of `activity.LEVELS` ``[levels, F]``."""
        return self.active / int(self.rows[0])


def measure(features: Features, data: HeldOut) -> Measured:
    """Measure a feature set's code."""
    levels = facts.levels(data)
    clips, frames = activity.active_clips(features, data), activity.active_frames(features, data)
    sizes = [np.bincount(groups, minlength=data.pieces) for groups in (data.groups, evidence.groups(data, "frames"))]
    defined = (
        (clips[activity.LEVELS.index(0.0)], sizes[0]),
        (clips[activity.LEVELS.index(evidence.LEVEL)], sizes[0]),
        (frames, sizes[1]),
    )
    latents, alive = judged.sample(features, data)
    found = judged.values(features, data, latents)
    most = max(levels, key=lambda level: int(facts.annotated(data, level).sum()), default="")
    nothing = np.zeros((len(latents), 0))
    code = features.at(data.probe_rows)
    return Measured(
        pieces=data.pieces,
        l0=float((code > 0).sum() / len(data.probe_rows)),
        silent=int((features.clip_means <= 0).all(0).sum()),
        active=clips.sum(1, dtype=np.int32),
        frames=frames.sum(0, dtype=np.int32),
        rows=np.array([len(data.clips), len(data.probe_rows)]),
        counts=np.stack([activity.count(active, size, data.plan, activity.BAND) for active, size in defined]),
        alive=alive,
        latents=latents,
        statistics=profiles.statistics(features, data, latents) if len(latents) else nothing,
        concepts=profiles.concepts(found, data, most) if most and len(latents) else nothing,
        each={level: judged.each(latents, found, data, level) for level in levels if len(latents)},
        labels={level: scores for level in levels if (scores := judged.scores(features, data, level)) is not None},
    )


def kept(path: Path, make: Callable[[], Measured]) -> Measured:
    """What lies at `path`, or else `make()`, written there. A file that cannot be read is made again."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return _unpacked(dict(file))
    except UNREADABLE:
        pass
    made = make()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **_packed(made))  # type: ignore[arg-type]
    return made


def digest(*identity: str) -> str:
    """Ten hex digits over what a measurement depends on, the code that measures among it."""
    return hashlib.sha256("\0".join((*identity, _code())).encode()).hexdigest()[:10]


@cache
def _code() -> str:
    found = hashlib.sha256()
    folders = [Path(str(importlib.import_module(name).__file__)).parent for name in SOURCES]
    ours = [Path(str(module.__file__)) for module in (activity, judged, profiles)] + [Path(__file__)]
    for file in [path for folder in folders for path in sorted(folder.glob("*.py"))] + ours:
        found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


def _packed(made: Measured) -> dict[str, NDArray]:
    out: dict[str, NDArray] = {}
    for field in fields(made):
        value = getattr(made, field.name)
        if not isinstance(value, Mapping):
            out[field.name] = np.asarray(value)
    out |= {f"each/{level}": value for level, value in made.each.items()}
    for level, scores in made.labels.items():
        out |= {f"labels/{level}/{field.name}": np.asarray(getattr(scores, field.name)) for field in fields(scores)}
    return out


def _unpacked(arrays: Mapping[str, NDArray]) -> Measured:
    def plain(value: NDArray) -> NDArray | int | float:
        return value if value.ndim else value.item()

    each = {name.removeprefix("each/"): value for name, value in arrays.items() if name.startswith("each/")}
    levels = sorted({name.split("/")[1] for name in arrays if name.startswith("labels/")})
    labels = {
        level: judged.LabelScores(
            **{field.name: plain(arrays[f"labels/{level}/{field.name}"]) for field in fields(judged.LabelScores)}  # type: ignore[arg-type]
        )
        for level in levels
    }
    others = {f.name: plain(arrays[f.name]) for f in fields(Measured) if f.name not in ("each", "labels")}
    return Measured(**others, each=each, labels=labels)  # type: ignore[arg-type]
