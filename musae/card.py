"""Cards: what a method, task, corpus, generator, estimator or suite is, known before it is imported.

A module declares its card as a literal, ``CARD = MethodCard(name="topk", ...)``; `musae.registry` reads it from the source
text, so that listing names imports no torch. Hence every argument of a card must be a Python literal.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

Direction = Literal["higher", "lower", "none"]
"""Which way is better; ``none`` for a descriptive score."""

Reads = Literal["codes", "reconstruction", "atoms", "generator"]
"""What of a dictionary a task's scores can possibly see."""

Reading = Literal["causal", "bidirectional"]
"""What a row of a generator's stream may depend on: earlier frames and its own, or all of its clip."""

Stream = Literal["trained", "untrained"]
"""The generator as it is, or its architecture with the random weights that training began from (a control)."""


class Card(BaseModel):
    """What every card says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The name users type: the stem of the file."""
    summary: str
    """One line, for `musae list`."""


class MethodCard(Card):
    """A way to learn (or choose) a dictionary or a feature set."""

    paper: str = ""
    """Where it comes from."""
    role: Literal["method", "baseline", "control", "supervised"] = "method"
    """`control` and `baseline` rows are always shown beside the methods; `supervised` ones, a ceiling, are never ranked among
    them, and are the only ones that see labels when they are fitted."""
    seeded: bool = True
    """Whether a seed changes what is learnt; an unseeded method is fitted once."""
    fitted: bool = True
    """Whether it learns from frames; ``imported`` does not: it is read from a checkpoint."""
    stream: Stream = "trained"
    """Whose residual stream it is fitted and scored on: that of the suite's generator, or of the same one with random weights."""
    features: str = "latents"
    """Which feature set its rows are about: ``latents``, ``residual``, ``codec_step``, ``codec_means``."""
    configurations: PositiveInt = 1
    """Tuning budget: how many configurations were tried before the defaults were chosen."""


class TaskCard(Card):
    """One file in tasks/: what is scored, and how it is read."""

    version: int
    """Raised whenever a score's meaning changes; rows of different versions are never compared."""
    main: tuple[str, ...]
    """The main metrics: they carry bootstrap replicates and appear on the board."""
    direction: dict[str, Direction]
    """For each main metric, which way is better."""
    reads: tuple[Reads, ...]
    licence: str = "Apache-2.0"
    references: tuple[str, ...] = ()
    """Which of its controls are no nulls, but other ways to do the same, shown beside: a ceiling, an oracle."""
    labels: bool = False
    """Whether it has latents labelled: by the suite's explainer, as many as the suite says."""
    concept: str | None = None
    """The annotated concept it needs (`musae.corpora.track.CONCEPTS`), ``attributes``, or None."""


class CorpusCard(Card):
    """A corpus: where its audio comes from and what is known of it."""

    licence: str
    source: str
    truth: dict[str, tuple[str, ...]]
    """Concept -> the levels of truth that occur (`musae.corpora.track.Truth`)."""
    argument: str = ""
    """As in `GeneratorCard`."""


class GeneratorCard(Card):
    """A music generator whose residual stream is studied."""

    licence: str
    rate: int
    """Audio sampling rate in Hz."""
    frame_rate: float
    """Decoding steps per second."""
    codebooks: int
    width: int
    """Width d of the residual stream."""
    layers: int
    """Number of blocks; layer n is the stream after n blocks, 0 after the embeddings."""
    reading: Reading = "causal"
    argument: str = ""
    """What may follow the name and a colon, in words, where the module's ``card(argument)`` and ``load(argument)`` take one;
    the card itself is then of what ``load()`` gives."""


class EstimatorCard(Card):
    """A tool that guesses annotations from audio. What it says is `estimated`, never ground truth."""

    licence: str
    """Of its code, and of its models where it has some."""
    source: str
    """The package and algorithm, and the paper."""
    concepts: tuple[str, ...]
    """What it may estimate (`musae.corpora.track.CONCEPTS`)."""
    rate: PositiveInt
    """Sampling rate in Hz at which it hears audio."""
    shortest: PositiveFloat
    """Seconds of audio that it needs at least."""
    version: PositiveInt = 1
    """Raised whenever this package makes something else of what the tool finds; part of the revision."""
    argument: str = ""
    """As in `GeneratorCard`."""


class ProviderCard(Card):
    """A way to ask a language model."""

    source: str
    """The model and its licence, or the interface that is spoken."""
    argument: str = ""
    """As in `GeneratorCard`."""


class ExplainerCard(Card):
    """A way to label latents."""

    reads: Literal["annotations", "descriptors", "audio"]
    """What its evidence is: the very annotations that labels are judged by (a ceiling), estimates, or clips."""
    argument: str = ""
    """As in `GeneratorCard`."""


class SuiteCard(Card):
    """A frozen list of what a table refers to: tasks, corpora, sizes and seeds under one name."""

    generator: str
    layer: NonNegativeInt
    width: PositiveInt
    k: PositiveInt
    methods: tuple[str, ...]
    """What is fitted with each of `seeds`."""
    controls: tuple[str, ...] = ()
    """Controls that are fitted with `control_seeds`. One that costs little may stand among `methods`, and have all seeds."""
    baselines: tuple[str, ...]
    tasks: tuple[str, ...]
    corpora: tuple[str, ...]
    seeds: tuple[int, ...]
    control_seeds: tuple[int, ...] = ()
    """Some of `seeds`: a control lies so far below what it controls for that one seed shows it, at a third of the time."""
    training_frames: PositiveInt
    """Frames that each dictionary is trained on; one epoch."""
    clip_seconds: PositiveFloat
    clips: dict[str, PositiveInt]
    """Corpus -> held-out clips to score on, spread over as many pieces as possible."""
    clips_per_track: PositiveInt = 1
    probe_frames: PositiveInt = 50_000
    """At most so many frames are given to the probes of a task."""
    explainer: str = "text"
    """Who labels latents, where a task asks for labels: by default the local language model."""
    labelled: PositiveInt = 200
    """At most so many latents are labelled."""
    version: int = 1
    replicates: int = Field(default=1000, ge=100)
    """Bootstrap replicates of each main score."""

    @property
    def members(self) -> tuple[str, ...]:
        """All methods, controls and baselines, in the order of a board."""
        return self.methods + self.controls + self.baselines

    def seeds_of(self, member: str) -> tuple[int, ...]:
        """The seeds that a seeded member is fitted with."""
        return self.control_seeds if member in self.controls else self.seeds

    @model_validator(mode="after")
    def _controls_have_seeds(self) -> Self:
        if self.controls and not self.control_seeds:
            raise ValueError("controls without control_seeds are never fitted; give at least one seed")
        if not set(self.control_seeds) <= set(self.seeds):
            raise ValueError("control_seeds must be among seeds, or controls and methods cannot be paired")
        twice = sorted(name for name in set(self.members) if self.members.count(name) > 1)
        if twice:
            raise ValueError(f"{', '.join(twice)} is listed twice; name each member once")
        return self

    @model_validator(mode="after")
    def _every_corpus_has_clips(self) -> Self:
        missing = [name for name in self.corpora if name not in self.clips]
        if missing:
            raise ValueError(f"clips says nothing of {', '.join(missing)}, which corpora lists")
        return self
