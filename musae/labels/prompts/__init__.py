"""What language models are told: one text file a version, ``<name>-<version>.txt``.

A version that was used is never edited, since its name is part of the key of every answer (`musae.providers.cache`): a better
text is a new file. Text before a line of ``---`` is the system's message, which requests share; what follows is the user's, with
``{fields}`` to be filled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from musae.providers.provider import Message

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Prompt:
    """A prompt of one version."""

    tag: str
    """Name and version, as in ``explain@1``."""
    system: str
    user: str

    def messages(self, **fields: str) -> tuple[Message, ...]:
        """The messages, with the fields of the user's filled in."""
        return Message("system", (self.system,)), Message("user", (self.user.format(**fields),))


@cache
def read(name: str, version: int) -> Prompt:
    """A prompt of this package."""
    system, _, user = (FOLDER / f"{name}-{version}.txt").read_text(encoding="utf-8").partition("\n---\n")
    return Prompt(f"{name}@{version}", system.strip(), user.strip())
