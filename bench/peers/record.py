"""What a comparison has found so far: samples of whole rounds, in one JSON file that an interrupted comparison goes on with."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import musae
from musae.bench import workloads
from musae.errors import UserError
from musae.files import atomic_path
from musae.provenance import device

Stage = Literal["train", "encode"]
Phase = Literal["screening", "main"]
STAGES: tuple[Stage, ...] = ("train", "encode")
SOURCES = {".py", ".cpp", ".h", ".hpp"}
PROGRESS = 0.5
"""A contestant learns if the variance that it came to explain is at least this share of the median contestant's."""


@dataclass(frozen=True)
class Sample:
    """One stage of one contestant in one round."""

    size: str
    library: str
    setting: str
    phase: Phase
    round: int
    stage: Stage
    tokens: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    """Most resident memory during the stage."""
    above_mb: float
    """The same, minus what was resident after the imports."""


@dataclass
class Record:
    """All samples, and what else the rows need."""

    identity: Mapping[str, Any]
    samples: list[Sample] = field(default_factory=list)
    limits: list[dict[str, Any]] = field(default_factory=list)
    """``size`` and ``round`` with the rates of `musae.bench.limits.Limits.measure`."""
    learnt: list[dict[str, Any]] = field(default_factory=list)
    """``size``, ``library``, ``setting``; FVU ``before`` and ``after`` so many ``steps``."""
    failed: list[dict[str, str]] = field(default_factory=list)
    """``size``, ``library``, ``setting``, ``phase``, and ``why`` it is missing, in a sentence."""
    packages: dict[str, dict[str, str]] = field(default_factory=dict)
    """Library -> the versions in its environment."""
    returns: dict[str, str] = field(default_factory=dict)
    """Library -> what its `encode` gives back."""
    seconds: float = 0.0
    """Wall-clock time spent, over all starts."""

    def of(self, **wanted: object) -> list[Sample]:
        """Samples whose fields have the values asked for, in the order of rounds."""
        found = [s for s in self.samples if all(getattr(s, name) == value for name, value in wanted.items())]
        return sorted(found, key=lambda s: s.round)

    def fastest(self, size: str, library: str, stage: Stage, rounds: int, clock: str) -> str | None:
        """The setting with the least median time in the screening, among those that had all its rounds; None if none had.

        `clock`: ``wall_s``, or ``cpu_s``, which neighbours on the machine disturb less.
        """
        times: dict[str, list[float]] = {}
        for sample in self.of(size=size, library=library, stage=stage, phase="screening"):
            times.setdefault(sample.setting, []).append(getattr(sample, clock))
        whole = {setting: median(seconds) for setting, seconds in times.items() if len(seconds) == rounds}
        return min(whole, key=lambda setting: whole[setting]) if whole else None

    def idle(self, size: str) -> list[dict[str, str]]:
        """Contestants that do not learn as the others do: ``library``, ``setting``, ``why``. Their times say nothing."""
        entries = [entry for entry in self.learnt if entry["size"] == size]
        if not entries:
            return []
        gains = [entry["before"] - entry["after"] for entry in entries]
        usual = median(gain if math.isfinite(gain) else -math.inf for gain in gains)
        return [
            {
                "library": entry["library"],
                "setting": entry["setting"],
                "why": f"{entry['library']} ({entry['setting']}) does not learn at size {size!r}: its FVU went from "
                f"{entry['before']:.3f} to {entry['after']:.3f} in {entry['steps']} steps, while the median contestant's fell by "
                f"{usual:.3f}; it is not compared.",
            }
            for entry, gain in zip(entries, gains, strict=True)
            if usual <= 0 or not gain >= PROGRESS * usual
        ]

    def save(self, path: Path) -> None:
        """Write the record, atomically."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=0), encoding="utf-8")

    @classmethod
    def load(cls, path: Path, identity: Mapping[str, Any]) -> Record:
        """What the file holds if it is of this identity, else an empty record; a file of another one is renamed ``.old.json``.

        Raises UserError for a file that is no record.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            record = cls(**{**found, "samples": [Sample(**sample) for sample in found["samples"]]})
        except FileNotFoundError:
            return cls(identity)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: not a record of a comparison, or damaged ({error}); delete it to start over.") from error
        if record.identity == json.loads(json.dumps(identity)):
            return record
        path.replace(path.with_suffix(".old.json"))
        return cls(identity)


def identity(python: Path, threads: int) -> dict[str, Any]:
    """What must agree for rounds to be continued: code, machine, threads, and the distributions in the peers' environment."""
    package, here = Path(musae.__file__).resolve().parent, Path(workloads.__file__).resolve().parent
    files = {*package.glob("kernels/**/*"), package / "training.py", package / "methods" / "topk.py"}
    files |= {here / "workloads.py", here / "limits.py", *here.glob("peers/*.py")}
    code = hashlib.sha256()
    for file in sorted(file for file in files if file.suffix in SOURCES):
        code.update(file.name.encode() + file.read_bytes())
    installed = sorted(found.name for found in python.parent.parent.glob("lib/python*/site-packages/*.dist-info"))
    return {
        "format": 1,
        "code": code.hexdigest()[:16],
        "machine": device(),
        "threads": threads,
        "environment": hashlib.sha256("\n".join(installed).encode()).hexdigest()[:16],
    }
