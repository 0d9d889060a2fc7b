from pathlib import Path

import pytest
from pydantic import ValidationError

from musae.bench.rows import BenchDocument, BenchRow, document, read, slug
from musae.errors import UserError


def row(**change: object) -> BenchRow:
    return BenchRow(
        **{"subject": "musae", "case": {"n": 4}, "metric": "cpu_ms", "unit": "ms", "value": 1.5, "known": "measured"} | change
    )


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = document("peers", [row(low=1.0, high=2.0, rounds=9), row(variant="portable")], device="a CPU", threads=1, seconds=2.0)
    path = made.write(tmp_path / "deep" / "a.json")
    assert read(path) == made
    assert sum("subject" in line for line in path.read_text().splitlines()) == 2, "a row a line: a change is a line of a diff"


def test_rows_are_found_by_field_and_by_case() -> None:
    made = document("peers", [row(), row(case={"n": 8}), row(variant="x")], device="a CPU", threads=1, seconds=0)
    assert [r.variant for r in made.find(n=4)] == ["", "x"]
    assert made.find(n=8, metric="cpu_ms") == [made.rows[1]]
    assert made.find(metric="registers") == []


def test_a_row_has_a_value_or_a_reason() -> None:
    assert row(value=None, unscored="no GPU").value is None
    for change in ({"value": None}, {"unscored": "why"}, {"value": float("nan")}, {"known": "guessed"}):
        with pytest.raises(ValidationError):
            row(**change)


def test_one_number_is_there_once() -> None:
    with pytest.raises(ValidationError, match="occurs twice"):
        BenchDocument(
            bench="peers", provenance=document("peers", [], device="", threads=1, seconds=0).provenance, rows=(row(), row())
        )


def test_bad_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match="not a file of bench rows"):
        read(tmp_path / "bad.json")


def test_names_become_parts_of_paths() -> None:
    assert slug("AMD EPYC 9B45 (2.6 GHz)") == "amd-epyc-9b45-2-6-ghz"
    assert slug("../..") == "unknown"
