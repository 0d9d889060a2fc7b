"""Answers on disk, one file each, so that a second run asks nothing.

An answer is found by the SHA-256 of all that it depends on: model and revision, prompt and version, schema or options, the
messages as they are sent (a clip of audio by its own SHA-256) and how it was sampled. Files hold no key and no audio.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from musae.files import atomic_path, cache_root
from musae.providers.provider import Answer, Provider, Request
from musae.providers.schema import problem

FORM = 1
"""Raised whenever the client makes something else of a request or of an answer."""


def key(provider: Provider, request: Request) -> str:
    """Hexadecimal SHA-256 of what the answer depends on; metadata of clips counts only where it is in the text that is sent."""
    messages = [
        [message.role, *(part if isinstance(part, str) else {"clip": part.sha256} for part in message.parts)]
        for message in request.messages
    ]
    form = request.schema if request.schema is not None else list(request.options)
    parts = [FORM, provider.model, provider.revision, request.prompt, form, messages, asdict(request.sampling)]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


class AnswerCache:
    """Answers under a folder, by default ``providers`` in musae's cache; safe to delete."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_root() / "providers"

    def get(self, name: str, request: Request) -> Answer | None:
        """The kept answer; None where there is none, or where its file is damaged: it is asked for, and written, again."""
        try:
            kept = json.loads(self._path(name).read_text(encoding="utf-8"))
            body = kept["answer"]
            if kept["sha256"] != _digest(name, body):
                return None
            answer = Answer(body["value"], body["unscored"], cached=True, repaired=body["repaired"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        fits = answer.value is None or request.schema is None or not problem(answer.value, request.schema)
        return answer if fits else None

    def put(self, name: str, request: Request, answer: Answer, model: str) -> None:
        """Keep an answer, with the prompt and model that it is of, for a reader."""
        body = {"value": answer.value, "unscored": answer.unscored, "repaired": answer.repaired}
        kept = {"model": model, "prompt": request.prompt, "answer": body, "sha256": _digest(name, body)}
        with atomic_path(self._path(name)) as path:
            path.write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.json"


def _digest(name: str, body: Any) -> str:
    return hashlib.sha256((name + json.dumps(body, sort_keys=True)).encode()).hexdigest()
