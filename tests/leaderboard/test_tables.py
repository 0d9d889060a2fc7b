"""What is printed: it fits, it escapes, it is the same every time; and how a run agrees with published rows."""

import csv
import io
import subprocess
import sys

import pytest

from musae.errors import UserError
from musae.leaderboard import render, render_files
from musae.leaderboard.agreement import agreement, verdicts
from musae.leaderboard.board import boards
from musae.leaderboard.layout import number
from musae.leaderboard.markdown import escape
from musae.results import Measure, write

CROWD = {"topk": 0.45, "random": 0.25, **{f"m{i:02d}_of_many": 0.2 + i / 50 for i in range(20)}}


def test_a_line_a_score_where_it_fits(suite):
    text = render_files(suite())
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    assert sum(line.startswith("chords@1 · exact") for line in lines) == 2, "one section a corpus"
    (row,) = [line for line in lines if line.startswith("  loss_recovered ↑")][:1]
    assert row.split()[2:] == ["1", ".452±.018", "2", ".345±.015", "3", ".248±.016", "–", "–", "–", "–", "–"]


def test_a_line_a_method_where_there_are_many(suite):
    text = render_files(suite(CROWD))
    assert max(map(len, text.splitlines())) <= 120
    assert "m19_of_many" in text
    assert "width 2,048 · L0 32" in text


def test_the_table_says_what_is_unscored_tied_and_beaten(suite):
    text = " ".join(render_files(suite()).split())
    who = "topk, pca, random, residual, codec_step, codec_means"
    assert f"unscored: {who} on key f1_key (chorales): one key in fewer than 10 clips" in text
    assert "▲.5" in text
    assert "≈.4" in text


@pytest.mark.parametrize("form", ["table", "markdown", "csv"])
def test_output_depends_on_the_rows_only(suite, form):
    files = suite()
    assert render_files(files, form) == render_files(files[::-1], form)


def test_color_only_when_asked(suite):
    assert "\x1b[" not in render_files(suite())
    assert "\x1b[" in render_files(suite(), color=True)


def test_markdown_takes_text_literally(make):
    assert escape("C:maj|7 <b> *x* [y] `z`\nw") == "C:maj\\|7 &lt;b&gt; \\*x\\* \\[y\\] \\`z\\`<br>w"
    text = render_files([make(None, measure={"unscored": "a | b <i>"}), make(0.5, method="b")], "markdown")
    assert "a \\| b &lt;i&gt;" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_csv_has_every_row(make):
    label = Measure(metric="fvu", value=0.125, label='C:maj | "1", a', low=0.1, high=0.2)
    text = render_files([make(0.5, label), make(None, measure={"unscored": "why"}, seed=None, method="z")], "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["value"], row["label"], row["seed"], row["unscored"]) for row in rows] == [
        ("0.5", "", "0", ""),
        ("0.125", 'C:maj | "1", a', "0", ""),
        ("", "", "", "why"),
    ]
    assert (rows[1]["low"], rows[1]["high"], rows[0]["commit"]) == ("0.1", "0.2", "0123abc4567")


def test_render_reads_folders(tmp_path, make):
    with pytest.raises(UserError, match="no rows here"):
        render([tmp_path])
    write(tmp_path, make(0.5))
    assert ".500" in render([tmp_path])


def test_uncommitted_changes_are_marked(make):
    file = make(0.5)
    object.__setattr__(file, "provenance", file.provenance.model_copy(update={"dirty": True}))
    assert "commit 0123abc4+" in render_files([file])
    assert "uncommitted changes" in render_files([file])


def test_missing_seeds_are_noted(make):
    files = [make(0.5, seed=0), make(0.5, seed=1), make(0.4, method="b", seed=0)]
    assert "only seeds 0 of 0, 1: b (chorales)" in render_files(files)


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(0.2674, 3, ".267"), (-0.05, 3, "-.050"), (-0.0001, 3, ".000"), (10.5, 2, "10.50"), (1204, 0, "1,204"), (0, 0, "0")],
)
def test_numbers(value, decimals, text):
    assert number(value, decimals) == text


def test_verdicts_in_words(make):
    files = [
        make(0.2, method="a"),
        make(0.5, method="r", role="control"),
        make(0.2, method="c", role="baseline", width=None, k=None),
    ]
    (board,) = boards(files)
    assert verdicts(board) == [
        "chorales: a is above r (control) on reconstruction fvu",
        "chorales: a ties with c (baseline) on reconstruction fvu",
    ]


def test_agreement_with_published_rows(make):
    published = [make(0.5, seed=seed) for seed in range(4)] + [make(0.5, seed=9, suite="full")]
    run = [
        make(0.5, seed=0, dictionary="f" * 16),
        make(0.505, seed=1),
        make(0.52, seed=2),
        make(0.5, seed=5),
        make(0.5, seed=3, corpus_revision="c2"),
    ]
    found = agreement(run, published)
    assert found.summary().startswith("3 main scores compared with published rows: 1 identical, 1 within the interval, 1 outside")
    assert found.summary().endswith(", 1 of another revision, 1 not published")
    assert found.details() == [
        "outside: topk seed 2, chorales, reconstruction fvu: 0.52 [0.51, 0.53], published 0.5 [0.49, 0.51]",
        "another revision: topk seed 3, chorales, reconstruction fvu: corpus_revision c2, published c1",
        "not published: topk seed 5, chorales, reconstruction fvu",
    ]
    assert agreement(run[:1], published).details() == [
        f"not in this run: topk seed {seed}, chorales, reconstruction fvu" for seed in (1, 2, 3)
    ]


def test_the_leaderboard_imports_no_machinery():
    """A table is rebuilt from rows alone: printing one imports neither torch nor any layer above the rows."""
    code = (
        "import sys; from musae.leaderboard import agreement, board, markdown, terminal;"
        "print([m for m in sys.modules if m in ('torch', 'transformers', 'musae.evaluation', 'musae.dictionary')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
