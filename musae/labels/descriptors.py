"""What explainers are told of a place: facts that tools guess from the audio, or, as an oracle, the annotations themselves.

The truth judge checks labels against annotations, so an explainer that reads them has an oracle's evidence: its scores are shown
as such. By default facts are estimated: Essentia's chords, key and tempo, whose own accuracy `musae estimate` prints. They are
of the audio as it was rendered or recorded, and kept on disk for each clip. A fact that no tool here estimates (register,
dynamics, beat position, instruments) is not told, and can be claimed by guessing only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musae import registry
from musae.corpora.track import Annotations, Clip, Corpus, Span
from musae.errors import UserError
from musae.estimators.estimator import Estimator, NoEstimate
from musae.files import atomic_path, cache_root
from musae.labels import evidence, facts
from musae.labels.facts import Facts, Unit
from musae.scores.heldout import HeldOut

TOOLS = ("essentia_chords", "essentia_key", "essentia_rhythm")
"""Estimators that are asked by default: those of Essentia whose accuracy was measured."""

Tables = dict[Unit, Facts]
"""Facts of `HeldOut.probe_rows` and of all clips."""

Progress = Callable[[str, int, int], None]


def exact(data: HeldOut, level: str) -> Tables:
    """The annotations of a level of truth: an oracle's evidence."""
    return {"frames": facts.facts(data, "frames", level), "clips": facts.facts(data, "clips", level)}


@dataclass(frozen=True, eq=False)
class Estimated:
    """Facts that estimators guess."""

    tools: tuple[str, ...] = TOOLS
    folder: Path | None = None
    """Where guesses are kept; by default ``descriptors`` in musae's cache."""
    progress: Progress = lambda what, done, total: None

    @cached_property
    def estimators(self) -> list[Estimator]:
        """Raises UserError where a tool is not installed."""
        return [registry.make("estimators", name) for name in self.tools]

    def tables(self, data: HeldOut, judging: bool = False) -> Tables:
        """Facts of the clips of one half of the pieces; of the others nothing is known.

        Raises UserError where a tool is not installed, and where the corpus has no audio here.
        """
        return data.once(f"estimated {self.tools} {judging}", lambda: self._tables(data, judging))

    def _tables(self, data: HeldOut, judging: bool) -> Tables:
        half = evidence.explaining(data)[data.groups] != judging
        annotations = iter(self.annotations(data, [clip for clip, told in zip(data.clips, half, strict=True) if told]))
        clips = [_heard(clip, next(annotations) if told else Annotations()) for clip, told in zip(data.clips, half, strict=True)]
        units: tuple[Unit, ...] = ("frames", "clips")
        return {unit: facts.table(data, unit, _silenced(facts.of_clips(data, unit, clips), half)) for unit in units}

    def annotations(self, data: HeldOut, clips: Sequence[Clip]) -> list[Annotations]:
        """What the tools find in clips of a corpus, times from the clip's start."""
        folder = (self.folder or cache_root() / "descriptors") / f"{data.corpus.replace('/', '~')}@{data.corpus_revision}"
        revisions = json.dumps([tool.revision for tool in self.estimators])
        folder = folder / hashlib.sha256(revisions.encode()).hexdigest()[:10]
        missing = [clip for clip in clips if not (folder / _name(clip)).is_file()]
        if missing:
            rate = max(tool.card.rate for tool in self.estimators)
            corpus: Corpus = registry.make("corpora", data.corpus)
            for done, (clip, audio) in enumerate(zip(missing, corpus.audio(missing, rate), strict=True)):
                self.progress(f"descriptors of {data.corpus}", done, len(missing))
                with atomic_path(folder / _name(clip)) as path:
                    path.write_text(json.dumps(self._hear(audio, rate)) + "\n", encoding="utf-8")
            self.progress(f"descriptors of {data.corpus}", len(missing), len(missing))
        return [_read(folder / _name(clip)) for clip in clips]

    def _hear(self, audio: NDArray[np.float32], rate: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for tool in self.estimators:
            try:
                a = tool.estimate(audio, rate)
            except NoEstimate:
                continue
            values = {"chords": _rows(a.chords), "keys": _rows(a.keys), "tempo": a.tempo, "instruments": sorted(a.instruments)}
            found |= {name: value for name, value in values.items() if value}
        return found


def _rows(spans: Sequence[Span]) -> list[list[Any]]:
    return [[span.start, span.end, span.label] for span in spans]


def _read(path: Path) -> Annotations:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Annotations(
            chords=tuple(Span(*row) for row in kept.get("chords", ())),
            keys=tuple(Span(*row) for row in kept.get("keys", ())),
            tempo=kept.get("tempo"),
            instruments=frozenset(kept.get("instruments", ())),
        )
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and run again.") from error


def _name(clip: Clip) -> str:
    return f"{clip.id}-{clip.duration:g}.json"


def _heard(clip: Clip, a: Annotations) -> Clip:
    """The clip with guesses in place of its annotations, and without notes."""
    track = replace(clip.track, annotations=a, notes=(), voices=(), duration=clip.duration)
    return Clip(track, 0.0, clip.duration)


def _silenced(raw: list[dict[str, list[Any]]], told: NDArray[np.bool_]) -> list[dict[str, list[Any]]]:
    """Families are known to be silent only where somebody has listened for them: nobody has where none was found at all."""
    for row, known in zip(raw, told, strict=True):
        if "families" in row and not (known and row["families"][0][0]):
            row["families"] = [None]
    return raw
