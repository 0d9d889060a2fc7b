"""Annotations in JAMS files (Humphrey et al., ISMIR 2014): the namespaces that musae's concepts have.

``chord`` and ``chord_harte``, ``key_mode``, ``tempo``, ``beat`` and ``beat_position``, and ``tag_open`` where all its tags are
instrument families. `musae.corpora.export` writes the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jams

from musae.corpora.instruments import DRUMS, FAMILIES
from musae.corpora.track import Annotations, Span, Truth
from musae.errors import UserError

CONCEPT = {
    "chord": "chords",
    "chord_harte": "chords",
    "key_mode": "key",
    "tempo": "tempo",
    "beat": "beats",
    "beat_position": "beats",
    "tag_open": "instruments",
}
"""Namespace -> concept."""

MACHINE = ("program", "machine", "automatic", "algorithm")
"""In an annotation's ``data_source``: a tool's guess, hence `Truth.ESTIMATED`."""


@dataclass
class Sheet:
    """What a JAMS file says."""

    annotations: Annotations = field(default_factory=Annotations)
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    """What was left out, and why."""


def read(path: Path) -> Sheet:
    """The first annotation of each concept. Raises UserError for a file that is no JAMS."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = jams.load(str(path), validate=False, strict=False)
    except Exception as error:  # jams raises what json, jsonschema and itself do
        raise UserError(f"{path.name}: no JAMS file ({str(error).splitlines()[0]})") from error
    sheet = Sheet(sandbox=dict(vars(found.sandbox)))
    parts: dict[str, Any] = {"truth": {}}
    unobserved = frozenset(map(str, sheet.sandbox.get("unobserved") or ())) & {*FAMILIES, DRUMS}
    for annotation in found.annotations:
        concept = CONCEPT.get(annotation.namespace)
        if concept is None or concept in parts["truth"]:
            continue
        try:
            value = _values(annotation, concept)
            if concept == "instruments" and unobserved:
                value = {"instruments": frozenset(), "unobserved": unobserved} | value
        except (ValueError, TypeError) as error:
            sheet.remarks.append(f"{path.name}: {concept} left out: {error}")
            continue
        if value:
            parts |= value
            parts["truth"][concept] = _truth(annotation)
    sheet.annotations = Annotations(**parts)
    return sheet


def _truth(annotation: Any) -> Truth:
    source = str(annotation.annotation_metadata.data_source or "").lower()
    if source in set(Truth):
        return Truth(source)
    return Truth.ESTIMATED if any(word in source for word in MACHINE) else Truth.ANNOTATED


def _values(annotation: Any, concept: str) -> dict[str, Any]:
    """Fields of `Annotations`. Raises ValueError or TypeError, saying why, for what musae cannot hold."""
    data = [(float(o.time), float(o.duration), o.value) for o in annotation.data]
    if concept == "chords":
        return {"chords": tuple(Span(time, time + length, str(value)) for time, length, value in data if length > 0)}
    if concept == "key":
        return {"keys": tuple(Span(time, time + length, str(v).replace(":", " ")) for time, length, v in data if length > 0)}
    if concept == "beats":
        return _beats(annotation.namespace, data)
    if concept == "tempo":
        tempi = {round(float(value), 3) for _, _, value in data}
        if len(tempi) > 1:
            raise ValueError(f"tempi of {min(tempi):g} to {max(tempi):g} bpm, and a track has one")
        return {"tempo": tempi.pop()} if tempi else {}
    tags = {str(value) for _, _, value in data}
    if not tags or not tags <= {*FAMILIES, DRUMS}:
        return {}
    return {"instruments": frozenset(tags)}


def _beats(namespace: str, data: list[tuple[float, float, Any]]) -> dict[str, Any]:
    positions = [value["position"] if namespace == "beat_position" else value for _, _, value in data]
    if not data:
        return {}
    times = tuple(time for time, _, _ in data)
    if all(position is None for position in positions):
        return {"beats": times, "beat_positions": ()}
    if any(position is None for position in positions):
        raise ValueError("some beats have a position in the bar, and some have none")
    return {"beats": times, "beat_positions": tuple(int(position) for position in positions)}
