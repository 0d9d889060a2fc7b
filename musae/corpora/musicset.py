"""`musicset`: the paper's training set, ``musicset:path/to/folder``, by its parts' published manifests.

MusicSet is MTG-Jamendo, MusicCaps and MusicBench (Singh, Cherep, Maes, arXiv 2505.18186; about 160,000 clips). The user has
manifests and audio of any of the three parts anywhere below one folder (`musae.corpora.musicset_manifests` says which files);
what is missing or cannot be used is left out, with its reason.

- The paper's split is not known. Here a fifth of the groups is held out, by a hash: of the source video for MusicCaps and its
  augmentations in MusicBench, of the artist for Jamendo. It does not change as parts or files are added.
- All labels are estimated (`musae.corpora.musicset_labels`): the set trains dictionaries, and no task scores on it.
- Tracks are in an order that mixes the parts, so that a limited number of clips is a sample of all of them.
- The first load reads every listed audio file once (`musae.corpora.recordings`): of all of Jamendo, for hours.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from musae.card import CorpusCard
from musae.corpora import musicset_manifests
from musae.corpora.musicset_manifests import PARTS, SLACK, Entry, keys
from musae.corpora.recordings import LeftOut, Recordings, audio_files, inspected, split_of
from musae.corpora.track import Track
from musae.errors import UserError

CARD = CorpusCard(
    name="musicset",
    summary="The paper's training set, musicset:PATH: MTG-Jamendo, MusicCaps and MusicBench by their published manifests.",
    licence="by the part and track: Creative Commons (MTG-Jamendo), the YouTube uploaders' (MusicCaps, MusicBench)",
    source="the user's copies of MTG-Jamendo, MusicCaps and MusicBench",
    truth={
        "chords": ("estimated",),
        "key": ("estimated",),
        "tempo": ("estimated",),
        "beats": ("estimated",),
        "instruments": ("estimated",),
    },
    argument="the path of a folder with manifests and audio",
)


def card(argument: str) -> CorpusCard:
    """The card of the set, wherever it lies."""
    return CARD.model_copy(update={"argument": ""})


def load(argument: str = "") -> MusicSet:
    """The set in a folder. Raises UserError where there is none, or it has no manifest or no usable audio."""
    if not argument:
        raise UserError("musicset: name a folder with manifests and audio, as in musicset:path/to/folder.")
    return MusicSet(Path(argument).expanduser())


class MusicSet(Recordings):
    """The parts of MusicSet below a folder; see the module's header."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"musicset:{root}: there is no such folder; give {CARD.argument}.")
        root = root.resolve()
        left_out: list[LeftOut] = []
        placed = _placed(musicset_manifests.read(root, left_out), audio_files(root), left_out)
        sounds = inspected(root, [path for _, path in placed])
        found: list[tuple[Track, Path, str]] = []
        for entry, path in placed:
            name = path.relative_to(root).as_posix()
            heard = sounds[name]
            too_long = entry.longest is not None and heard.seconds > entry.longest + SLACK
            if heard.problem or too_long:
                left_out.append(
                    LeftOut(name, heard.problem or f"{heard.seconds:.1f} s of a clip of {entry.longest:g} s: cut it out")
                )
                continue
            annotations, remarks = entry.label(heard.seconds)
            left_out += [LeftOut(name, remark) for remark in [*(f"used, but {r}" for r in heard.remarks()), *remarks]]
            identity = f"{entry.part}-{entry.name}"
            track = Track(identity, entry.group, split_of(entry.group), entry.licence, heard.seconds, annotations, source=name)
            found.append((track, path, heard.sha256))
        if not found:
            last = f" ({left_out[-1].file}: {left_out[-1].reason})" if left_out else ""
            raise UserError(f"musicset:{root}: no clip of any manifest can be used{last}; add its audio.")
        found.sort(key=lambda member: hashlib.sha256(member[0].id.encode()).digest())
        super().__init__(card(str(root)), found, left_out)


def _placed(parts: Mapping[str, Sequence[Entry]], files: Sequence[Path], left_out: list[LeftOut]) -> list[tuple[Entry, Path]]:
    """Entries with their audio files; how many have none, and how many files are of no entry, goes to `left_out`."""
    index: defaultdict[str, list[Path]] = defaultdict(list)
    for file in sorted(files, key=lambda file: (file.stem.endswith(".low"), file)):  # full quality first
        for key in keys(file):
            index[key].append(file)
    placed: list[tuple[Entry, Path]] = []
    taken: set[Path] = set()
    for part in sorted(parts, key=lambda part: part == "musiccaps"):  # last: its files are known by their names alone
        missing = []
        for entry in parts[part]:
            path = next((free for free in index.get(entry.audio, ()) if free not in taken), None)
            if path is None:
                missing.append(entry.audio)
            else:
                taken.add(path)
                placed.append((entry, path))
        if missing:
            some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            left_out.append(LeftOut(PARTS[part], f"{len(missing)} of {len(parts[part])} clips have no audio here: {some}"))
    others = [file for file in files if file not in taken]
    if others:
        left_out.append(LeftOut("audio", f"{len(others)} of {len(files)} files are in no manifest, {others[0].name} among them"))
    return placed
