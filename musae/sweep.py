"""Sweep files: a grid of methods, sizes, layers and seeds in TOML, to be trained over one pass of a generator.

    suite = "quick"              # generator, corpora, length of clips and number of frames, unless said otherwise below
    frames = 1_048_576
    methods = ["topk"]
    expansions = [4, 32]         # widths relative to the stream's; or widths = [1024, 8192]
    k = [32, 100]
    layers = [2, 5]
    seeds = [0]

    [options]                    # of all methods, by the names of their constructors
    learning_rate = 5e-3

    [method.topk]                # of one method; these go before [options]
    aux_weight = 0.03125

Members of a sweep share the order of frames and the batch size, so these are said once, outside of the options. Files of the
package (``musae/sweeps/*.toml``) are known by their stems.
"""

from __future__ import annotations

import difflib
import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, model_validator

from musae.card import SuiteCard
from musae.errors import UserError

FOLDER = Path(__file__).parent / "sweeps"
"""Sweep files that come with the package."""


@dataclass(frozen=True)
class Member:
    """One dictionary of a sweep."""

    method: str
    width: int
    k: int
    layer: int
    seed: int

    @property
    def name(self) -> str:
        """Of its files and in tables: ``topk-w1024-k32-L5-s0``."""
        return f"{self.method.replace('/', '~')}-w{self.width}-k{self.k}-L{self.layer}-s{self.seed}"


class Sweep(BaseModel):
    """What a sweep file may say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="sweep", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Of the folder of its dictionaries; the file's stem where it says none."""
    suite: str = "quick"
    """Whose generator, corpora, length of clips and number of frames are taken where the file says none."""
    generator: str | None = None
    corpora: tuple[str, ...] | None = None
    clip_seconds: PositiveFloat | None = None
    frames: PositiveInt | None = None
    """Frames of one pass."""
    methods: tuple[str, ...] = Field(min_length=1)
    """Methods that learn in steps."""
    widths: tuple[PositiveInt, ...] = ()
    expansions: tuple[PositiveFloat, ...] = ()
    """Widths relative to the width of the stream; in place of `widths`."""
    k: tuple[PositiveInt, ...] = Field(min_length=1)
    layers: tuple[NonNegativeInt, ...] = Field(min_length=1)
    seeds: tuple[NonNegativeInt, ...] = (0,)
    batch_size: PositiveInt = 1024
    """Frames of a step, of all members."""
    order_seed: NonNegativeInt = 0
    """Of the order of frames, of all members; `seeds` are those of the initial weights."""
    buffer_frames: PositiveInt = 2**18
    """Frames of each layer that are shuffled at once; see `musae.streaming`."""
    batch_clips: PositiveInt = 16
    """Clips of one forward pass of the generator."""
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """Of the frames in the buffer."""
    aside: PositiveInt = 32
    """Clips of the training pieces, evenly spread, that are not trained on: the summary's figures are measured on them."""
    options: dict[str, Any] = {}
    """Options of all methods."""
    method: dict[str, dict[str, Any]] = {}
    """Options of one method each."""
    settings: dict[str, str] = {}
    """Options from the command line, which go before both."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if bool(self.widths) == bool(self.expansions):
            raise ValueError("give either widths or expansions")
        strangers = sorted(set(self.method) - set(self.methods))
        if strangers:
            raise ValueError(f"[method.{strangers[0]}] is about a method that methods does not list")
        if any("batch_size" in options for options in (self.options, self.settings, *self.method.values())):
            raise ValueError("batch_size is shared by all members: give it once, outside of the options")
        return self

    def members(self, d: int) -> list[Member]:
        """The grid for a stream of width `d`, methods first, seeds last; what is listed twice is trained once."""
        widths = self.widths or tuple(round(expansion * d) for expansion in self.expansions)
        axes = (self.methods, widths, self.k, self.layers, self.seeds)
        return [Member(*point) for point in dict.fromkeys(itertools.product(*axes))]

    def options_of(self, method: str) -> dict[str, Any]:
        """A method's options: those of all, overridden by its own, overridden by the command line's."""
        return {**self.options, **self.method.get(method, {}), **self.settings, "batch_size": self.batch_size}

    def card(self, suite: SuiteCard, frame_rate: float) -> SuiteCard:
        """The suite that tokens are taken as for: with the clips that are set aside on top of the frames that are trained on.

        It names no members, so that the grid may grow without its digest changing. `frame_rate`: the generator's.
        """
        corpora = self.corpora or suite.corpora
        seconds = self.clip_seconds or suite.clip_seconds
        per_clip = int(round(seconds * frame_rate, 6))
        frames = self.frames or suite.training_frames
        return SuiteCard(
            name=self.name,
            summary="tokens of a sweep",
            generator=self.generator or suite.generator,
            layer=0,
            width=1,
            k=1,
            methods=(),
            baselines=(),
            tasks=(),
            corpora=corpora,
            seeds=(),
            training_frames=(-(-frames // per_clip) + self.aside) * per_clip,
            clip_seconds=seconds,
            clips={name: suite.clips.get(name, max(suite.clips.values())) for name in corpora},
            clips_per_track=suite.clips_per_track,
        )


def read(file: str, overrides: Mapping[str, Any] | None = None) -> Sweep:
    """A sweep by its file, or by the name of one of the package's, with fields of `overrides` in place of the file's.

    `widths` and `expansions` replace each other. Raises UserError that names file, field and what is wrong.
    """
    path = Path(file)
    if not path.is_file():
        shipped = FOLDER / f"{file}.toml"
        if not shipped.is_file():
            near = difflib.get_close_matches(file, names(), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"give a path, or one of: {', '.join(names())}."
            raise UserError(f"no sweep file {file!r}; {hint}")
        path = shipped
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML ({error}); repair the file.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions.") from error
    if "settings" in said:
        raise UserError(f"{path}: settings: unknown field; did you mean 'options'?")
    overrides = dict(overrides or {})
    for one, other in (("widths", "expansions"), ("expansions", "widths")):
        if one in overrides and other not in overrides:
            said.pop(other, None)
    try:
        return Sweep.model_validate({"name": path.stem.lower()} | said | overrides)
    except ValidationError as error:
        raise UserError(f"{path}: {_problem(error)}; repair the file.") from error


def names() -> list[str]:
    """Sweep files that come with the package, by their stems."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def _problem(error: ValidationError) -> str:
    """What is wrong with a sweep, in the first place: an unknown field, with the nearest that there is, before others."""
    problems = error.errors(include_url=False, include_context=False)
    problem = min(problems, key=lambda found: found["type"] != "extra_forbidden")
    field = ".".join(map(str, problem["loc"]))
    reason = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        known = [name for name in Sweep.model_fields if name != "settings"]
        near = difflib.get_close_matches(field, known, n=1, cutoff=0.5)
        reason = "unknown field" + (f", did you mean {near[0]!r}?" if near else f", known are {', '.join(known)}")
    elif problem["type"] not in ("missing", "value_error"):
        reason += f", not {problem['input']!r}"
    return f"{field}: {reason}" if field else reason
