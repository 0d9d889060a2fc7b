"""A corpus as files that any MIR tool reads: WAV (16 bit, mono) and JAMS (Humphrey et al., ISMIR 2014), validated.

Namespaces: ``chord`` (Harte), ``key_mode``, ``tempo``, ``beat`` (value: position in the bar) and ``tag_open`` (instrument
families). An annotation's ``data_source`` is its level of truth; the ``sandbox`` keeps group, split, licence, attributes, what
families were not observed, and what made it.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from pathlib import Path

import jams
import numpy as np
import soundfile
from numpy.typing import NDArray

from musae.corpora.track import Annotations, Clip, Corpus, Split
from musae.errors import UserError
from musae.files import atomic_path


def export(
    corpus: Corpus,
    folder: Path,
    split: Split,
    *,
    limit: int | None = None,
    seconds: float | None = None,
    rate: int = 32_000,
    seed: int = 0,
) -> list[Path]:
    """Write ``<id>.wav`` and ``<id>.jams`` into `folder` for each track (or clip) of a split; return the JAMS files, in order.

    Parameters
    ----------
    limit: at most so many tracks; None for all.
    seconds: length of the clip that is taken of each track, at the random offset that `seed` gives; None for whole tracks.
    rate: sampling rate of the WAV files in Hz; MusicGen's by default.

    Files that exist are left as they are, so that an interrupted export goes on. Raises UserError where one of them was made
    from another revision or at another rate, or when a track's id is no safe file name.
    """
    if seconds is None:
        clips = [Clip(track, 0.0, track.duration) for track in corpus.tracks(split)[:limit]]
    else:
        clips = list(corpus.clips(split, seconds=seconds, limit=limit, seed=seed))
    names = {clip.id: _file_name(clip, whole=seconds is None) for clip in clips}
    missing = [clip for clip in clips if not _exists(folder / f"{names[clip.id]}.jams", corpus, rate)]
    for clip, audio in zip(missing, corpus.audio(missing, rate), strict=True):
        _write_wav(folder / f"{names[clip.id]}.wav", audio, rate)
        sheet = to_jams(clip, corpus, rate)
        with atomic_path(folder / f"{names[clip.id]}.jams") as temporary:
            temporary.write_text(sheet.dumps(indent=1), encoding="utf-8")
    return [folder / f"{names[clip.id]}.jams" for clip in clips]


def to_jams(clip: Clip, corpus: Corpus, rate: int) -> jams.JAMS:
    """A clip's annotations as a validated JAMS object; times from the clip's start."""
    track, attributes, unobserved = clip.track, clip.annotations.attributes, clip.annotations.unobserved
    sheet = jams.JAMS()
    sheet.file_metadata.title = track.id
    sheet.file_metadata.release = corpus.card.name
    sheet.file_metadata.duration = clip.duration
    sheet.sandbox.update(
        group=track.group,
        split=track.split.value,
        licence=track.licence,
        source=track.source,
        start=clip.start,
        **({"attributes": dict(attributes)} if attributes else {}),
        **({"unobserved": sorted(unobserved)} if unobserved else {}),
        **_made_by(corpus, rate),
    )
    for annotation in to_annotations(clip.annotations, clip.duration).values():
        sheet.annotations.append(annotation)
    sheet.validate(strict=True)
    return sheet


def to_annotations(a: Annotations, seconds: float, tool: str = "musae") -> dict[str, jams.Annotation]:
    """Concept -> its JAMS annotation, for the concepts whose level of truth is given; `tool` is named as what made it."""
    positions = a.beat_positions or (None,) * len(a.beats)
    found = {}
    for concept, namespace, observations in (
        ("chords", "chord", [(s.start, s.end - s.start, s.label) for s in a.chords]),
        ("key", "key_mode", [(s.start, s.end - s.start, s.label.replace(" ", ":")) for s in a.keys]),
        ("tempo", "tempo", [(0.0, seconds, a.tempo)] if a.tempo is not None else []),
        ("beats", "beat", [(time, 0.0, position) for time, position in zip(a.beats, positions, strict=True)]),
        ("instruments", "tag_open", [(0.0, seconds, family) for family in sorted(a.instruments)]),
    ):
        if concept in a.truth:
            found[concept] = _annotation(namespace, a.truth[concept].value, tool, seconds, observations)
    return found


def _annotation(
    namespace: str, truth: str, tool: str, duration: float, observations: Iterable[tuple[float, float, object]]
) -> jams.Annotation:
    annotation = jams.Annotation(namespace, time=0.0, duration=duration)
    annotation.annotation_metadata = jams.AnnotationMetadata(data_source=truth, annotation_tools=tool)
    for time, length, value in observations:
        annotation.append(time=time, duration=length, value=value, confidence=1.0)
    return annotation


def _made_by(corpus: Corpus, rate: int) -> dict[str, str | int]:
    return {"corpus": corpus.card.name, "revision": corpus.revision, "rate": rate}


def _exists(path: Path, corpus: Corpus, rate: int) -> bool:
    """Whether this file is there already. Raises UserError when it was made otherwise."""
    if not (path.exists() and path.with_suffix(".wav").exists()):
        return False
    try:
        sandbox = json.loads(path.read_text(encoding="utf-8"))["sandbox"]
    except (ValueError, LookupError) as error:
        raise UserError(f"{path}: this file is damaged ({error}); delete it and run again.") from error
    for name, value in _made_by(corpus, rate).items():
        if sandbox.get(name) != value:
            raise UserError(f"{path}: its {name} is {sandbox.get(name)!r}, not {value!r}; export to another folder.")
    return True


def _write_wav(path: Path, audio: NDArray[np.float32], rate: int) -> None:
    memory = io.BytesIO()  # libsndfile would hide from us that a disk is full
    soundfile.write(memory, audio, rate, format="WAV", subtype="PCM_16")
    with atomic_path(path) as temporary:
        temporary.write_bytes(memory.getvalue())


def _file_name(clip: Clip, whole: bool) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", clip.track.id):
        raise UserError(f"track id {clip.track.id!r} is no safe file name; use letters, digits and ._- only.")
    return clip.track.id if whole else clip.id.replace("@", "_")
