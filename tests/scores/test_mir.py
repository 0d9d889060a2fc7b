"""MIR metrics against hand-worked numbers and against mir_eval called clip by clip."""

import mir_eval
import numpy as np
import pytest

from musae.corpora.track import Span
from musae.scores import mir, spread

LABELS = ("C:maj", "C:maj/3", "A:min7", "G:7", "G:7/b7", "B:dim", "F:maj7", "D:sus4", "A:maj/2", "N", "Bb:min", "X", "E:hdim7/b3")


def test_chord_table_by_hand():
    references, answers = ["A:maj/2", "C:maj/3", "N", "G:7", "B:dim"], ["A:maj", "C:maj", "C:min", "N", "G:maj", "B:min"]
    assert mir.chord_table("root", references, answers)[1].tolist() == [0, 1, 1, 0, 0, 0]
    majmin = mir.chord_table("majmin", references, answers)
    assert majmin[0].tolist() == [-1] * 6  # A:maj/2 is not A:maj: its second is a chord tone
    assert majmin[1].tolist() == [0, 1, 0, 0, 0, 0]
    assert majmin[2].tolist() == [0, 0, 0, 1, 0, 0]
    assert majmin[4].tolist() == [-1] * 6
    assert mir.chord_table("sevenths", references, answers)[3].tolist() == [0] * 6
    assert mir.chord_table("thirds", references, answers)[4].tolist() == [0, 0, 0, 0, 0, 1]


def test_labels_are_sorted_into_vocabularies_by_mir_eval():
    names = [mir.VOCABULARIES["majmin"][c] if c >= 0 else "" for c in mir.chord_classes(LABELS, "majmin")]
    assert names == ["C:maj", "C:maj", "A:min", "G:maj", "G:maj", "", "F:maj", "", "", "N", "Bb:min", "", ""]
    names = [mir.VOCABULARIES["sevenths"][c] if c >= 0 else "" for c in mir.chord_classes(LABELS, "sevenths")]
    assert names == ["C:maj", "C:maj", "A:min7", "G:7", "G:7", "", "F:maj7", "", "", "N", "Bb:min", "", ""]
    roots = mir.chord_classes(LABELS, "root").tolist()
    assert roots == [0, 0, 9, 7, 7, 11, 5, 2, 9, 12, 10, -1, 4]


@pytest.mark.parametrize("metric", mir.CHORD_METRICS)
def test_recall_equals_mir_eval_clip_by_clip(metric):
    rng = np.random.default_rng(0)
    vocabulary, answers = list(mir.VOCABULARIES["majmin"]), rng.integers(0, 25, (6, 10))
    hits, seconds, expected = 0.0, 0.0, []
    for clip in answers:
        cuts = np.sort(rng.choice(np.arange(1, 100), 5, replace=False)) / 10
        labels = rng.choice(LABELS, 6).tolist()
        spans = [Span(a, b, label) for a, b, label in zip((0, *cuts), (*cuts, 10), labels, strict=True)]
        starts = np.arange(10) * 1.0
        row, span, length = mir.overlaps(spans, starts, 1.0)
        comparison = mir.chord_table(metric, labels, vocabulary)[span, clip[row]]
        counted = length * (comparison >= 0)
        hits, seconds = hits + (comparison * counted).sum(), seconds + counted.sum()
        intervals = np.stack([starts, starts + 1], 1)
        names = [vocabulary[c] for c in clip]
        reference = np.array([[s.start, s.end] for s in spans])
        single = mir_eval.chord.evaluate(reference, labels, intervals, names)[metric]
        expected.append((single * counted.sum(), counted.sum()))
        if counted.sum():
            assert (comparison * counted).sum() / counted.sum() == pytest.approx(single, abs=1e-12)
    pooled = spread.mean(np.array(expected).sum(0))
    assert hits / seconds == pytest.approx(pooled, abs=1e-12)


def test_overlaps_equal_mir_eval_and_leave_gaps_out():
    spans = [Span(0.2, 0.9, "a"), Span(0.9, 1.5, "b"), Span(2.0, 3.0, "c")]
    row, span, seconds = mir.overlaps(spans, np.array([0.0, 1.0, 2.5]), 1.0)
    assert list(zip(row.tolist(), span.tolist(), seconds.round(9).tolist(), strict=True)) == [
        (0, 0, 0.7),
        (0, 1, 0.1),
        (1, 1, 0.5),
        (2, 2, 0.5),
    ]


def test_weighted_key_counts_fifths_both_ways():
    table = mir.key_table()
    c, g, f, d, am, cm, em = (
        mir.key_index(k) for k in ("C major", "G major", "F major", "D major", "a minor", "C minor", "E minor")
    )
    assert [table[c, k] for k in (c, g, f, d, am, cm, em)] == [1, 0.5, 0.5, 0, 0.3, 0.2, 0]
    assert table[am, em] == table[em, am] == 0.5
    upward = np.array([[mir_eval.key.weighted_score(a, b) for b in mir.KEYS] for a in mir.KEYS])
    assert ((table != upward).sum(), (table - upward).max()) == (24, 0.5)  # one fifth down for each key, nothing else


def test_keys_of_any_spelling():
    assert mir.key_index("Db major") == mir.key_index("C# major") == 1
    assert mir.KEYS[mir.key_index("g# minor")] == "Ab minor"
    assert mir.key_index("C other") == -1
    with pytest.raises(ValueError, match="H"):
        mir.key_index("H major")


def test_tempo_by_hand():
    reference, estimate = np.full(6, 100.0), np.array([104, 105, 200, 50, 33.3, 108])
    assert mir.acc1(reference, estimate).tolist() == [1, 0, 0, 0, 0, 0]
    assert mir.acc2(reference, estimate).tolist() == [1, 0, 1, 1, 1, 0]
    assert mir.p_score(reference, estimate).tolist() == [1, 1, 0, 0, 0, 1]
    assert (mir.p_score(reference, estimate) == mir.near(reference, estimate, mir.P_TOLERANCE)).all()
