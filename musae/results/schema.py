"""The schema of a row, published as JSON Schema in ``results/schema.json``.

A `Row` is a `Cell` (what was scored on what: the same for all rows of a file) plus a `Measure` (one number, or the reason why
there is none). On disk a cell and its provenance are written once per file, in memory rows are flat: a list of rows is a table.

Conventions: an absent number is None with a reason in `unscored`, never a sentinel and never NaN; `k` is the dictionary's own
sparsity (L0), `probe_k` the latents per class that a probe may read; intervals are 95 %.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from musae.card import Direction

FORMAT = 1
"""Version of the file format."""

Role = Literal["method", "baseline", "control", "supervised"]
"""As in `musae.card.MethodCard`: methods are ranked; controls and baselines are shown beside them."""

Features = Literal["latents", "residual", "codec_step", "codec_means"]
"""What was scored: a dictionary's latents, the raw residual stream, or the tokens that the model sees at that step."""

_WORD = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}"
Name = Annotated[str, StringConstraints(pattern=rf"^{_WORD}(/{_WORD})?$")]
"""A registered name: ``topk``, or ``package/name`` for a plug-in. Safe as part of a path once its slash is replaced."""
Revision = Annotated[str, StringConstraints(pattern=rf"^{_WORD}$")]
"""A revision: letters, digits and ``_ . + -``, at most 80. Safe as part of a path."""
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12,64}$")]
"""A content hash, lower-case hexadecimal, at least 12 digits."""
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=200)]
"""Free text on one line."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cell(_Frozen):
    """What was scored on what: one dictionary, one corpus, one task."""

    suite: Name
    """The suite whose sizes and seeds it follows."""
    suite_version: Annotated[int, Field(ge=1)]
    generator: Name
    generator_revision: Revision
    layer: Count
    """The residual stream after so many blocks."""
    method: Name
    role: Role
    """What its method's card says it is."""
    features: Features = "latents"
    dictionary: Hash
    """Content hash of the frozen dictionary; of its definition, for a baseline that learns nothing."""
    seed: int | None = None
    """The training seed; None where no seed changes what is learnt."""
    width: Annotated[int, Field(ge=1)] | None = None
    """Number of latents; None for a baseline that has none."""
    k: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The dictionary's sparsity: latents active per frame (L0) that it is held to; None where nothing is held."""
    training_frames: Count = 0
    """Frames that it was trained on (training tokens)."""
    configurations: Annotated[int, Field(ge=1)] = 1
    """Tuning budget: configurations tried before this one was chosen; 1 for defaults."""
    corpus: Name
    corpus_revision: Revision
    task: Name
    task_version: Annotated[int, Field(ge=1)]
    title: Text = ""
    """What people call the dictionary, shown instead of the method's name; empty for what the method's name tells. It tells
    checkpoints of other libraries from one another."""

    @property
    def slot(self) -> Cell:
        """The cell whatever its dictionary's hash: a newer dictionary of the same method, seed and sizes takes its place.

        What has a title was trained elsewhere, and is superseded by nothing but itself.
        """
        return self if self.title else self.model_copy(update={"dictionary": "0" * 12})


class Measure(_Frozen):
    """One number of a task, or the reason why there is none."""

    metric: Name
    value: Finite | None = None
    unscored: str = ""
    """Why there is no value; empty where there is one."""
    low: Finite | None = None
    """Lower end of the 95 % interval of the piece bootstrap."""
    high: Finite | None = None
    """Upper end of the same interval."""
    probe_k: Annotated[int, Field(ge=1)] | None = None
    """Latents per class that the probe may read; None where it reads all, or where there is no probe."""
    control: Text = ""
    """The null that this number is (``chance``, ``permuted_labels``, ...); empty for the score itself."""
    truth: Literal["", "exact", "annotated", "derived", "estimated"] = ""
    """Level of truth of the labels; empty where no label is read."""
    label: Text = ""
    """The class, codebook or bin that it is about; empty for the whole."""
    pieces: Count = 0
    """Pieces (groups) that it was measured on: the n of the interval."""
    main: bool = False
    """A main score: on the board, with bootstrap replicates beside the file."""
    direction: Direction = "none"
    """Which way is better."""

    @property
    def tag(self) -> str:
        """The measure's key within its file: ``metric|probe_k|truth|label|control``."""
        return "|".join((self.metric, "all" if self.probe_k is None else str(self.probe_k), self.truth, self.label, self.control))

    @model_validator(mode="after")
    def _one_of_value_and_reason(self) -> Measure:
        if (self.value is None) != bool(self.unscored):
            raise ValueError("a measure has either a value or a reason in `unscored`, not both and not neither")
        if self.value is None and (self.low is not None or self.high is not None):
            raise ValueError("an unscored measure has no interval")
        if (self.low is None) != (self.high is None) or (self.low is not None and self.high is not None and self.low > self.high):
            raise ValueError("an interval has two ends, `low` <= `high`")
        if self.main and (self.control or self.label):
            raise ValueError("a main score is about the whole: it has no `control` and no `label`")
        return self


class Row(Measure, Cell):
    """A measure with its cell: one row of the table."""

    @property
    def key(self) -> tuple[str | int | float | None, ...]:
        """What identifies a row: its cell's fields and its tag, in a fixed order."""
        return (*(getattr(self, name) for name in Cell.model_fields), self.tag)


class Provenance(_Frozen):
    """What made the rows of a file."""

    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{7,64}$|^$")] = ""
    """Commit of the checkout that scored; empty outside one (an installed package)."""
    dirty: bool = False
    """Whether the checkout had changes that are not in the commit (or no commit at all)."""
    stream: Text = ""
    """The generator whose residual stream was encoded, ``name@revision``, where it is not the cell's: that of a control."""
    device: str
    """The processor that computed, in words."""
    cores: Annotated[int, Field(ge=1)]
    """Processors that the process could use."""
    threads: Annotated[int, Field(ge=1)]
    """Threads of the numerical libraries."""
    packages: dict[str, str]
    """Distribution name -> version of what the numbers depend on; ``python`` among them."""
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Wall-clock time of the cell."""
    created: AwareDatetime
    """When it was scored, UTC."""


class Document(_Frozen):
    """A file of rows as it lies on disk: the cell and the provenance once, then one measure a line."""

    format: Literal[1] = FORMAT  # type: ignore[assignment]
    cell: Cell
    provenance: Provenance
    replicates_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$|^$")] = ""
    """Checksum of the ``.npz`` beside the file; empty where no main score was measured."""
    rows: tuple[Measure, ...]

    @model_validator(mode="after")
    def _tags_are_unique(self) -> Document:
        tags = [row.tag for row in self.rows]
        twice = sorted({tag for tag in tags if tags.count(tag) > 1})
        if twice:
            raise ValueError(f"the measure {twice[0]!r} occurs twice")
        return self

    def text(self) -> str:
        """Compact JSON that diffs well: sorted keys, defaults left out of the measures, one measure a line."""
        head = self.model_dump(mode="json", exclude={"rows"})
        lines = [f" {_line(name)}: {_line(value)}" for name, value in sorted(head.items())]
        rows = ",\n".join("  " + _line(row.model_dump(mode="json", exclude_defaults=True)) for row in self.rows)
        lines.append(f' "rows": [\n{rows}\n ]')
        return "{\n" + ",\n".join(lines) + "\n}\n"


def schema_text() -> str:
    """The JSON Schema of a file of rows, as published in ``results/schema.json``."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Document.model_json_schema()}
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _line(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
