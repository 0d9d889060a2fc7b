"""What `musae tables` writes: ``tables.json``. Intervals are 95 %, of the bootstrap over pieces unless said otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from musae.files import atomic_path
from musae.results import Provenance

Kind = Literal["trained", "random"]
"""A sweep's dictionary, or its random twin: the same size, random directions."""


class Strict(BaseModel):
    """No unknown fields; unchangeable; no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(Strict):
    """A number with its interval, or the reason why there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    unscored: str = ""


class Setting(Strict):
    """Dictionaries that differ in their layer alone."""

    method: str
    width: int
    expansion: float
    """Latents a column of the stream."""
    k: int
    seed: int

    @property
    def title(self) -> str:
        """For people: ``4, 32`` for expansion and k; the method and the seed where they are not the paper's and the first."""
        method = "" if self.method == "topk" else f"{self.method} "
        return f"{method}{self.expansion:g}, {self.k}" + (f", seed {self.seed}" if self.seed else "")


class Of(Strict):
    """What a row is about."""

    setting: Setting
    kind: Kind
    layer: int | None
    """None for all layers together."""


class Line(Of):
    """A dictionary of the sweep, or a twin."""

    dictionary: str
    """Content hash; empty for one that is missing."""
    file: str
    """Empty for a twin, which is made on the spot."""
    l0: float | None
    """Active latents of a frame of the held-out clips."""
    silent: int | None
    """Latents that fire on none of these frames."""
    missing: str = ""
    """Why nothing was measured; empty where it was."""


class Count(Of):
    """Latents that pass the paper's filter."""

    definition: Literal["mean > 0", "firing clips", "firing frames"]
    """When a latent is active: see `musae.tables.activity`."""
    count: Estimate
    """The interval's replicates are centred on the count."""


class Point(Of):
    """A point of a sensitivity curve."""

    axis: Literal["lower", "upper", "level"]
    """What is varied: a bound of the rate, or the level above which a latent counts as active."""
    at: float
    count: int
    """Latents within the bounds, of all."""
    truth: str
    sampled: int
    """Latents within the bounds, of the sample that is labelled."""
    youden: Estimate
    """Mean over these, an abstention counted as 0."""


class LabelScore(Of):
    """Statistical labels of the latents that the task `label_precision` takes."""

    truth: str
    latents: int
    eligible: int
    labelled: float
    """Share of the latents that got a label."""
    youden: Estimate
    permuted: Estimate
    """Null: labels found and judged on permuted annotations."""
    shuffled: Estimate
    """Null: labels dealt out among latents."""


class Difference(Strict):
    """Label score of one dictionary less that of another on the same pieces: paired."""

    setting: Setting
    truth: str
    layer: int
    kind: Kind
    less_layer: int
    less_kind: Kind
    youden: Estimate


class Origin(Strict):
    """A layer-of-origin classifier."""

    setting: Setting
    kind: Kind
    features: Literal["all", "concepts", "statistics"]
    model: Literal["logistic", "mlp", "nearest"]
    layers: tuple[int, ...]
    latents: int
    """Of each layer."""
    chance: float
    accuracy: Estimate
    """Balanced, cross-validated over latents; the interval is of a bootstrap over latents."""
    by_layer: tuple[float, ...]
    permuted: tuple[float, ...]
    """The same on layers dealt out at random, several times."""


class Steered(Strict):
    """An experiment of `musae steer`."""

    folder: str
    layer: int
    method: str
    dictionary: str
    setting: Setting | None
    """Where it is a dictionary of this sweep."""
    scored: int
    """Concepts that could be scored; `effect`: those that move beyond random directions (its own verdict)."""
    unscored: int
    effect: int
    beyond_searched: int
    """Those that also move beyond a random direction that was searched for as the latents were."""
    share: Estimate
    """Of the scored concepts that have an effect; Wilson's interval."""


class Tables(Strict):
    """All tables of a sweep on one corpus."""

    format: Literal[1] = 1
    sweep: str
    commands: tuple[str, ...]
    """What made it, in order."""
    generator: str
    """name@revision; so is the corpus."""
    corpus: str
    clips: int
    pieces: int
    clip_seconds: float
    probe_frames: int
    training_frames: int
    layers: tuple[int, ...]
    band: tuple[float, float]
    """Bounds of the rate in the paper's filter."""
    lines: tuple[Line, ...]
    counts: tuple[Count, ...]
    points: tuple[Point, ...]
    labels: tuple[LabelScore, ...]
    differences: tuple[Difference, ...]
    origins: tuple[Origin, ...]
    steered: tuple[Steered, ...]
    notes: tuple[str, ...]
    """What is missing, and why."""
    provenance: Provenance

    def write(self, path: Path) -> Path:
        """Write the JSON, atomically."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return path
