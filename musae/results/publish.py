"""Publishing: copying a run's validated rows to ``results/``, where they are committed.

Rows carry the dirty flag of the checkout that made them; publishing accepts them and says so, and tables mark them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from musae.files import atomic_path
from musae.results.files import RowFile, path_of, read_all, replicates_path, write
from musae.results.schema import Cell, schema_text


@dataclass(frozen=True)
class Report:
    """What `publish` did, as paths under ``results/``."""

    new: tuple[Path, ...]
    changed: tuple[Path, ...]
    same: tuple[Path, ...]
    """Same cell, numbers and replicates as published: left alone, so that only real changes show in a diff."""
    removed: tuple[Path, ...]
    """Published earlier for the same method, seed and sizes, from another dictionary: replaced by the new ones."""
    dirty: tuple[Path, ...]
    """Made from a checkout with uncommitted changes; tables mark them."""

    def __str__(self) -> str:
        counts = [f"{len(getattr(self, name))} {name}" for name in ("new", "changed", "same", "removed")]
        warning = f"; {len(self.dirty)} scored with uncommitted changes, which tables mark" if self.dirty else ""
        return ", ".join(counts) + warning


def publish(run_results: Path | str, results: Path | str) -> Report:
    """Copy every file of rows under `run_results` to `results`, and write the JSON Schema there.

    All files are read and validated (schema, replicates, checksum) before the first is copied. Raises UserError.
    """
    root, files = Path(results), read_all(run_results)
    published = {path_of(file.cell): file for file in (read_all(root) if root.exists() else [])}
    slots: dict[Cell, list[Path]] = {}
    for path, file in published.items():
        slots.setdefault(file.cell.slot, []).append(path)
    done: dict[str, list[Path]] = {"new": [], "changed": [], "same": [], "removed": []}
    for file in files:
        path = path_of(file.cell)
        before = published.get(path)
        done["new" if before is None else "same" if _same(before, file) else "changed"].append(path)
        if before is None or not _same(before, file):
            write(root, file)
        for old in slots.pop(file.cell.slot, []):
            if old != path:
                _remove(root / old)
                done["removed"].append(old)
    with atomic_path(root / "schema.json") as temporary:
        temporary.write_text(schema_text(), encoding="utf-8")
    dirty = [path_of(file.cell) for file in files if file.provenance.dirty]
    return Report(**{name: tuple(sorted(paths)) for name, paths in done.items()}, dirty=tuple(sorted(dirty)))


def _same(before: RowFile, after: RowFile) -> bool:
    """Whether publishing again would change nothing but the provenance (a clean checkout does replace a dirty one)."""
    return (
        (before.cell, before.measures) == (after.cell, after.measures)
        and before.provenance.dirty <= after.provenance.dirty
        and before.replicates.keys() == after.replicates.keys()
        and all(before.replicates[tag].tobytes() == values.tobytes() for tag, values in after.replicates.items())
    )


def _remove(path: Path) -> None:
    """Remove a published file with its replicates, and the folders that this leaves empty."""
    path.unlink()
    replicates_path(path).unlink(missing_ok=True)
    for folder in (path.parent, path.parent.parent):
        if not any(folder.iterdir()):
            folder.rmdir()
