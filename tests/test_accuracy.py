"""Estimators' accuracies: measured, kept in files, printed."""

import sys
from pathlib import Path

import pytest

from musae import accuracy, registry
from musae.corpora.track import Split, Truth
from musae.errors import UserError
from musae.scores.estimates import METRICS

sys.path.insert(0, str(Path(__file__).parent / "estimators"))
import singing

README = Path(accuracy.FOLDER).parent / "README.md"
PUBLISHED = sorted(accuracy.FOLDER.glob("*.json"))


@pytest.fixture
def measured():
    return accuracy.measure("ear", singing.Ear(), [singing.Singing()], lengths=(2.0, None))


def test_what_is_measured(measured):
    """Of 12 exact tracks 3 are heard wrongly; of 11 annotated ones, 12 to 23 without the estimated 20: 12, 16, and 23, silent."""
    rows = {(row.metric, row.seconds, row.truth): row for row in measured.rows}
    assert len(rows) == len(measured.rows) == 2 * 2 * 2
    for seconds in (2.0, None):
        exact, people = (rows["key_accuracy", seconds, level] for level in (Truth.EXACT, Truth.ANNOTATED))
        assert (exact.value, exact.clips, exact.pieces, exact.estimated) == (0.75, 12, 12, 1.0)
        assert (people.clips, people.pieces) == (11, 11)
        assert (people.value, people.estimated) == pytest.approx((8 / 11, 10 / 11), abs=1e-4)
        assert exact.low < exact.value < exact.high
        assert exact.null < 0.1
        assert rows["weighted_key", seconds, Truth.EXACT].null > exact.null
    assert {row.split for row in measured.rows} == {Split.HELDOUT}


def test_a_file_is_read_back_as_it_was(measured, tmp_path):
    assert accuracy.read(measured.write(tmp_path / "ear.json")) == measured


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_a_damaged_file_is_one_sentence(tmp_path, content):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(UserError, match=r"bad\.json: not a file of accuracies"):
        accuracy.read(tmp_path / "bad.json")


def test_what_is_printed_beside_a_use(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "FOLDER", tmp_path)
    card = singing.Ear.card
    assert accuracy.lines("ear", card, "ear-1") == [
        "ear: its accuracy was never measured; `musae estimate measure ear` does it",
    ]
    accuracy.publish(measured)
    [line] = accuracy.lines("ear", card, "ear-1")
    assert line.startswith("ear, key: weighted_key .75 [.")
    assert "on singing (exact, clips of 2 s, 12 pieces), null ." in line
    assert "(annotated, whole tracks, 11 pieces)" in line
    *_, remark = accuracy.lines("ear", card, "ear-2")
    assert "measured with ear-1; installed is ear-2" in remark


def test_no_labels_is_one_sentence():
    class Deaf(singing.Ear):
        card = singing.Ear.card.model_copy(update={"concepts": ("tempo",)})

    with pytest.raises(UserError, match="singing: no heldout track has labels for tempo"):
        accuracy.measure("deaf", Deaf(), [singing.Singing()])


@pytest.mark.parametrize(("value", "text"), [(0.712, ".71"), (1.0, "1.00"), (0.0, ".00"), (None, "-"), (0.999, "1.00")])
def test_short_figures(value, text):
    assert accuracy.short(value) == text


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_what_is_published_is_of_a_member_and_complete(path):
    measured = accuracy.read(path)
    assert measured.estimator == path.stem
    concepts = registry.find("estimators", path.stem).card.concepts
    assert {row.metric for row in measured.rows} == {metric for concept in concepts for metric in METRICS[concept]}
    assert {row.corpus for row in measured.rows} == set(accuracy.CORPORA)
    assert all(row.truth != Truth.ESTIMATED for row in measured.rows)


def test_what_is_published_stands_in_the_readme():
    """The README's table is made of the files; its text is replaced by running this file: `python tests/test_accuracy.py`."""
    assert PUBLISHED
    assert table() in README.read_text(encoding="utf-8")


def table() -> str:
    """The main metric of each concept on each corpus, level of truth and length."""
    lines = ["| estimator | metric | corpus | truth | audio | pieces | value | null |", "| --- " * 8 + "|"]
    for path in PUBLISHED:
        measured = accuracy.read(path)
        for row in (row for concept in METRICS for row in measured.of(concept)):
            value = f"{accuracy.short(row.value)} [{accuracy.short(row.low)}, {accuracy.short(row.high)}]"
            audio = "whole tracks" if row.seconds is None else f"clips of {row.seconds:g} s"
            cells = (measured.estimator, row.metric, row.corpus, row.truth, audio, row.pieces, value, accuracy.short(row.null))
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    start = text.index("| estimator | metric |")
    end = text.index("\n\n", start) + 1
    README.write_text(text[:start] + table() + text[end:], encoding="utf-8")
