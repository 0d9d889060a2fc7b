"""What is steered towards: a kind, a column of its ear and the direction that counts as success."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from musae.errors import UserError
from musae.scores import mir
from musae.steering.ears import Ear

KINDS = ("instrument", "register", "key", "root", "tempo")

DEFAULT = {"key": ("C major", "A minor", "Eb major"), "root": ("C", "E", "Ab")}
"""Of these kinds only a few members are steered unless others are named: 24 keys take 24 times as long as one."""


@dataclass(frozen=True)
class Concept:
    """One target. Success is a rise of ``sign`` times the ear's column."""

    kind: str
    member: str
    column: int
    sign: int = 1

    @property
    def name(self) -> str:
        """Kind and member: ``instrument organ``, ``register high``, ``key C major``."""
        return f"{self.kind} {self.member}"


def of_ear(ear: Ear) -> list[Concept]:
    """All concepts that an ear can judge."""
    if ear.kind in ("register", "tempo"):
        up, down = {"register": ("high", "low"), "tempo": ("fast", "slow")}[ear.kind]
        return [Concept(ear.kind, up, 0), Concept(ear.kind, down, 0, -1)]
    return [Concept(ear.kind, member, i) for i, member in enumerate(ear.columns)]


def choose(ears: Sequence[Ear], names: Sequence[str]) -> list[Concept]:
    """The concepts named, each by its name or all of a kind; by default all, but for `DEFAULT`.

    Raises UserError that suggests the nearest name.
    """
    known = {concept.name: concept for ear in ears for concept in of_ear(ear)}
    if not names:
        return [c for c in known.values() if c.kind not in DEFAULT or c.member in DEFAULT[c.kind]]
    found: set[str] = set()
    for name in names:
        some = [c for c in known.values() if name in (c.name, c.kind)]
        if not some:
            near = difflib.get_close_matches(name, [*known, *dict.fromkeys(c.kind for c in known.values())], n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known kinds: {', '.join(dict.fromkeys(e.kind for e in ears))}."
            raise UserError(f"--concept {name!r}: no such concept here; {hint}")
        found |= {c.name for c in some}
    return [c for c in known.values() if c.name in found]


def labels_of(concept: Concept, classes: Mapping[str, Tensor]) -> Tensor | None:
    """Whether the concept holds in each frame (1, 0, -1 where it is not known), from the classes of `musae.labelled`.

    None where the concept is not annotated (register, of which `reference` knows the notes).
    """
    if concept.kind == "instrument":
        return classes.get(f"instrument {concept.member}")
    if concept.kind not in ("key", "root", "tempo") or concept.kind not in classes:
        return None
    found = classes[concept.kind]
    if concept.kind == "tempo":  # the fastest and the slowest of `musae.tasks.tempo.CLASSES`
        index = int(found.max()) if concept.sign > 0 else 0
    else:
        index = (mir.KEYS if concept.kind == "key" else mir.TONICS).index(concept.member)
    return torch.where(found < 0, -1, (found == index).long())


def extremes(values: Sequence[float], sign: int) -> Tensor:
    """1 for the upper third of ``sign`` times the values, 0 for the lower third, -1 between them and where they are NaN."""
    signed = sign * np.asarray(values, np.float64)
    low, high = np.nanquantile(signed, (1 / 3, 2 / 3))
    return torch.from_numpy(np.where(signed >= high, 1, np.where(signed <= low, 0, -1)))
