"""What a label may claim: a closed vocabulary, so that a claim can be checked against annotations.

A `Label` is free text for people and a list of claims for the judge; a label without claims abstains. The JSON Schema of `Label`
(`answer_schema`) is what a language model is asked for, and ``Label.model_validate_json`` checks its answer here,
whatever an endpoint promises.

A claim says which fact it is about (`musae.labels.facts`), and `holds` says whether it is true of one value of that fact: True,
False, or None where the annotations do not say. Claims about what changes within a clip are judged at frames: chord, root,
quality, beat position, register, dynamics. Key, mode, tempo, metre, instruments and drums are properties of a stretch of music
(a frame has no tempo, and an instrument rests between its notes): they are judged at clips.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self

import mir_eval
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from musae.corpora.instruments import DRUMS, FAMILIES
from musae.scores.mir import KEYS, TONICS, VOCABULARIES, chord_table

Fact = Literal["chord", "beat", "pitch", "velocity", "key", "mode", "tempo", "meter", "families", "programs", ""]

REGISTERS: dict[str, tuple[float, float]] = {"low": (0, 55), "middle": (55, 67), "high": (67, 128)}
"""Mean MIDI pitch of what sounds, lowest included: below G3, G3 to below G4, G4 and above."""

DYNAMICS: dict[str, tuple[float, float]] = {"soft": (0, 64), "medium": (64, 96), "loud": (96, 128)}
"""Velocity of the loudest note that sounds, lowest included: up to mp, mf to f, above."""


ASKED = 3
"""Claims that a language model is asked for at most: the truth judge takes their mean, so each has to earn its place."""

WORDS = (40, 100)
"""Characters of name and description that a language model is asked for."""


class Claim(BaseModel):
    """One checkable statement."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fact: ClassVar[Fact] = ""
    """Which fact it is about; empty: about none."""

    def holds(self, value: Any) -> bool | None:
        """Whether it is true of a value of its fact; None where the value is None (not annotated) or out of its gamut."""
        return None if value is None else self._holds(value)

    def _holds(self, value: Any) -> bool | None:
        raise NotImplementedError


class ChordClaim(Claim):
    """A major or minor chord, or no chord; mir_eval's ``majmin`` says whether it is the one that sounds."""

    fact: ClassVar[Fact] = "chord"
    kind: Literal["chord"] = "chord"
    chord: str = Field(json_schema_extra={"enum": list(VOCABULARIES["majmin"])})

    @field_validator("chord")
    @classmethod
    def _known(cls, chord: str) -> str:
        return _one_of(chord, VOCABULARIES["majmin"])

    def _holds(self, value: str) -> bool | None:
        return _compare("majmin", value, self.chord)


class RootClaim(Claim):
    """The root of the chord that sounds."""

    fact: ClassVar[Fact] = "chord"
    kind: Literal["root"] = "root"
    root: str = Field(json_schema_extra={"enum": list(TONICS)})

    @field_validator("root")
    @classmethod
    def _known(cls, root: str) -> str:
        return _one_of(root, TONICS)

    def _holds(self, value: str) -> bool | None:
        return _compare("root", value, self.root)


class QualityClaim(Claim):
    """The triad within the chord that sounds, on whatever root (mir_eval's ``triads``)."""

    fact: ClassVar[Fact] = "chord"
    kind: Literal["quality"] = "quality"
    quality: Literal["maj", "min", "dim", "aug"]

    def _holds(self, value: str) -> bool | None:
        root = mir_eval.chord.split(value)[0]
        return False if root == "N" else None if root == "X" else _compare("triads", value, f"{root}:{self.quality}")


class BeatClaim(Claim):
    """Position in the bar of the beat that sounds, 1 on the downbeat."""

    fact: ClassVar[Fact] = "beat"
    kind: Literal["beat_position"] = "beat_position"
    position: int = Field(ge=1, le=16)

    def _holds(self, value: int) -> bool:
        return value == self.position


class RegisterClaim(Claim):
    """Register of what sounds: `REGISTERS`."""

    fact: ClassVar[Fact] = "pitch"
    kind: Literal["register"] = "register"
    register_: Literal["low", "middle", "high"] = Field(alias="register")

    def _holds(self, value: float) -> bool:
        low, high = REGISTERS[self.register_]
        return low <= value < high


class DynamicsClaim(Claim):
    """Loudness as played: `DYNAMICS`."""

    fact: ClassVar[Fact] = "velocity"
    kind: Literal["dynamics"] = "dynamics"
    dynamics: Literal["soft", "medium", "loud"]

    def _holds(self, value: int) -> bool:
        low, high = DYNAMICS[self.dynamics]
        return low <= value < high


class KeyClaim(Claim):
    """Key of a clip, one of 24."""

    fact: ClassVar[Fact] = "key"
    kind: Literal["key"] = "key"
    key: str = Field(json_schema_extra={"enum": list(KEYS)})

    @field_validator("key")
    @classmethod
    def _known(cls, key: str) -> str:
        return _one_of(key, KEYS)

    def _holds(self, value: str) -> bool:
        return value == self.key


