"""Accuracies of estimators on cases worked by hand, and against mir_eval's own evaluation."""

import itertools
from dataclasses import replace

import mir_eval
import numpy as np
import pytest

from musae.corpora.track import Annotations, Span
from musae.scores import spread
from musae.scores.estimates import METRICS, Heard, accuracies
from musae.scores.score import PERMUTED

NOTHING = Annotations()


def scored(concept, truth, estimates, seconds=10.0, groups=None):
    """Metric -> value, and metric -> null."""
    groups = np.arange(len(truth)) if groups is None else np.array(groups)
    plan = spread.resampling_plan("r", int(groups.max()) + 1, 200)
    scores = accuracies(concept, Heard(truth, estimates, [seconds] * len(truth), groups, plan))
    assert {score.metric for score in scores} == set(METRICS[concept])
    return {s.metric: s.value for s in scores if not s.control}, {s.metric: s.value for s in scores if s.control == PERMUTED}


def key(label, seconds=10.0):
    return Annotations(keys=(Span(0.0, seconds, label),))


def test_keys():
    truth = [key("C major"), key("C major"), key("F# minor"), key("A minor"), NOTHING, key("C major", 7.9)]
    guess = [key("C major"), key("F major"), key("Gb minor"), NOTHING, key("C major"), key("C major")]
    values, _ = scored("key", truth, guess)
    assert values["weighted_key"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)  # a fifth down counts half; the last two have no key
    assert values["key_accuracy"] == pytest.approx(2 / 4)


def test_the_null_gives_each_clip_another_pieces_estimate():
    """Of three keys a fifth apart: C and G are a fifth apart, as are G and D; C and D share nothing."""
    truth = [key("C major"), key("G major"), key("D major")]
    values, null = scored("key", truth, truth)
    assert values == {"weighted_key": 1.0, "key_accuracy": 1.0}
    assert null["weighted_key"] == pytest.approx((0.5 + 0 + 0.5 + 0.5 + 0 + 0.5) / 6)
    assert null["key_accuracy"] == 0.0


def test_one_piece_has_no_null():
    _, null = scored("key", [key("C major")] * 2, [key("C major")] * 2, groups=[0, 0])
    assert null == {}


def test_chords_as_mir_eval_evaluates_them():
    """Estimates with a gap, one before the first and one beyond the last of the reference's chords."""
    rng = np.random.default_rng(0)
    names = ["C:maj", "A:min7", "G:7", "N", "F:maj/3", "D:min", "B:dim", "X"]

    def track(borders):
        return tuple(Span(a, b, names[rng.integers(len(names))]) for a, b in itertools.pairwise(borders))

    truth, guess = track([0, 1.5, 2.25, 4, 7, 10]), track([0.5, 1, 3, 5, 6.5, 9])
    guess = guess[:2] + guess[3:]
    values, _ = scored("chords", [Annotations(chords=truth)], [Annotations(chords=guess)])
    intervals, labels = (
        [np.array([[s.start, s.end] for s in spans]) for spans in (truth, guess)],
        [[s.label for s in spans] for spans in (truth, guess)],
    )
    expected = mir_eval.chord.evaluate(intervals[0], labels[0], intervals[1], labels[1])
    assert values["wcsr_root"] == pytest.approx(expected["root"])
    assert values["wcsr_majmin"] == pytest.approx(expected["majmin"])


def test_tempo():
    truth = [Annotations(tempo=t) for t in (100.0, 100.0, 60.0, 90.0)] + [NOTHING]
    guess = [Annotations(tempo=t) for t in (103.0, 200.0, 64.0)] + [NOTHING, Annotations(tempo=90.0)]
    values, _ = scored("tempo", truth, guess)
    assert values == pytest.approx({"acc1": 1 / 4, "acc2": 2 / 4, "p_score": 2 / 4})  # 64 is within 8 % of 60, not within 4 %


def test_beats_of_the_first_seconds_count():
    """Two of four beats are within 70 ms, and two of three estimates are: F = 2 * 2 / (4 + 3)."""
    truth = [Annotations(beats=(0.5, 1.0, 1.5, 2.0)), Annotations(beats=(1.0,))]
    guess = [Annotations(beats=(0.56, 1.08, 1.45)), NOTHING]
    values, _ = scored("beats", truth, guess)
    assert values["beat_f"] == pytest.approx(4 / 7)  # one beat alone is not counted
    assert scored("beats", truth, [NOTHING, NOTHING])[0]["beat_f"] == 0.0


def test_families():
    """piano: found in one of two clips and once too often, F = 1/2; reed: never found; organ sounds nowhere."""

    def play(*families):
        return Annotations(instruments=frozenset(families))

    truth = [play("piano"), play("piano", "reed"), play("reed")]
    guess = [play("piano"), play("organ"), play("piano")]
    assert scored("instruments", truth, guess)[0]["macro_f1"] == pytest.approx((0.5 + 0.0) / 2)
    truth[2] = replace(truth[2], unobserved=frozenset({"piano"}))  # so that the guess of one is not wrong
    assert scored("instruments", truth, guess)[0]["macro_f1"] == pytest.approx((2 / 3 + 0.0) / 2)


def test_intervals_are_of_pieces():
    """Forty clips of two pieces, one all right and one all wrong: the interval spans everything."""
    truth = [key("C major")] * 40
    guess = [key("C major")] * 20 + [key("F# major")] * 20
    groups = np.repeat([0, 1], 20)
    [score] = [
        s
        for s in accuracies("key", Heard(truth, guess, [10.0] * 40, groups, spread.resampling_plan("r", 2)))
        if s.metric == "key_accuracy" and not s.control
    ]
    assert (score.value, score.low, score.high, score.pieces) == (0.5, 0.0, 1.0, 2)


def test_what_no_clip_is_labelled_for_is_unscored():
    truth = [key("C major", 5.0)] * 3  # half of a clip
    [first, *_] = accuracies("key", Heard(truth, truth, [10.0] * 3, np.arange(3), spread.resampling_plan("r", 3)))
    assert first.value is None
    assert first.reason
