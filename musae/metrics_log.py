"""Where the figures of a training go: a local JSONL file, and W&B or trackio for those who ask for them.

Everything here is a `musae.dictionary.Report`: a callable that takes one mapping of figures, among them ``step``.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musae.dictionary import Report
from musae.errors import UserError
from musae.files import atomic_path, writing


class JsonLines:
    """Appends one JSON object a line to `path`."""

    def __init__(self, path: Path, resume_at: int = 0) -> None:
        """`resume_at`: lines of later steps are dropped, since they will be written again."""
        self.path = path
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= resume_at]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def __call__(self, figures: Mapping[str, float]) -> None:
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(figures)) + "\n")


def tracker(name: str, project: str, run: str, config: Mapping[str, Any] | None = None) -> Report:
    """A report that sends figures to `name`, "wandb" or "trackio". Raises UserError when that package is not installed."""
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"tracker {name!r} is not installed; pip install 'musae[{name}]', or train without it.") from error
    package.init(project=project, name=run, config=dict(config or {}))

    def report(figures: Mapping[str, float]) -> None:
        package.log({key: value for key, value in figures.items() if key != "step"}, step=int(figures["step"]))

    return report


def _lines(path: Path) -> list[str]:
    """The complete lines of a log; a line cut short by a crash is left out."""
    return path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines() if path.is_file() else []
