"""Rows: what the schema refuses, files that come back as they were written, and publishing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from musae.card import TaskCard
from musae.errors import UserError
from musae.files import sha256
from musae.results import (
    Cell,
    Measure,
    Provenance,
    RowFile,
    path_of,
    provenance,
    publish,
    read,
    read_all,
    replicates_path,
    schema_text,
    write,
)
from musae.scores.score import Score

HERE = Path(__file__).resolve().parent
MADE = Provenance(
    commit="0123abc",
    device="cpu",
    cores=2,
    threads=1,
    packages={"python": "3.11"},
    seconds=1,
    created=datetime(2026, 1, 2, tzinfo=UTC),
)
CELL = Cell(
    suite="quick",
    suite_version=1,
    generator="nano",
    generator_revision="r1",
    layer=4,
    method="topk",
    role="method",
    dictionary="0123456789abcdef",
    seed=0,
    width=2048,
    k=32,
    corpus="chorales",
    corpus_revision="c1",
    task="reconstruction",
    task_version=1,
)
FVU = Measure(metric="fvu", value=0.25, low=0.2, high=0.3, pieces=9, main=True, direction="lower")
TAG = "fvu|all|||"


def row_file(*measures: Measure, made: Provenance = MADE, replicates: np.ndarray | None = None, **cell: object) -> RowFile:
    """A file with the main score `FVU` and others."""
    draws = np.linspace(0.2, 0.3, 50, dtype=np.float32) if replicates is None else replicates
    return RowFile(Cell(**{**CELL.model_dump(), **cell}), made, (FVU, *measures), {TAG: draws})


finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.from_regex(r"\A[a-z][a-z0-9_.-]{0,20}\Z")


@st.composite
def measures(draw: st.DrawFn) -> Measure:
    """Any measure that is not main, scored or not, with or without an interval."""
    value, ends = draw(st.none() | finite), draw(st.none() | st.tuples(finite, finite).map(sorted))
    low, high = ends if ends and value is not None else (None, None)
    return Measure(
        metric=draw(names),
        value=value,
        unscored="no piece has it" if value is None else "",
        low=low,
        high=high,
        probe_k=draw(st.none() | st.integers(1, 50)),
        control=draw(st.sampled_from(["", "chance", "permuted_labels"])),
        truth=draw(st.sampled_from(["", "exact", "annotated", "derived"])),
        label=draw(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)),
        pieces=draw(st.integers(0, 1000)),
        direction=draw(st.sampled_from(["higher", "lower", "none"])),
    )


@given(st.lists(measures(), max_size=8, unique_by=lambda m: m.tag), st.sampled_from([None, 0, 7]), names)
def test_rows_come_back_as_they_were_written(tmp_path_factory, others, seed, method):
    others = [measure for measure in others if measure.tag != TAG]
    file = row_file(*others, seed=seed, method=method)
    back = read(write(tmp_path_factory.mktemp("rows"), file))
    assert (back.cell, back.provenance, back.measures) == (file.cell, file.provenance, file.measures)
    assert back.replicates[TAG].tobytes() == file.replicates[TAG].tobytes()
    assert [row.key for row in back.rows] == [row.key for row in file.rows]
    assert len({row.key for row in back.rows}) == len(others) + 1


def test_path_and_text(tmp_path):
    path = write(tmp_path, row_file(Measure(metric="fvu", value=1.0, control="chance"), method="their-package/relu"))
    assert path == tmp_path / "quick@1/nano@r1/layer4/their-package~relu-0123456789ab/chorales@c1/reconstruction@1.json"
    lines = path.read_text().splitlines()
    assert lines[-4:] == [
        '  {"direction": "lower", "high": 0.3, "low": 0.2, "main": true, "metric": "fvu", "pieces": 9, "value": 0.25},',
        '  {"control": "chance", "metric": "fvu", "value": 1.0}',
        " ]",
        "}",
    ]
    assert sorted(p.name for p in path.parent.iterdir()) == ["reconstruction@1.json", "reconstruction@1.npz"]


@pytest.mark.parametrize("field", ["suite", "generator", "generator_revision", "method", "corpus", "corpus_revision", "task"])
@pytest.mark.parametrize("name", ["..", "../x", "/etc/x", "a/../b", "a/b/c", "", "a\\b", "a b", "a\n", "~x", "x@1"])
def test_names_cannot_leave_the_folder(field, name):
    with pytest.raises(ValidationError, match=field):
        Cell(**{**CELL.model_dump(), field: name})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"value": 1.0, "unscored": "why"},
        {"value": float("nan")},
        {"value": float("inf")},
        {"value": 1.0, "low": 0.5},
        {"value": 1.0, "low": 2.0, "high": 1.5},
        {"unscored": "why", "low": 0.0, "high": 1.0},
        {"value": 1.0, "main": True, "control": "chance"},
        {"value": 1.0, "main": True, "label": "C:maj"},
        {"value": 1.0, "truth": "guessed"},
        {"value": 1.0, "extra": 1},
    ],
)
def test_a_measure_is_a_value_or_a_reason(fields):
    with pytest.raises(ValidationError):
        Measure(metric="fvu", **fields)


def test_rows_from_scores():
    card = TaskCard(name="key", summary="", version=2, main=("weighted",), direction={"weighted": "higher"}, reads=("codes",))
    score = Score(
        "weighted", np.float64(0.5), low=0.4, high=0.6, replicates=np.zeros(9, np.float32), k=5, truth="exact", pieces=7
    )
    gone = Score("weighted", None, "no clip has one key", truth="derived")
    scores = [score, score.on(control="chance", replicates=None), score.on(label="C major"), gone, Score("acc", 0.1)]
    file = RowFile.of(CELL, MADE, card, scores)
    assert [m.main for m in file.measures] == [True, False, False, True, False]
    assert [m.direction for m in file.measures] == ["higher"] * 4 + ["none"]
    assert list(file.replicates) == ["weighted|5|exact||"]
    assert file.rows[0].probe_k == 5
    assert file.rows[0].k == 32
    assert file.rows[3].unscored == "no clip has one key"
    with pytest.raises(UserError, match=r"task 'key', metric 'weighted'.*value = nan"):
        RowFile.of(CELL, MADE, card, [score.on(value=float("nan"))])


def test_refused_when_writing(tmp_path):
    with pytest.raises(UserError, match=r"'fvu\|all.*' has no bootstrap replicates"):
        write(tmp_path, RowFile(CELL, MADE, (FVU,), {}))
    with pytest.raises(UserError, match="no main score"):
        write(tmp_path, RowFile(CELL, MADE, (), {TAG: np.zeros(5, np.float32)}))
    with pytest.raises(UserError, match="occurs twice"):
        write(tmp_path, row_file(FVU))
    with pytest.raises(UserError, match="infinite"):
        write(tmp_path, row_file(replicates=np.array([0.1, np.inf])))
    assert not list(tmp_path.rglob("*.*"))


def test_damage_is_named(tmp_path):
    path = write(tmp_path, row_file())
    beside, text = replicates_path(path), path.read_text()
    damaged = bytearray(beside.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    beside.write_bytes(damaged)
    with pytest.raises(UserError, match=r"reconstruction@1\.npz: the checksum differs"):
        read(path)
    beside.unlink()
    with pytest.raises(UserError, match=r"reconstruction@1\.npz: the bootstrap replicates are missing"):
        read(path)
    for old, new, complaint in [
        ('"value": 0.25', '"value": NaN', r"rows\.0\.value = nan"),
        ('"value": 0.25', '"value": "high"', r"rows\.0\.value = 'high'"),
        ('"layer": 4', '"layer": -4', r"cell\.layer = -4"),
        ('"layer": 4', '"layers": 4', r"cell\.layer"),
        ('"format": 1', '"format": 2', r"format = 2"),
        ('"seed": 0', '"seed": 0, "lr": 1', r"cell\.lr = 1"),
    ]:
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(UserError, match=complaint) as error:
            read(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_replicates_are_never_unpickled(tmp_path):
    path = write(tmp_path, row_file())
    beside = replicates_path(path)
    np.savez(beside, tags=np.array([TAG], dtype=object), replicates=np.zeros((1, 5), np.float32))
    document = json.loads(path.read_text())
    path.write_text(path.read_text().replace(document["replicates_sha256"], sha256(beside)))
    with pytest.raises(UserError, match="not an archive"):
        read(path)


def test_read_all_is_ordered_and_wants_a_folder(tmp_path):
    for seed, digest in ((1, "b" * 16), (0, "a" * 16)):
        write(tmp_path, row_file(seed=seed, dictionary=digest))
    (tmp_path / "schema.json").write_text("{}")
    files = read_all(tmp_path, tmp_path / path_of(files_cell := row_file(seed=0, dictionary="a" * 16).cell))
    assert [file.cell.seed for file in files] == [0, 1]
    assert files[0].cell == files_cell
    with pytest.raises(UserError, match="nowhere"):
        read_all(tmp_path / "nowhere")


def test_publish(tmp_path):
    run, results = tmp_path / "run", tmp_path / "results"
    write(run, row_file())
    assert str(publish(run, results)) == "1 new, 0 changed, 0 same, 0 removed"
    assert read_all(results)[0].measures == (FVU,)
    assert (results / "schema.json").read_text() == schema_text()
    published = results / path_of(CELL)
    before = published.read_bytes()
    write(run, row_file(made=MADE.model_copy(update={"seconds": 9.0})))
    assert str(publish(run, results)) == "0 new, 0 changed, 1 same, 0 removed"
    assert published.read_bytes() == before
    write(run, row_file(Measure(metric="l0", value=32)))
    assert publish(run, results).changed == (path_of(CELL),)
    other = tmp_path / "other"
    write(other, row_file(dictionary="f" * 16, made=MADE.model_copy(update={"dirty": True})))
    report = publish(other, results)
    assert report.removed == (path_of(CELL),)
    assert str(report).endswith("1 scored with uncommitted changes, which tables mark")
    assert [file.cell.dictionary for file in read_all(results)] == ["f" * 16]
    assert not published.parent.parent.exists()


def test_nothing_is_published_when_one_file_is_damaged(tmp_path):
    run, results = tmp_path / "run", tmp_path / "results"
    write(run, row_file())
    replicates_path(write(run, row_file(task="sparsity"))).unlink()
    with pytest.raises(UserError, match="sparsity@1"):
        publish(run, results)
    assert not results.exists()


def test_files_follow_the_published_schema(tmp_path):
    text = write(tmp_path, row_file(Measure(metric="key", unscored="no clip has one key"))).read_text()
    jsonschema.validate(json.loads(text), json.loads(schema_text()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(text.replace('"layer": 4', '"layer": "4"')), json.loads(schema_text()))


def test_the_published_schema_is_current():
    assert (HERE.parent / "results" / "schema.json").read_text() == schema_text()


def test_provenance_of_now():
    made = provenance(device="cpu", threads=1, seconds=1.234)
    assert made.seconds == 1.23
    assert made.created.tzinfo == UTC
    assert "numpy" in made.packages
