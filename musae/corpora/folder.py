"""`folder`: a folder of recordings, ``folder:path/to/folder``, with what is known of them.

Every audio file below the folder is a track. Annotations come from a JAMS file of the same name beside it, and from
``annotations.csv`` in the folder, which wins. Its columns, of which only ``file`` must be there:

==============  ==========================================================================================================
file            path within the folder
group           the piece, for splits and bootstraps; by default the file by itself
split           ``train`` or ``heldout``; by default a fifth of the groups is held out, by a hash of their names
licence         of the recording
key             ``C major``, ``F# minor``
tempo           beats per minute, constant
instruments     General MIDI families, separated by ``;``
chords          a file of lines ``start end label`` (Harte syntax), within the folder
beats           a file of lines ``time position`` (1 on the downbeat) or ``time``, within the folder
truth           ``exact``, ``annotated`` (the default), ``derived`` or ``estimated``: how the row's labels are known
==============  ==========================================================================================================

Files that cannot be used, and labels that cannot be read, are left out, with their reason (`FolderCorpus.left_out`); what lies
beyond a file's end is cut. Files are inspected once: the cache knows them by size and time of change.
"""

from __future__ import annotations

import re
from pathlib import Path

from musae.card import CorpusCard
from musae.corpora import folder_labels, jams_files
from musae.corpora.folder_labels import SHEET, Row
from musae.corpora.recordings import LeftOut, Recordings, audio_files, identity, inspected, split_of
from musae.corpora.sound import Sound
from musae.corpora.track import Split, Track
from musae.errors import UserError

CARD = CorpusCard(
    name="folder",
    summary="Recordings below a folder, folder:PATH, with annotations.csv or JAMS files, where there are any.",
    licence="as the recordings' owners say",
    source="the user's own files",
    truth={
        "chords": ("exact", "annotated", "derived", "estimated"),
        "key": ("exact", "annotated", "derived", "estimated"),
        "tempo": ("exact", "annotated", "derived", "estimated"),
        "beats": ("exact", "annotated", "derived", "estimated"),
        "instruments": ("exact", "annotated", "derived", "estimated"),
    },
    argument="the path of a folder",
)


def card(argument: str) -> CorpusCard:
    """The card of one folder, named after it."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", Path(argument).expanduser().resolve().name) or "root"
    return CARD.model_copy(update={"name": f"folder-{name}", "argument": ""})


def load(argument: str = "") -> FolderCorpus:
    """The corpus of a folder. Raises UserError where there is none, it has no usable audio, or its sheet cannot be read."""
    if not argument:
        raise UserError("folder: name a folder of recordings, as in folder:path/to/folder.")
    return FolderCorpus(Path(argument).expanduser())


class FolderCorpus(Recordings):
    """The recordings below a folder; see the module's header."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"folder:{root}: there is no such folder; give {CARD.argument}.")
        self.root, self.left_out = root.resolve(), []
        files = audio_files(self.root)
        rows = folder_labels.read_sheet(self.root)
        sounds = inspected(self.root, files)
        found: list[tuple[Track, Path, str]] = []
        for path in files:
            name = path.relative_to(self.root).as_posix()
            heard = sounds[name]
            if heard.problem:
                self.left_out.append(LeftOut(name, heard.problem))
                continue
            self.left_out += [LeftOut(name, f"used, but {remark}") for remark in heard.remarks()]
            found.append((self._track(path, name, heard, rows.pop(name, None)), path, heard.sha256))
        self.left_out += [LeftOut(name, f"listed in {SHEET}, and there is no such audio file") for name in rows]
        if not found:
            raise UserError(f"folder:{root}: none of {len(files)} audio files can be used{self._first_reason()}; give another.")
        super().__init__(card(str(root)), found, self.left_out)

    def _first_reason(self) -> str:
        return f" ({self.left_out[0].file}: {self.left_out[0].reason})" if self.left_out else ""

    def _track(self, path: Path, name: str, heard: Sound, row: Row | None) -> Track:
        """A track, its labels checked; what is wrong with them is left out."""
        sheet = jams_files.Sheet()
        if (beside := path.with_suffix(".jams")).is_file():
            try:
                sheet = jams_files.read(beside)
            except UserError as error:
                sheet.remarks.append(str(error))
        annotations, remarks = folder_labels.merged(self.root, sheet.annotations, row, heard.seconds)
        self.left_out += [LeftOut(name, remark) for remark in [*sheet.remarks, *remarks]]
        own = identity(name)
        group = (row and row.group) or str(sheet.sandbox.get("group") or own)
        wanted = (row and row.split) or str(sheet.sandbox.get("split") or "")
        split = Split(wanted) if wanted in set(Split) else split_of(group)
        licence = (row and row.licence) or str(sheet.sandbox.get("licence") or "not stated")
        return Track(own, group, split, licence, heard.seconds, annotations, source=name)
