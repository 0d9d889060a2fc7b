"""What is in a corpus: counts, hours and label distributions per split, from its annotations alone (no audio is rendered).

Distributions of chords and keys are in seconds of annotated music, enharmonic names being one; those of tempo, metre, families
and licences are in tracks. `describe` gives plain data (pydantic: it prints as JSON too), `tables` shows it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

from pydantic import BaseModel
from rich.console import Group
from rich.table import Table

from musae.corpora.track import CONCEPTS, Corpus, Span, Split, Track

TEMPO_BIN = 20
"""Width of the bins of the tempo histogram in beats per minute."""
PITCH_CLASSES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


class SplitDescription(BaseModel):
    """What one split holds. Mappings are sorted as they are best read."""

    tracks: int
    groups: int
    hours: float
    truth: dict[str, dict[str, int]]
    """Concept -> level of truth -> tracks; a concept that no track has is left out."""
    licences: dict[str, int]
    keys: dict[str, float]
    """Key -> seconds; majors first, each from C upwards."""
    chord_roots: dict[str, float]
    """Root -> seconds; ``N`` is no chord."""
    chord_qualities: dict[str, float]
    """Harte quality, inversions aside -> seconds, most frequent first."""
    tempi: dict[str, int]
    """Bin ("60-79") -> tracks."""
    meters: dict[str, int]
    """Beats in a bar -> tracks."""
    families: dict[str, int]
    """Instrument family -> tracks in which it sounds, most frequent first."""
    attributes: dict[str, dict[str, int]] = {}
    """Attribute -> class -> tracks, both by name."""


class CorpusDescription(BaseModel):
    """A corpus in figures."""

    name: str
    revision: str
    summary: str
    source: str
    licence: str
    shared_groups: int
    """Groups that lie in more than one split: 0, or the corpus is broken."""
    splits: dict[str, SplitDescription]
    remarks: tuple[str, ...]
    """What the corpus itself has to say (its optional method ``remarks``): mismatches, left-out files, agreement."""


def describe(corpus: Corpus) -> CorpusDescription:
    """Figures of every split of a corpus; builds each track once and keeps none."""
    groups: dict[str, set[str]] = {}
    splits: dict[str, SplitDescription] = {}
    for split in Split:
        splits[split.value], groups[split.value] = _describe_split(corpus.tracks(split))
    remarks = getattr(corpus, "remarks", None)
    return CorpusDescription(
        name=corpus.card.name,
        revision=corpus.revision,
        summary=corpus.card.summary,
        source=corpus.card.source,
        licence=corpus.card.licence,
        shared_groups=sum(count > 1 for count in Counter(g for members in groups.values() for g in members).values()),
        splits=splits,
        remarks=tuple(remarks()) if remarks else (),
    )


def _describe_split(tracks: Iterable[Track]) -> tuple[SplitDescription, set[str]]:
    count, seconds = 0, 0.0
    groups: set[str] = set()
    truth: dict[str, Counter[str]] = {concept: Counter() for concept in CONCEPTS}
    licences, tempi, meters, families = (Counter[str]() for _ in range(4))
    attributes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    keys, roots, qualities = (defaultdict[str, float](float) for _ in range(3))
    for track in tracks:
        a = track.annotations
        count, seconds = count + 1, seconds + track.duration
        groups.add(track.group)
        licences[track.licence] += 1
        for concept, level in a.truth.items():
            truth[concept][level.value] += 1
        if a.tempo is not None:
            low = int(a.tempo // TEMPO_BIN) * TEMPO_BIN
            tempi[f"{low}-{low + TEMPO_BIN - 1}"] += 1
        if a.beat_positions:
            meters[str(max(a.beat_positions))] += 1
        families.update(a.instruments)
        for name, value in a.attributes.items():
            attributes[name][value] += 1
        _add_seconds(keys, a.keys, _key)
        _add_seconds(roots, a.chords, lambda label: _chord(label)[0])
        _add_seconds(qualities, a.chords, lambda label: _chord(label)[1])
    description = SplitDescription(
        tracks=count,
        groups=len(groups),
        hours=seconds / 3600,
        truth={concept: dict(levels.most_common()) for concept, levels in truth.items() if levels},
        licences=dict(licences.most_common()),
        keys=_ordered(keys, [f"{tonic} {mode}" for mode in ("major", "minor") for tonic in PITCH_CLASSES]),
        chord_roots=_ordered(roots, PITCH_CLASSES),
        chord_qualities=dict(sorted(qualities.items(), key=lambda item: -item[1])),
        tempi=dict(sorted(tempi.items(), key=lambda item: int(item[0].split("-")[0]))),
        meters=dict(sorted(meters.items(), key=lambda item: int(item[0]))),
        families=dict(families.most_common()),
        attributes={name: dict(sorted(values.items())) for name, values in sorted(attributes.items())},
    )
    return description, groups


def tables(description: CorpusDescription) -> Group:
    """The description for a terminal: tables of counts, of label distributions and of licences, and the remarks."""
    counts = Table(title=f"{description.name}@{description.revision}: {description.summary}", title_justify="left")
    for column in ("split", "tracks", "groups", "hours", "truth, percent of tracks"):
        counts.add_column(column, justify="right" if column in ("tracks", "groups", "hours") else "left")
    shares = Table(title="labels, in percent", title_justify="left")
    shares.add_column("split")
    shares.add_column("of")
    shares.add_column("distribution", overflow="fold")
    licences = Table(title="licences", title_justify="left")
    licences.add_column("split")
    licences.add_column("tracks", justify="right")
    licences.add_column("licence", overflow="fold")
    for name, split in description.splits.items():
        truth = "\n".join(f"{concept}: {_percent(levels, split.tracks)}" for concept, levels in split.truth.items())
        counts.add_row(name, str(split.tracks), str(split.groups), f"{split.hours:.1f}", truth)
        for licence, tracks in split.licences.items():
            licences.add_row(name, str(tracks), licence)
        for label, values in (
            ("key", split.keys),
            ("chord root", split.chord_roots),
            ("chord quality", split.chord_qualities),
            ("tempo (bpm)", split.tempi),
            ("beats a bar", split.meters),
            ("family, of tracks", {f: n / max(split.tracks, 1) for f, n in split.families.items()}),
        ):
            whole = 1.0 if label.startswith("family") else sum(values.values())
            shares.add_row(name, label, _percent(values, whole))
        for label, classes in split.attributes.items():
            shares.add_row(name, label, _classes(classes))
    lines = [f"source: {description.source}", f"groups in more than one split: {description.shared_groups}", *description.remarks]
    return Group(counts, shares, licences, *lines)


def _percent(values: Mapping[str, float], whole: float | None = None) -> str:
    whole = sum(values.values()) if whole is None else whole
    return ", ".join(f"{label} {100 * value / whole:.1f}" for label, value in values.items())


def _classes(counts: Mapping[str, int]) -> str:
    """How many classes there are, and their shares where they fit on a few lines."""
    return _percent(counts) if len(counts) <= 20 else f"{len(counts)} classes, {min(counts.values())} tracks or more each"


def _add_seconds(seconds: defaultdict[str, float], spans: Iterable[Span], name: Callable[[str], str]) -> None:
    for span in spans:
        seconds[name(span.label)] += span.end - span.start


def _ordered(values: Mapping[str, float], order: Iterable[str]) -> dict[str, float]:
    """Values in a given order; labels that it does not name come last."""
    known = [label for label in order if label in values]
    return {label: values[label] for label in (*known, *sorted(values.keys() - set(known)))}


def _chord(label: str) -> tuple[str, str]:
    """Root and quality of a Harte label; ``N`` and ``X`` are their own."""
    root, _, quality = label.partition("/")[0].partition(":")
    return _pitch_class(root), quality or ("maj" if root not in ("N", "X") else root)


def _key(label: str) -> str:
    tonic, _, mode = label.partition(" ")
    return f"{_pitch_class(tonic)} {mode}".strip()


def _pitch_class(name: str) -> str:
    """The name under which all names of a pitch class are counted: ``C#`` -> ``Db``; what is none (``N``) stays."""
    if name[:1] not in LETTERS:
        return name
    return PITCH_CLASSES[(LETTERS[name[0]] + name.count("#") - name.count("b")) % 12]
