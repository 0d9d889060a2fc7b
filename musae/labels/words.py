"""Facts in words, and the claims that they bear out: what a language model is told, in the vocabulary in which it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from musae.labels.claims import Claim

TEXTS = {
    "chord": "chord {}",
    "beat": "beat {} of the bar",
    "pitch": "mean pitch {:.0f}",
    "velocity": "velocity {}",
    "key": "key {}",
    "tempo": "tempo {:.0f}",
    "meter": "{} beats a bar",
}
"""Fact -> how it is said; the mode is part of the key."""


def excerpt(descriptors: Mapping[str, Any]) -> str:
    """One line on what is heard at a place: ``chord A:min; key C major; tempo 96``."""
    parts = [text.format(descriptors[fact]) for fact, text in TEXTS.items() if fact in descriptors]
    if "families" in descriptors:
        sounding = sorted(descriptors["families"][0])
        parts.append(f"instruments {', '.join(sounding) or 'none'}")
    return "; ".join(parts) or "nothing is known"


def claim(one: Claim) -> str:
    """A claim in its own words: ``root C``, ``tempo 80-105``, ``drums True``."""
    said = one.model_dump(by_alias=True)
    values = [f"{v:g}" if isinstance(v, float) else str(v) for name, v in said.items() if name != "kind"]
    return f"{said['kind']} {'-'.join(values)}".strip()


def borne_out(candidates: Sequence[Claim], descriptors: Mapping[str, Any]) -> list[Claim]:
    """The candidates that hold at a place."""
    return [one for one in candidates if one.fact in descriptors and one.holds(descriptors[one.fact]) is True]