class ModeClaim(Claim):
    """Mode of a clip's key."""

    fact: ClassVar[Fact] = "mode"
    kind: Literal["mode"] = "mode"
    mode: Literal["major", "minor"]

    def _holds(self, value: str) -> bool:
        return value == self.mode


class TempoClaim(Claim):
    """Tempo in beats per minute, `low` included."""

    fact: ClassVar[Fact] = "tempo"
    kind: Literal["tempo"] = "tempo"
    low: float = Field(ge=20, le=400, json_schema_extra={"type": "integer"})
    high: float = Field(ge=20, le=400, json_schema_extra={"type": "integer"})

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low:g} must lie below high = {self.high:g}")
        return self

    def _holds(self, value: float) -> bool:
        return self.low <= value < self.high


class MeterClaim(Claim):
    """Beats of a bar."""

    fact: ClassVar[Fact] = "meter"
    kind: Literal["meter"] = "meter"
    beats: int = Field(ge=1, le=16)

    def _holds(self, value: int) -> bool:
        return value == self.beats


class FamilyClaim(Claim):
    """A General MIDI family that sounds in the clip."""

    fact: ClassVar[Fact] = "families"
    kind: Literal["family"] = "family"
    family: str = Field(json_schema_extra={"enum": list(FAMILIES)})

    @field_validator("family")
    @classmethod
    def _known(cls, family: str) -> str:
        return _one_of(family, FAMILIES)

    def _holds(self, value: tuple[frozenset[str], frozenset[str]]) -> bool | None:
        return _sounds(self.family, value)


class DrumsClaim(Claim):
    """Whether drums sound in the clip."""

    fact: ClassVar[Fact] = "families"
    kind: Literal["drums"] = "drums"
    drums: bool

    def _holds(self, value: tuple[frozenset[str], frozenset[str]]) -> bool | None:
        sounds = _sounds(DRUMS, value)
        return None if sounds is None else sounds == self.drums


class InstrumentClaim(Claim):
    """A General MIDI program (0-127) that sounds in the clip."""

    fact: ClassVar[Fact] = "programs"
    kind: Literal["instrument"] = "instrument"
    program: int = Field(ge=0, le=127)

    def _holds(self, value: frozenset[int]) -> bool:
        return self.program in value


class NoneOfThese(Claim):
    """The latent stands for something that this vocabulary has no word for: nothing that could be checked."""

    kind: Literal["none_of_these"] = "none_of_these"

    def holds(self, value: Any) -> bool | None:
        return None


AnyClaim = Annotated[
    ChordClaim
    | RootClaim
    | QualityClaim
    | BeatClaim
    | RegisterClaim
    | DynamicsClaim
    | KeyClaim
    | ModeClaim
    | TempoClaim
    | MeterClaim
    | FamilyClaim
    | DrumsClaim
    | InstrumentClaim
    | NoneOfThese,
    Field(discriminator="kind"),
]


class Label(BaseModel):
    """What an explainer says of a latent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(max_length=80)
    description: str = Field(default="", max_length=1000)
    confidence: float = Field(ge=0, le=1)
    claims: tuple[AnyClaim, ...] = Field(default=(), max_length=8)
    """Empty for an abstention."""

    @property
    def checkable(self) -> tuple[Claim, ...]:
        """The claims that annotations could decide, each once."""
        return tuple(dict.fromkeys(claim for claim in self.claims if claim.fact))


ABSTENTION = Label(name="", confidence=0)


def answer_schema() -> dict[str, Any]:
    """JSON Schema of a `Label` as a language model is asked for it: every property required, claims first, at most `ASKED`.

    Claims come first since a small model writes better words for what it has claimed than claims for what it has worded.
    """
    schema = Label.model_json_schema()
    for part in schema["$defs"].values():
        part["required"] = list(part["properties"])
    properties = schema["properties"]
    properties["name"]["maxLength"], properties["description"]["maxLength"] = WORDS
    properties["claims"] |= {"maxItems": ASKED, "minItems": 1}
    schema["properties"] = {name: properties[name] for name in ("claims", "name", "description", "confidence")}
    schema["required"] = list(schema["properties"])
    return schema


def _one_of(value: str, vocabulary: tuple[str, ...]) -> str:
    if value not in vocabulary:
        raise ValueError(f"{value!r} is none of {', '.join(vocabulary)}")
    return value


def _sounds(family: str, value: tuple[frozenset[str], frozenset[str]]) -> bool | None:
    sounding, unobserved = value
    return None if family in unobserved else family in sounding


@cache
def _compare(metric: str, reference: Hashable, estimate: Hashable) -> bool | None:
    """mir_eval's comparison of two chords; None where the reference is out of its gamut."""
    found = chord_table(metric, [str(reference)], [str(estimate)])[0, 0]
    return None if found < 0 else bool(found == 1)
