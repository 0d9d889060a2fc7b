"""Boards from rows made by hand: ranks, ties, rank groups, marks, and what is left out."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from musae.leaderboard.board import boards
from musae.leaderboard.notes import notes
from musae.results import Measure


def standings(files):
    """Name of the column -> standing, on the only line of the only board."""
    (board,) = boards(files)
    (corpus,) = board.corpora
    (line,) = corpus.lines
    return {column.name: standing for column, standing in line.standings.items()}


def test_ranks_and_ties(make):
    wide = 0.30 + 0.1 * np.random.default_rng(5).standard_normal(200)
    files = [make(0.2, method="a"), make(0.2000001, method="b", replicates=wide), make(0.3, method="c"), make(0.4, method="d")]
    found = standings(files)
    assert {name: (s.rank, s.tied) for name, s in found.items()} == {
        "a": (1, True),
        "b": (1, True),
        "c": (2, False),
        "d": (3, False),
    }


@pytest.mark.parametrize(("direction", "first"), [("lower", "low"), ("higher", "high")])
def test_ranks_follow_the_direction(make, direction, first):
    files = [make(value, method=name, measure={"direction": direction}) for name, value in (("low", 0.1), ("high", 0.9))]
    assert [name for name, s in standings(files).items() if s.rank == 1] == [first]


def test_a_score_without_a_better_way_is_not_ranked(make):
    files = [make(value, method=name, measure={"direction": "none"}) for name, value in (("a", 1.0), ("b", 2.0))]
    assert {s.rank for s in standings(files).values()} == {None}


def test_one_seed_of_another_sign_makes_a_tie(make):
    steady = [make(0.5, method="steady", seed=seed) for seed in (0, 1, 2)]
    better = [make(value, method="better", seed=seed) for seed, value in enumerate((0.3, 0.3, 0.3))]
    assert standings(steady + better)["steady"].rank == 2
    wavering = [make(value, method="better", seed=seed) for seed, value in enumerate((0.2, 0.2, 0.51))]
    assert standings(steady + wavering)["steady"].rank == 1


def test_seed_average(make):
    found = standings([make(value, seed=seed) for seed, value in enumerate((0.1, 0.2, 0.6))])["topk"]
    assert found.interval is not None
    assert found.interval.value == pytest.approx(0.3)
    assert found.interval.pieces == pytest.approx((0.3, 0.3), abs=0.003)
    assert found.seeds == (0, 1, 2)


def test_ranks_hold_within_one_width_and_l0(make):
    files = [
        make(0.5, method="a"),
        make(0.4, method="b"),
        make(0.3, method="c", width=4096),
        make(0.2, method="d", width=4096),
        make(0.1, method="e", k=64),
        make(0.0, method="f", width=None, k=None, role="baseline"),
    ]
    found = standings(files)
    assert {name: s.rank for name, s in found.items()} == {"b": 1, "a": 2, "d": 1, "c": 2, "e": None, "f": None}
    (corpus,) = boards(files)[0].corpora
    assert [column.name for column in corpus.columns] == ["a", "b", "c", "d", "e", "f"]


def test_controls_and_baselines_against_the_best_method(make):
    null = [
        Measure(metric="fvu", value=value, control=name) for name, value in (("chance", 0.9), ("lucky", 0.1), ("close", 0.401))
    ]
    files = [
        make(0.4, *null, method="best"),
        make(0.6, method="worse"),
        make(0.5, method="random", role="control"),
        make(0.3, method="codec", role="baseline", width=None, k=None),
        make(0.4, method="residual", role="baseline", width=None, k=None),
        make(0.5, method="weak", role="baseline", width=None, k=None),
    ]
    found = standings(files)
    marks = {name: s.mark for name, s in found.items() if s.mark}
    assert marks == {"codec": "beats", "residual": "ties", "lucky": "beats", "close": "ties"}
    assert (found["best"].rank, found["random"].rank, found["worse"].rank) == (1, 2, 3)


def test_what_has_seen_labels_is_shown_beside_and_never_ranked(make):
    files = [
        make(0.4, method="best"),
        make(0.5, method="random", role="control"),
        make(0.1, method="probes", role="supervised"),
        make(0.6, method="worse"),
    ]
    found = standings(files)
    assert {name: (s.rank, s.mark) for name, s in found.items()} == {
        "best": (1, ""), "random": (2, ""), "worse": (3, ""), "probes": (None, "beats"),
    }  # fmt: skip
    [corpus] = boards(files)[0].corpora
    assert [column.name for column in corpus.columns] == ["best", "worse", "random", "probes"]
    assert [corpus.ranked(column) for column in corpus.columns] == [True, True, True, False]


def test_a_null_is_the_best_that_any_method_reaches(make):
    files = [make(0.5, Measure(metric="fvu", value=v, control="chance"), method=m) for m, v in (("a", 0.9), ("b", 0.8))]
    found = standings(files)["chance"].interval
    assert found is not None
    assert found.value == 0.8


def test_a_reference_is_no_null(make):
    """The task says which of its controls are other ways to do the same; marks are as for nulls."""
    beside = [Measure(metric="fvu", value=v, control=c) for c, v in (("statistical_ceiling", 0.1), ("wrong_latent", 0.9))]
    [corpus] = boards([make(0.5, *beside, task="label_precision")])[0].corpora
    assert [(column.name, column.role) for column in corpus.columns[1:]] == [
        ("statistical_ceiling", "reference"),
        ("wrong_latent", "null"),
    ]
    marks = {column.name: corpus.lines[0].standings[column].mark for column in corpus.columns}
    assert (marks["statistical_ceiling"], marks["wrong_latent"]) == ("beats", "")


def test_truth_and_probe_make_lines_of_their_own(make):
    files = [
        make(0.5, measure={"truth": t, "probe_k": k}, task=f"t{i}") for i, (t, k) in enumerate([("exact", 5), ("derived", None)])
    ]
    both = replace(
        files[0], measures=files[0].measures + files[1].measures, replicates={**files[0].replicates, **files[1].replicates}
    )
    (corpus,) = boards([both])[0].corpora
    assert [(line.truth, line.name) for line in corpus.lines] == [("exact", "fvu k=5"), ("derived", "fvu")]


def test_unscored_keeps_its_reason(make):
    files = [make(None, measure={"unscored": "too few pieces"}, seed=0), make(0.5, seed=1), make(0.4, method="b")]
    found = standings(files)
    assert found["topk"].interval is None
    assert found["topk"].unscored == "too few pieces"
    assert (found["b"].rank, found["topk"].rank) == (1, None)


def test_other_pieces_are_not_compared(make):
    files = [make(0.5, method="a"), make(0.5, method="b"), make(0.1, method="c", measure={"pieces": 49})]
    assert standings(files)["c"].unscored == "scored on 49 pieces with 200 replicates, the others on 50 with 200"


NEWER = datetime(2026, 1, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"suite_version": 2}, "of quick version 1; the newest rows are of version 2"),
        ({"generator": "musicgen"}, "of generator nano; the newest rows are of musicgen"),
        ({"generator_revision": "r2"}, "of generator revision r1; the newest rows are of r2"),
        ({"layer": 5}, "of layer 4; the newest rows are of layer 5"),
        ({"corpus_revision": "c2"}, "of corpus revision c1; the newest rows are of c2"),
        ({"task_version": 2}, "of task version 1; the newest rows are of version 2"),
        ({"dictionary": "f" * 16}, "of dictionary e500260a7ad5, superseded by ffffffffffff of the same method, seed and sizes"),
    ],
)
def test_rows_that_disagree_are_left_out_with_the_reason(make, change, reason):
    (board,) = boards([make(0.1), make(0.2, created=NEWER, **change)])
    assert [left.reason for left in board.left_out] == [reason]
    (standing,) = board.corpora[0].lines[0].standings.values()
    assert standing.interval is not None
    assert standing.interval.value == 0.2


def test_suites_have_boards_of_their_own(make):
    assert [board.suite for board in boards([make(suite="quick"), make(suite="full")])] == ["full", "quick"]


def test_order_of_files_does_not_matter(suite):
    files = suite()
    assert boards(files) == boards(files[::-1])


def test_a_control_on_another_stream_is_ranked_by_labels_only(make):
    """Its FVU is of another stream, and no better for being lower; what is read of the labels is compared."""
    other = {"method": "untrained", "role": "control"}
    files = [make(value=0.3), make(value=0.5, method="pca"), make(value=0.1, **other)]
    labelled = {"metric": "wcsr", "direction": "higher", "truth": "exact"}
    files += [make(value=0.6, task="chords", measure=labelled), make(value=0.1, task="chords", measure=labelled, **other)]
    files = [
        replace(file, provenance=file.provenance.model_copy(update={"stream": "nano@0"})) if file.cell.role == "control" else file
        for file in files
    ]
    [board] = boards(files)
    lines = {line.metric: line for line in board.corpora[0].lines}
    control = next(column for column in board.corpora[0].columns if column.name == "untrained")
    topk = next(column for column in board.corpora[0].columns if column.name == "topk")
    fvu, wcsr = lines["fvu"].standings, lines["wcsr"].standings
    assert (fvu[control].rank, fvu[control].mark, fvu[topk].rank) == (None, "", 1)
    assert fvu[control].interval.value == pytest.approx(0.1)
    assert (wcsr[topk].rank, wcsr[control].rank) == (1, 2)
    assert any("untrained: of the stream of nano@0" in line for line in notes(board))


def test_two_imported_dictionaries_of_one_title_have_a_column_each(make):
    imported = {"method": "imported", "title": "layer_5/trainer_0", "seed": None}
    files = [make(value=0.3, dictionary="a" * 12, **imported), make(value=0.4, dictionary="b" * 12, **imported)]
    found = standings(files)
    assert {name: standing.interval.value for name, standing in found.items()} == pytest.approx(
        {"layer_5/trainer_0#aaaaaa": 0.3, "layer_5/trainer_0#bbbbbb": 0.4}
    )


def test_an_l0_far_from_k_is_noted(make):
    l0 = {"metric": "l0", "direction": "none"}
    [board] = boards(
        [make(value=40.0, measure=l0, task="sparsity"), make(value=32.5, measure=l0, task="sparsity", method="random")]
    )
    assert [line for line in notes(board) if "ranked under" in line] == ["topk is ranked under L0 32, and has 40.0 on chorales"]
