"""Files of rows: where they lie, writing and reading them.

``<root>/<suite>@<version>/<generator>@<rev>/layer<L>/<method>-<hash>/<corpus>@<rev>/<task>@<version>.json``, and beside it
``.npz`` with the bootstrap replicates of the main scores: ``tags [M]`` (text) and ``replicates [M, R]`` (float32), no pickle. The
JSON keeps the checksum of the ``.npz``. A plug-in's name ``package/name`` is written ``package~name``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from musae.card import TaskCard
from musae.errors import UserError
from musae.files import atomic_path, sha256
from musae.results.schema import Cell, Document, Measure, Provenance, Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ScoreLike(Protocol):
    """What `RowFile.of` reads of a score (`musae.scores.score.Score`, which is above this layer)."""

    @property
    def metric(self) -> str: ...
    @property
    def value(self) -> float | None: ...
    @property
    def reason(self) -> str: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def replicates(self) -> NDArray[np.float32] | None: ...
    @property
    def k(self) -> int | None: ...
    @property
    def control(self) -> str: ...
    @property
    def truth(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def pieces(self) -> int: ...


@dataclass(frozen=True, eq=False)
class RowFile:
    """The rows of one (dictionary, corpus, task), what made them, and the replicates of their main scores."""

    cell: Cell
    provenance: Provenance
    measures: tuple[Measure, ...]
    replicates: Mapping[str, NDArray[np.float32]]
    """Tag of a measure -> its bootstrap replicates ``[R]``; one for every main score that has a value, R the same for all."""

    @classmethod
    def of(cls, cell: Cell, provenance: Provenance, card: TaskCard, scores: Iterable[ScoreLike]) -> RowFile:
        """Rows from a task's scores. The card says which metrics are main and which way is better.

        Main are the card's main metrics over the whole, i.e. without `control` and `label`; they must come with replicates.
        Raises UserError for a score that the schema refuses.
        """
        measures, replicates = [], {}
        for score in scores:
            main = score.metric in card.main and not score.control and not score.label
            try:
                measure = Measure(
                    metric=score.metric,
                    value=None if score.value is None else float(score.value),
                    unscored=score.reason,
                    low=None if score.low is None else float(score.low),
                    high=None if score.high is None else float(score.high),
                    probe_k=score.k,
                    control=score.control,
                    truth=score.truth,  # type: ignore[arg-type]
                    label=score.label,
                    pieces=score.pieces,
                    main=main,
                    direction=card.direction.get(score.metric, "none"),
                )
            except ValidationError as error:
                raise UserError(f"task {card.name!r}, metric {score.metric!r}: {_first(error)}.") from error
            measures.append(measure)
            if main and score.value is not None and score.replicates is not None:
                replicates[measure.tag] = score.replicates
        return cls(cell, provenance, tuple(measures), replicates)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The measures with their cell: flat rows."""
        cell = self.cell.model_dump()
        return tuple(Row(**cell, **measure.model_dump()) for measure in self.measures)


def path_of(cell: Cell) -> Path:
    """Where a cell's file lies under a root. Its names are validated, so that no part can leave the folder."""
    return (
        Path(f"{_part(cell.suite)}@{cell.suite_version}")
        / f"{_part(cell.generator)}@{cell.generator_revision}"
        / f"layer{cell.layer}"
        / f"{_part(cell.method)}-{cell.dictionary[:12]}"
        / f"{_part(cell.corpus)}@{cell.corpus_revision}"
        / f"{_part(cell.task)}@{cell.task_version}.json"
    )


def replicates_path(path: Path) -> Path:
    """The replicates beside a file of rows."""
    return path.with_name(path.name.removesuffix(".json") + ".npz")


def write(root: Path | str, file: RowFile) -> Path:
    """Write a file of rows under `root`. Returns its path.

    An older file of this cell goes first and the JSON comes last: killed midway, the cell has no rows yet, never wrong ones.
    Raises UserError when two measures share a tag, a main score has no replicates, or replicates have unequal lengths.
    """
    import numpy as np

    path = Path(root) / path_of(file.cell)
    _check_replicates(path, file.measures, file.replicates)
    _document(path, file, "")
    path.unlink(missing_ok=True)
    beside, checksum = replicates_path(path), ""
    if file.replicates:
        tags = sorted(file.replicates)
        table = np.stack([np.asarray(file.replicates[tag], np.float32) for tag in tags])
        with atomic_path(beside) as temporary:
            np.savez_compressed(temporary, tags=np.array(tags), replicates=table)
            checksum = sha256(temporary)
    text = _document(path, file, checksum).text()
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    if not file.replicates:
        beside.unlink(missing_ok=True)
    return path


