"""JAMS files of estimated labels for the tracks of a corpus; `musae.corpora.folder` reads them back.

A file's sandbox says under ``estimators`` for each concept which estimator was asked, of which revision: that is how these files
are told from others', which are left alone, and what is up to date from what is not.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jams
import numpy as np
from numpy.typing import NDArray

from musae.corpora.export import to_annotations
from musae.corpora.folder import FolderCorpus
from musae.corpora.jams_files import CONCEPT
from musae.corpora.recordings import LeftOut
from musae.corpora.track import CONCEPTS, Clip, Corpus, Split, Track
from musae.errors import UserError
from musae.estimators.estimator import Estimator
from musae.files import atomic_path

Progress = Callable[[str, int, int], None]
"""Told what is done, how much of it, and of how much."""


@dataclass
class Done:
    """What became of the tracks."""

    written: int = 0
    kept: int = 0
    """Files that held these estimators' labels already."""
    concepts: Counter[str] = field(default_factory=Counter)
    """Concept -> tracks of which it was estimated now."""
    left_out: list[LeftOut] = field(default_factory=list)


def label(
    corpus: Corpus,
    folder: Path,
    tools: Mapping[str, Estimator],
    splits: Iterable[Split],
    *,
    limit: int | None = None,
    report: Progress = lambda what, done, total: None,
) -> Done:
    """Write what estimators (name -> estimator) hear in the tracks of some splits to ``<folder>/<track>.jams``.

    A track of a folder of recordings keeps its path within the folder, any other has its id for a name. A file is written once
    for each track, so an interrupted run goes on. Labels of another estimator, or of another revision, are replaced.

    `limit`: at most so many tracks of each split; None for all. Left out, with a reason, are files that the corpus cannot use,
    tracks of which one of the tools can say nothing, and those beside which a file of another program lies.

    Raises UserError where two of the estimators cover the same concept.
    """
    for concept in CONCEPTS:
        both = [name for name, tool in tools.items() if concept in tool.card.concepts]
        if len(both) > 1:
            raise UserError(f"{' and '.join(both)} both estimate {concept}; name one of them.")
    done = Done(left_out=_unusable(corpus))
    tracks = [track for split in splits for track in corpus.tracks(split)[:limit]]
    for number, track in enumerate(tracks, start=1):
        name, path = _place(corpus, folder, track)
        sheet = _sheet(path, track, corpus)
        if sheet is None:
            done.left_out.append(
                LeftOut(name, f"{path.name} lies beside it, and is of another program; write elsewhere with --out")
            )
        else:
            _hear(corpus, track, name, path, sheet, tools, done)
        report("tracks", number, len(tracks))
    done.concepts = Counter({concept: done.concepts[concept] for concept in CONCEPTS if done.concepts[concept]})
    return done


def _unusable(corpus: Corpus) -> list[LeftOut]:
    """The files of a folder that are no tracks; what else the folder remarks is for `musae corpus doctor`."""
    if not isinstance(corpus, FolderCorpus):
        return []
    used = {track.source for split in Split for track in corpus.tracks(split)}
    return [entry for entry in corpus.left_out if entry.file not in used]


def _place(corpus: Corpus, folder: Path, track: Track) -> tuple[str, Path]:
    """What a track is called, and where its labels lie."""
    if isinstance(corpus, FolderCorpus):
        return track.source, folder / Path(track.source).with_suffix(".jams")
    return track.id, folder / f"{track.id}.jams"


def _sheet(path: Path, track: Track, corpus: Corpus) -> jams.JAMS | None:
    """The file that is there already, or a new one; None for one of another program."""
    if path.exists():
        try:
            ours = "estimators" in json.loads(path.read_text(encoding="utf-8")).get("sandbox", {})
        except (OSError, ValueError, AttributeError):
            return None
        return jams.load(str(path), validate=False) if ours else None
    sheet = jams.JAMS()
    sheet.file_metadata.title = track.id
    sheet.file_metadata.release = corpus.card.name
    sheet.file_metadata.duration = track.duration
    sheet.sandbox.update(estimators={})
    return sheet


def _hear(
    corpus: Corpus, track: Track, name: str, path: Path, sheet: jams.JAMS, tools: Mapping[str, Estimator], done: Done
) -> None:
    """Add to a file what the tools say that it does not hold yet."""
    asked: dict[str, str] = dict(sheet.sandbox.estimators)
    tags = {key: f"{key} {tool.revision}" for key, tool in tools.items()}
    missing = [key for key, tool in tools.items() if any(asked.get(concept) != tags[key] for concept in tool.card.concepts)]
    if not missing:
        done.kept += 1
        return
    heard: dict[int, NDArray[np.float32]] = {}
    changed = False
    for key in missing:
        tool, rate = tools[key], tools[key].card.rate
        try:
            if rate not in heard:
                [heard[rate]] = corpus.audio([Clip(track, 0.0, track.duration)], rate)
            found = tool.estimate(heard[rate], rate)
        except UserError as error:  # a file that can no longer be read, or nothing to be heard in it
            done.left_out.append(LeftOut(name, f"{key}: {error}"))
            continue
        new = to_annotations(found, track.duration, tags[key])
        kept = [a for a in sheet.annotations if CONCEPT.get(a.namespace) not in tool.card.concepts]
        sheet.annotations = jams.AnnotationArray([*kept, *new.values()])
        asked |= dict.fromkeys(tool.card.concepts, tags[key])
        done.concepts.update(list(new))
        changed = True
    if not changed:
        return
    sheet.sandbox.update(estimators=asked)
    sheet.validate(strict=True)
    with atomic_path(path) as temporary:
        temporary.write_text(sheet.dumps(indent=1), encoding="utf-8")
    done.written += 1
