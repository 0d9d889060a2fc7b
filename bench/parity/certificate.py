"""The certificate: largest differences of codes and reconstructions, library by library, both ways.

*In*: the library makes a small random model and saves it, musae reads it. *Out*: musae writes a random dictionary of each rule in
each format that can express it, the library loads it. Both encode and decode the same frames; the number is the largest absolute
difference over all entries, where values are of the order of 1 to 10. `LIMIT` is the gate.

Sizes: d dimensions, F latents, k active, n frames; biases, thresholds and norms of atoms are random, none is 0 or 1.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from musae.bench.peers.workers import Process
from musae.bench.rows import BenchRow
from musae.errors import UserError
from musae.formats import recognise
from musae.formats.adapter import adapters
from musae.frozen import TENSORS
from musae.methods.imported import Imported

LIMIT = 1e-5
"""The largest difference that counts as equal."""

SIZES = {"d": 16, "width": 40, "k": 4, "n": 24}
HERE = Path(__file__).resolve().parent

Show = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Difference:
    """One checkpoint, one way."""

    library: str
    variant: str
    """The library's model, or the rule that was written."""
    way: str
    """``in`` or ``out``."""
    codes: float
    reconstructions: float

    @property
    def equal(self) -> bool:
        return self.codes <= LIMIT and self.reconstructions <= LIMIT


@dataclass
class Certificate:
    """Differences, what made them, and what a format refused to express."""

    differences: list[Difference] = field(default_factory=list)
    packages: dict[str, dict[str, str]] = field(default_factory=dict)
    """Library -> distributions and their versions."""
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    """Library, rule, and why it cannot be written there."""

    def rows(self) -> list[BenchRow]:
        """Two rows a difference."""
        return [row for difference in self.differences for row in self._rows(difference)]

    def _rows(self, difference: Difference) -> Iterator[BenchRow]:
        packages = self.packages[difference.library]
        versions = ", ".join(f"{name} {version}" for name, version in packages.items())
        case: dict[str, int | str] = {**SIZES, "way": difference.way, "versions": versions}
        for metric, value in (("codes", difference.codes), ("reconstructions", difference.reconstructions)):
            yield BenchRow(
                subject=difference.library,
                variant=difference.variant,
                case=case,
                metric=f"largest_difference_of_{metric}",
                value=value,
                known="measured",
            )


def certify(python: Path, folder: Path, golden: Path | None, show: Show) -> Certificate:
    """Make, read, write and compare everything. `python`: of the libraries' environment; `folder`: for checkpoints.

    `golden`: where the libraries' checkpoints are kept as fixtures of tests, each with ``made.json``; None keeps none.
    """
    certificate = Certificate()
    names = list(adapters())
    for done, library in enumerate(names):
        command = [str(python), "-P", str(HERE / "worker.py"), str(HERE / f"{library}_models.py")]
        with Process(library, command, threads=1) as worker:
            made = worker.ask("variants")
            certificate.packages[library] = made["packages"]
            for variant in made["variants"]:
                place = fresh(folder / f"{library}-{variant}")
                worker.ask("make", folder=str(place), variant=variant, sizes=SIZES)
                certificate.differences.append(read_back(library, variant, place))
                if golden is not None:
                    keep(place, golden / place.name, made["packages"])
            for rule in TENSORS:
                place = fresh(folder / f"musae-{rule}-as-{library}")
                try:
                    certificate.differences.append(written(worker, library, random_dictionary(rule, library), place))
                except Inexpressible as error:
                    certificate.refused.append((library, rule, str(error)))
        show(f"parity with {library}", done + 1, len(names))
    return certificate


class Inexpressible(Exception):
    """A rule that a format has not."""


def read_back(library: str, variant: str, place: Path) -> Difference:
    """musae's codes and reconstructions of a library's checkpoint, against the library's own in ``expected.npz``."""
    with np.load(place / "expected.npz") as archive:
        expected = dict(archive)
    return compare(library, variant, "in", expected, recognise.read(place))


def written(worker: Process, library: str, dictionary: Imported, place: Path) -> Difference:
    """The library's codes and reconstructions of a checkpoint that musae wrote. Raises Inexpressible where it cannot be
    written."""
    try:
        recognise.write(dictionary, place, library)
    except UserError as error:
        raise Inexpressible(str(error)) from error
    frames = place.with_suffix(".frames.npz")
    np.savez(frames, x=draw(f"frames of {dictionary.rule}", SIZES["n"], SIZES["d"]).mul(2).add(0.5).numpy())
    out = place.with_suffix(".npz")
    worker.ask("check", folder=str(place), frames=str(frames), out=str(out))
    with np.load(out) as archive:
        return compare(library, dictionary.rule, "out", dict(archive), dictionary)


def compare(library: str, variant: str, way: str, expected: Mapping[str, Any], dictionary: Any) -> Difference:
    """Largest differences between a dictionary and what the library gave for the same frames."""
    code = dictionary.encode(torch.from_numpy(expected["x"]))
    pairs = ((code.dense(), expected["code"]), (dictionary.decode(code), expected["reconstruction"]))
    largest = [float(np.abs(ours.numpy() - theirs).max()) for ours, theirs in pairs]
    return Difference(library, variant, way, *largest)


def random_dictionary(rule: Any, library: str) -> Imported:
    """A dictionary of a rule with random tensors; without a bias of the decoder for overcomplete, which has none."""
    d, width, k = SIZES["d"], SIZES["width"], SIZES["k"]
    dictionary = Imported(width, k, 0, rule, "musae", rule)
    shapes = {"W_enc": (width, d), "W_dec": (width, d), "b_dec": (d,)}
    for name in (*TENSORS[rule], "W_dec", "b_dec"):
        dictionary.tensors[name] = 0.3 * draw(f"{name} of {rule}", *shapes.get(name, (width,)))
    if "threshold" in dictionary.tensors:
        dictionary.tensors["threshold"].abs_()
    if library == "overcomplete":
        dictionary.tensors["b_dec"].zero_()
    return dictionary


def draw(purpose: str, *shape: int) -> Tensor:
    """Standard normal numbers, the same in every run."""
    from musae.dictionary import generator

    return torch.randn(*shape, generator=generator(purpose, 0))


def keep(place: Path, fixture: Path, packages: Mapping[str, str]) -> None:
    """Copy a checkpoint among the fixtures, with the versions that made it."""
    shutil.copytree(place, fresh(fixture), dirs_exist_ok=True)
    (fixture / "made.json").write_text(json.dumps(packages, indent=1) + "\n", encoding="utf-8")


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
