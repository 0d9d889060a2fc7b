"""Claims against facts by hand, and the schema that answers are checked against."""

import json

import pytest
from pydantic import ValidationError

from musae.labels.claims import (
    ChordClaim,
    DrumsClaim,
    FamilyClaim,
    Label,
    NoneOfThese,
    QualityClaim,
    RegisterClaim,
    RootClaim,
    TempoClaim,
)
from musae.labels.explain_statistically import CANDIDATES, describe

SOUNDING = (frozenset({"piano", "drums"}), frozenset({"bass"}))


@pytest.mark.parametrize(
    ("claim", "value", "expected"),
    [
        (ChordClaim(chord="C:maj"), "C:maj/3", True),
        (ChordClaim(chord="C:maj"), "A:min", False),
        (ChordClaim(chord="C:maj"), "B:dim", None),  # out of majmin's gamut
        (ChordClaim(chord="N"), "N", True),
        (RootClaim(root="Bb"), "A#:min7", True),
        (RootClaim(root="C"), "N", False),
        (QualityClaim(quality="min"), "F#:min7", True),
        (QualityClaim(quality="dim"), "B:hdim7", True),
        (QualityClaim(quality="maj"), "N", False),
        (QualityClaim(quality="maj"), "X", None),
        (RegisterClaim(register="middle"), 55, True),
        (RegisterClaim(register="middle"), 67, False),
        (TempoClaim(low=90, high=120), 90.0, True),
        (TempoClaim(low=90, high=120), 120.0, False),
        (FamilyClaim(family="piano"), SOUNDING, True),
        (FamilyClaim(family="bass"), SOUNDING, None),
        (FamilyClaim(family="organ"), SOUNDING, False),
        (DrumsClaim(drums=False), SOUNDING, False),
        (NoneOfThese(), "C:maj", None),
        (RootClaim(root="C"), None, None),
    ],
)
def test_holds(claim, value, expected):
    assert claim.holds(value) is expected


@pytest.mark.parametrize("claim", CANDIDATES, ids=lambda c: c.model_dump_json())
def test_a_label_survives_json(claim):
    label = describe([claim], 0.5)
    assert Label.model_validate_json(label.model_dump_json(by_alias=True)) == label


@pytest.mark.parametrize(
    "claim",
    [
        {"kind": "root", "root": "H"},
        {"kind": "chord", "chord": "C:maj13"},
        {"kind": "tempo", "low": 120, "high": 90},
        {"kind": "mood", "mood": "sad"},
        {"kind": "mode", "mode": "major", "why": "bright"},
    ],
)
def test_what_is_not_in_the_vocabulary_is_refused(claim):
    with pytest.raises(ValidationError):
        Label.model_validate_json(json.dumps({"name": "x", "confidence": 1, "claims": [claim]}))


def test_the_schema_names_every_kind():
    kinds = Label.model_json_schema()["properties"]["claims"]["items"]["discriminator"]["mapping"]
    wanted = "chord root quality key mode tempo instrument family register drums meter beat_position dynamics none_of_these"
    assert set(kinds) == set(wanted.split())
