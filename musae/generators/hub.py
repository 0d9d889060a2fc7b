"""Where a generator's checkpoint is: a folder, or a repository of the Hugging Face hub (its local copy)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from musae.card import GeneratorCard
from musae.errors import UserError


@dataclass(frozen=True)
class Source:
    """A hub id with a revision, or a folder; `reader`: the generator that reads it, for messages."""

    place: str
    revision: str | None
    reader: str

    @classmethod
    def parse(cls, text: str, card: GeneratorCard) -> Source:
        """``owner/name``, ``owner/name@revision`` or a folder's path; what exists as a folder is one."""
        if not text:
            raise UserError(f"{card.name}: is followed by nothing; give {card.argument}.")
        if Path(text).expanduser().is_dir():
            return cls(str(Path(text).expanduser()), None, card.name)
        place, _, revision = text.partition("@")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", place):
            raise UserError(f"{card.name}:{text}: neither a folder nor a hub id (owner/name); give {card.argument}.")
        return cls(place, revision or None, card.name)

    @property
    def name(self) -> str:
        """The last part of the hub id or path, fit for a folder's name."""
        return re.sub(r"[^\w.-]", "-", Path(self.place).resolve().name)

    def folder(self, *patterns: str) -> Path:
        """The folder, or the local copy of a hub repository's files that match, downloaded where they are missing."""
        if Path(self.place).is_dir():
            return Path(self.place)
        with _told(self):
            return Path(snapshot_download(self.place, revision=self.revision, allow_patterns=list(patterns)))


@contextmanager
def _told(source: Source) -> Iterator[None]:
    """Say what the hub's errors mean."""
    name = f"{source.reader}:{source.place}" + (f"@{source.revision}" if source.revision else "")
    try:
        yield
    except GatedRepoError as error:
        raise UserError(f"{name}: access is restricted; accept its terms on huggingface.co, then run `hf auth login`.") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{name}: the hub has no such model, or hides it; check the name, or log in with `hf auth login`."
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"{name}: not in the local cache, and the hub could not be asked ({str(error).splitlines()[0]}); connect to the "
            f"network, or give a folder that holds the checkpoint."
        ) from error


def checksum(paths: Iterable[Path], more: str) -> str:
    """Ten hex digits of the SHA-256 of some files' own, by name, and a text.

    The hub's cache names a file by its SHA-256 already: it is not read again.
    """
    digest = hashlib.sha256(more.encode())
    for path in sorted(paths, key=lambda path: path.name):
        digest.update(f"{path.name} {_sha256(path)}\n".encode())
    return digest.hexdigest()[:10]


def _sha256(path: Path) -> str:
    name = path.resolve().name
    if path.is_symlink() and re.fullmatch("[0-9a-f]{64}", name):
        return name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
