"""`mirdata`: the data sets of mirdata, ``mirdata:guitarset``, by its own loaders and index.

``mirdata:NAME`` looks where mirdata puts data (``~/mir_datasets/NAME``), ``mirdata:NAME=PATH`` in a folder with the same layout;
``mirdata:NAME@VERSION`` takes another version than mirdata's default (``slakh@baby``, ``gtzan_genre@mini``).
`musae.corpora.mirdata_sets` lists the sets: their licences, how their audio is had, what a group is and how labels are known;
`musae.corpora.mirdata_labels` reads the labels, `musae.corpora.mirdata_stems` the notes of multitracks.

- Official splits are kept: test and validation are held out. A group that an official split divides is held out as a whole, so
  that training never hears what others test on. Without an official split a fifth of the groups is held out, by a hash of their
  names.
- Recordings that are missing or cannot be used, and labels that cannot be read, are left out with their reason.
- `MirData.checks` compares files with the index's checksums: `musae corpus doctor` calls it.

Bittner et al., "mirdata: Software for reproducible usage of datasets", ISMIR 2019.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from musae.card import CorpusCard
from musae.corpora import mirdata_labels, mirdata_stems
from musae.corpora.mirdata_sets import SETS
from musae.corpora.recordings import LeftOut, Recordings, identity, inspected, split_of
from musae.corpora.sound import Sound
from musae.corpora.track import Split, Track, Truth
from musae.errors import UserError
from musae.files import sha256

CARD = CorpusCard(
    name="mirdata",
    summary="The data sets of mirdata, mirdata:NAME or mirdata:NAME=PATH: guitarset, openmic2018, slakh and others.",
    licence="by the set",
    source="mirdata's data sets: downloaded by it, or the user's copies",
    truth={
        "chords": ("annotated",),
        "key": ("annotated",),
        "tempo": ("exact", "annotated", "estimated"),
        "beats": ("annotated", "derived"),
        "instruments": ("exact", "annotated"),
    },
    argument="the name of a data set and, after =, its folder where that is not mirdata's own",
)

ACCESS = {
    "download": "mirdata downloads it",
    "request": "its owners give the audio on request",
    "own": "the audio is the user's own",
}


class Name(NamedTuple):
    """What a user asks for."""

    name: str
    version: str
    """Empty for mirdata's default."""
    home: Path | None
    """None for mirdata's own place."""

    def __str__(self) -> str:
        return self.name + (f"@{self.version}" if self.version else "")


def card(argument: str) -> CorpusCard:
    """The card of one set, wherever it lies. Raises UserError for a set that is not listed."""
    asked = _parse(argument)
    entry = SETS[asked.name]
    truth: dict[str, tuple[str, ...]] = {concept: (labels.truth.value,) for concept, labels in entry.labels.items()}
    if entry.sounds:
        truth["instruments"] = (Truth.EXACT.value,)
    return CorpusCard(
        name=f"mirdata-{str(asked).replace('@', '-')}",
        summary=f"{asked} by mirdata: {', '.join(truth)}; a group is {entry.group}.",
        licence=entry.licence,
        source=f"mirdata's {asked}; {ACCESS[entry.access]}",
        truth=truth,
    )


def load(argument: str = "") -> MirData:
    """One set. Raises UserError where it is not listed, mirdata or its index is missing, or no recording can be used."""
    return MirData(_parse(argument))


def fetch(argument: str) -> str:
    """Have mirdata download a set's index and what of the set musae reads; a sentence that says where, and what is left to do.

    Raises UserError where it is not listed, or the download fails.
    """
    asked = _parse(argument)
    dataset, entry = _dataset(asked), SETS[asked.name]
    try:
        if entry.remotes:
            dataset.download(list(entry.remotes))
        else:
            dataset.download()
    except Exception as error:  # whatever urllib, zipfile, tarfile and mirdata raise
        reason = mirdata_labels.line(error)
        raise UserError(f"mirdata:{argument}: the download failed ({reason}); try again, or see {dataset.readme}.") from error
    left = "" if entry.access == "download" else f": {ACCESS[entry.access]}, and is named as in mirdata's index"
    return f"{asked} lies in {dataset.data_home}{left}. Check it: musae corpus doctor mirdata:{argument}"


