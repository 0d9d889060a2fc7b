"""The run behind the tables: every dictionary of a sweep that is there, and its random twin, measured at its layer.

Encoding is the expensive part; what was measured is kept on disk (`musae.tables.measure`), and so are the classifiers' scores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from musae.dictionary import Dictionary, load
from musae.errors import UserError
from musae.files import atomic_path
from musae.scores.heldout import HeldOut
from musae.sweep import Member
from musae.sweep_training import SweepTraining
from musae.tables import measure, origin
from musae.tables.assemble import Key, Layers, Profiles
from musae.tables.measure import Measured
from musae.tables.schema import Kind
from musae.tables.streams import Streams, twin
from musae.workspace import encode, one_thread

KINDS: tuple[Kind, ...] = ("trained", "random")


@dataclass
class Session:
    """A sweep on the held-out clips of one corpus."""

    training: SweepTraining
    streams: Streams

    @property
    def present(self) -> list[Member]:
        """Members whose dictionary is there, by layer."""
        return sorted((m for m, path in self.training.paths.items() if path.exists()), key=lambda member: member.layer)

    def check(self, train: str) -> None:
        """Raise UserError where no dictionary is there; `train`: the command that trains them."""
        if not self.present:
            raise UserError(
                f"sweep {self.training.sweep.name!r}: none of its {len(self.training.members)} dictionaries is under "
                f"{self.training.home}; train them first: {train}"
            )

    @cached_property
    def home(self) -> Path:
        """Folder of what is measured."""
        workspace = self.training.workspace
        corpus = workspace.corpus(self.streams.corpus)
        generator = f"{workspace.generator_card.name}@{workspace.generator.revision}"
        return workspace.root / "tables" / generator / f"{corpus.card.name}@{corpus.revision}"

    def run(self) -> dict[Key, Measured]:
        """Measure what is missing; (member, kind) -> its numbers."""
        found: dict[Key, Measured] = {}
        todo = [(member, kind) for member in self.present for kind in KINDS]
        data: HeldOut | None = None
        with one_thread():
            for done, (member, kind) in enumerate(todo):
                self.training.show("dictionaries measured", done, len(todo))

                def make(member: Member = member, kind: Kind = kind) -> Measured:
                    nonlocal data
                    if data is None or data.layer != member.layer:
                        data = None  # before the next layer is read
                        data = self.streams.data(member.layer)
                    dictionary = self.dictionary(member) if kind == "trained" else twin(data, member.width, member.k)
                    return measure.measure(encode(dictionary, data), data)

                found[member, kind] = measure.kept(self.path(member, kind), make)
        self.training.show("dictionaries measured", len(todo), len(todo))
        return found

    def dictionary(self, member: Member) -> Dictionary:
        """A dictionary of the sweep."""
        return load(self.training.paths[member])

    @cached_property
    def hashes(self) -> dict[Member, str]:
        """Content hash of each dictionary that is there."""
        return {member: self.dictionary(member).content_hash for member in self.present}

    def path(self, member: Member, kind: Kind) -> Path:
        """Where a dictionary's numbers lie. Twins are shared by the methods of a size."""
        store = self.streams.stores[member.layer].identity
        name, identity = member.name, self.hashes[member]
        if kind == "random":
            name = f"random-w{member.width}-k{member.k}-L{member.layer}-s0"
            identity = self.streams.centres[member.layer].identity
        return self.home / f"layer{member.layer}" / f"{name}-{measure.digest(name, identity, store)}.npz"

    def origins(self, profiles: Mapping[Profiles, Layers]) -> dict[tuple[Profiles, origin.Model], origin.Accuracy]:
        """Score each classifier; the null is of those that read all columns. Those that are on disk are read."""
        todo: Sequence[tuple[Profiles, origin.Model]] = [(key, model) for key in profiles for model in origin.MODELS]
        found = {}
        with one_thread():
            for done, (key, model) in enumerate(todo):
                self.training.show("layer-of-origin classifiers", done, len(todo))
                latents = origin.balanced(profiles[key])
                permutations = origin.PERMUTATIONS if key.features == "all" else 0
                content = hashlib.sha256(
                    latents.profiles.tobytes() + latents.numbers.tobytes() + Path(origin.__file__).read_bytes()
                )
                content.update(f"{model} {permutations}".encode())
                path = self.home / "origin" / f"{content.hexdigest()[:20]}.json"
                if path.is_file():
                    found[key, model] = origin.Accuracy(**json.loads(path.read_text(encoding="utf-8")))
                    continue
                found[key, model] = origin.classify(latents, model, permutations=permutations)
                with atomic_path(path) as temporary:
                    temporary.write_text(json.dumps(asdict(found[key, model])), encoding="utf-8")
        self.training.show("layer-of-origin classifiers", len(todo), len(todo))
        return found