def read(path: Path | str) -> RowFile:
    """Read and validate a file of rows with its replicates. Raises UserError naming the file, the field and the value."""
    path = Path(path)
    try:
        document = Document.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        raise UserError(f"{path}: {_first(error)}; the format is described in results/schema.json.") from error
    replicates = _read_replicates(replicates_path(path), document.replicates_sha256) if document.replicates_sha256 else {}
    _check_replicates(path, document.rows, replicates)
    return RowFile(document.cell, document.provenance, document.rows, replicates)


def read_all(*roots: Path | str) -> list[RowFile]:
    """All files of rows under some folders (or single files), in a fixed order. Raises UserError for a path that is not there."""
    paths: set[Path] = set()
    for root in map(Path, roots):
        if not root.exists():
            raise UserError(f"{root}: no such file or folder of results; `musae run` writes one, `musae publish` another.")
        found = [root] if root.is_file() else root.rglob("*@*.json")
        paths.update(path for path in found if not path.name.startswith("."))
    return [read(path) for path in sorted(paths)]


def _part(name: str) -> str:
    return name.replace("/", "~")


def _document(path: Path, file: RowFile, checksum: str) -> Document:
    try:
        return Document(cell=file.cell, provenance=file.provenance, replicates_sha256=checksum, rows=file.measures)
    except ValidationError as error:
        raise UserError(f"{path}: {_first(error)}.") from error


def _check_replicates(path: Path, measures: Iterable[Measure], replicates: Mapping[str, NDArray[np.float32]]) -> None:
    """Main scores with a value have replicates, no others have; all are ``[R]`` with one R; NaN is undefined in a resample."""
    import numpy as np

    wanted = {measure.tag for measure in measures if measure.main and measure.value is not None}
    for tag in sorted(wanted - set(replicates)):
        raise UserError(f"{path}: the main score {tag!r} has no bootstrap replicates; score it again.")
    for tag in sorted(set(replicates) - wanted):
        raise UserError(f"{path}: there are replicates for {tag!r}, which is no main score with a value; score it again.")
    shapes = {values.shape for values in replicates.values()}
    if any(bool(np.isinf(values).any()) for values in replicates.values()):
        raise UserError(f"{path}: a replicate is infinite; score it again.")
    if len(shapes) > 1 or any(len(shape) != 1 or not shape[0] for shape in shapes):
        raise UserError(f"{path}: replicates have shapes {sorted(shapes)}, not one common [R]; score it again.")


def _read_replicates(path: Path, checksum: str) -> dict[str, NDArray[np.float32]]:
    import numpy as np

    if not path.is_file():
        raise UserError(
            f"{path}: the bootstrap replicates are missing; copy them here, or delete the .json beside it and run again."
        )
    if sha256(path) != checksum:
        raise UserError(
            f"{path}: the checksum differs from the one in the .json beside it; copy both, or delete the .json and run again."
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            tags, table = archive["tags"], archive["replicates"]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: not an archive of `tags` and `replicates` ({error}); delete the .json beside it and run again."
        ) from error
    if tags.ndim != 1 or tags.dtype.kind != "U" or table.dtype != np.float32 or table.shape[:1] != tags.shape or table.ndim != 2:
        raise UserError(
            f"{path}: `tags` is {tags.dtype}{tags.shape} and `replicates` {table.dtype}{table.shape}; "
            f"delete the .json beside it and run again."
        )
    return {str(tag): values for tag, values in zip(tags, table, strict=True)}


def _first(error: ValidationError) -> str:
    """The first problem as part of a sentence: field, value, what is wrong."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if not field or isinstance(problem["input"], (dict, list, BaseException, Document, Measure)):
        return f"{field}: {message}" if field else message
    shown = repr(problem["input"])
    return f"{field} = {shown if len(shown) <= 80 else shown[:77] + '...'}: {message}"