def _parse(argument: str) -> Name:
    if not argument:
        raise UserError(f"mirdata: name a data set, as in mirdata:guitarset; there are {', '.join(SETS)}.")
    whole, _, path = argument.partition("=")
    name, _, version = whole.partition("@")
    if name not in SETS:
        near = difflib.get_close_matches(name, SETS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(SETS)}."
        raise UserError(f"mirdata:{argument}: no data set {name!r} here; {hint}")
    if version and not re.fullmatch(r"[A-Za-z0-9._+-]+", version):
        raise UserError(f"mirdata:{argument}: {version!r} is no version; leave it and the @ out for mirdata's default.")
    return Name(name, version, Path(path).expanduser() if path else None)


class MirData(Recordings):
    """The recordings of one set; see the module's header."""

    def __init__(self, asked: Name) -> None:
        if asked.home is not None and not asked.home.is_dir():
            raise UserError(f"mirdata:{asked}={asked.home}: there is no such folder; give the one that holds the data set.")
        self._entry, dataset = SETS[asked.name], _dataset(asked)
        self._home = Path(dataset.data_home).resolve()
        self._index = _index(asked, dataset)
        left_out: list[LeftOut] = []
        names = dataset.mtrack_ids if self._entry.stems else dataset.track_ids
        make = dataset.multitrack if self._entry.stems else dataset.track
        placed = [(name, path) for name in names if (path := self._place(name, left_out)) is not None]
        sounds = inspected(self._home, [path for _, path in placed])
        found: list[tuple[Track, Path, str]] = []
        self._used: list[str] = []
        for name, path in placed:
            heard = sounds[path.relative_to(self._home).as_posix()]
            if heard.problem:
                left_out.append(LeftOut(name, heard.problem))
                continue
            try:
                track, content, remarks = self._track(make(name), name, path, heard)
            except Exception as error:  # loaders raise whatever a damaged file makes them raise
                left_out.append(LeftOut(name, mirdata_labels.line(error)))
                continue
            left_out += [LeftOut(name, remark) for remark in remarks]
            self._used.append(name)
            found.append((track, path, content))
        if not found:
            first = f" ({left_out[0].file}: {left_out[0].reason})" if left_out else ""
            raise UserError(f"mirdata:{asked}: none of {len(names)} recordings can be used{first}; {_remedy(asked)}.")
        super().__init__(card(str(asked)), _undivided(found, left_out), left_out)

    def checks(self) -> list[LeftOut]:
        """Files of the index, of the recordings that are used, that are missing or whose MD5 is another."""
        wrong: list[LeftOut] = []
        for name, checksum in dict(self._files()).items():
            path = self._home / name
            if not path.is_file():
                wrong.append(LeftOut(name, "missing"))
                continue
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "md5").hexdigest()
            if found != checksum:
                wrong.append(LeftOut(name, f"its MD5 is {found}, and {checksum} in mirdata's index: another version, or damaged"))
        return wrong

    def _files(self) -> Iterator[tuple[str, str]]:
        """Path and MD5 of the files that are read of each recording."""
        for name in self._used:
            row = self._rows[name]
            yield from (row[key] for key in (self._entry.audio, *self._entry.files) if row[key][0] is not None)
            if self._entry.stems:
                yield from (stem["midi"] for stem in self._stems(row) if stem["audio"][0] is not None)
        yield from ((path, checksum) for path, checksum in self._index.get("metadata", {}).values() if path is not None)

    @property
    def _rows(self) -> Mapping[str, Any]:
        rows: Mapping[str, Any] = self._index["multitracks" if self._entry.stems else "tracks"]
        return rows

    def _stems(self, row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return [self._index["tracks"][stem] for stem in row["tracks"]]

    def _place(self, name: str, left_out: list[LeftOut]) -> Path | None:
        """A recording's file; None, with the reason, where there is none."""
        within: str | None = self._rows[name][self._entry.audio][0]
        if within is None:
            left_out.append(LeftOut(name, "the set has no audio of it"))
            return None
        path = Path(os.path.normpath(self._home / within))  # symbolic links may lead anywhere, the index may not
        if not path.is_relative_to(self._home):
            left_out.append(LeftOut(name, f"{within} lies outside {self._home}"))
        elif not path.is_file():
            left_out.append(LeftOut(name, f"{within} is missing"))
        else:
            return path
        return None

    def _track(self, source: Any, name: str, path: Path, heard: Sound) -> tuple[Track, str, list[str]]:
        """A recording with its labels, a digest of all that it was made from, and what of it was left out."""
        entry, group = self._entry, self._group(source)
        official = str((entry.split and getattr(source, entry.split)) or "")
        if official in entry.omitted:
            raise UserError(f"in the split {official!r}, which is not used")
        split = (Split.HELDOUT if official in entry.heldout else Split.TRAIN) if official else split_of(group)
        labels, remarks = mirdata_labels.read(entry, source, heard.seconds, split is Split.HELDOUT)
        within = path.relative_to(self._home).as_posix()
        own = identity(f"{name}{path.suffix}")
        track = Track(own, group, split, entry.licence, heard.seconds, labels, source=within)
        content = heard.sha256
        if entry.stems:
            row = self._rows[name]
            stems = [stem["midi"] for stem in self._stems(row) if stem["audio"][0] is not None]
            parts = [sha256(self._home / within) for within, _ in (row["metadata"], *stems)]
            content = hashlib.sha256("".join([content, *parts]).encode()).hexdigest()
            voices, notes = mirdata_stems.read(source, heard.seconds, content)
            sounding = frozenset(voices[voice].family for voice in {note.voice for note in notes})
            truth = {"instruments": entry.labels["instruments"].truth}
            track = replace(track, voices=voices, notes=notes, annotations=replace(labels, instruments=sounding, truth=truth))
        return track, content, [*(f"used, but {remark}" for remark in heard.remarks()), *remarks]

    def _group(self, source: Any) -> str:
        values = [getattr(source, name) for name in self._entry.of]
        for name, value in zip(self._entry.of, values, strict=True):
            if value in (None, "") or value != value:  # not a number: an empty cell, as pandas reads it
                raise UserError(f"its {name}, which names its group, is not known")
        whole = "|".join(str(value).removeprefix(f"{self._home}/") for value in values)
        plain = " ".join(whole.split()).casefold()
        match = re.search(self._entry.pattern, plain) if self._entry.pattern else None
        return match.group(1).strip() if match else plain


def _dataset(asked: Name) -> Any:
    """mirdata's own object of a set."""
    if importlib.util.find_spec("mirdata") is None:
        raise UserError(f"mirdata:{asked}: the package mirdata is not installed; `pip install 'musae[mirdata]'`.")
    mirdata = importlib.import_module("mirdata")  # an extra
    try:
        home = None if asked.home is None else str(asked.home.resolve())
        return mirdata.initialize(asked.name, data_home=home, version=asked.version or "default")
    except ValueError as error:
        raise UserError(f"mirdata:{asked}: {error} Leave the version and the @ out for mirdata's default.") from error


def _index(asked: Name, dataset: Any) -> Mapping[str, Any]:
    """mirdata's index of a set, which it downloads apart from the package."""
    path = Path(dataset.index_path)
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"mirdata:{asked}: mirdata's index {path} is missing; with internet access, run `{_command(asked)}`."
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: mirdata's index cannot be read ({error}); have mirdata download it again.") from error
    found: Mapping[str, Any] = index
    return found


def _command(asked: Name) -> str:
    home = "" if asked.home is None else f"={asked.home}"
    return f"musae corpus fetch mirdata:{asked}{home}"


def _remedy(asked: Name) -> str:
    access = SETS[asked.name].access
    own = "" if access == "download" else f"{ACCESS[access]}: name it as in mirdata's index, and for the labels "
    return f"{own}run `{_command(asked)}`"


def _undivided(found: Sequence[tuple[Track, Path, str]], left_out: list[LeftOut]) -> list[tuple[Track, Path, str]]:
    """Tracks with each group in one split: held out, where the official split divides it."""
    splits: defaultdict[str, set[Split]] = defaultdict(set)
    for track, _, _ in found:
        splits[track.group].add(track.split)
    divided = {group for group, of in splits.items() if len(of) > 1}
    if divided:
        some = ", ".join(sorted(divided)[:3])
        left_out.append(LeftOut("split", f"{len(divided)} groups that the official split divides are held out: {some}"))
    return [(replace(t, split=Split.HELDOUT) if t.group in divided else t, path, content) for t, path, content in found]
