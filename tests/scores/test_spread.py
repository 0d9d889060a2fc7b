"""Error bars against brute-force resampling and hand-worked numbers."""

import numpy as np
import pytest

from musae.scores import spread


def test_plan_is_fixed_by_the_revision():
    plan = spread.resampling_plan("abc", 30, 200)
    assert plan.shape == (200, 30)
    assert (plan.sum(1) == 30).all()
    assert (plan == spread.resampling_plan("abc", 30, 200)).all()
    assert (plan != spread.resampling_plan("abd", 30, 200)).any()
    assert plan.var() == pytest.approx(1 - 1 / 30, rel=0.05)  # multinomial: n p (1 - p)


def test_piece_sums_by_hand():
    sums = spread.piece_sums(np.array([[1, 10], [2, 20], [4, 40]]), np.array([2, 0, 2]), 4)
    assert sums.tolist() == [[2, 20], [0, 0], [5, 50], [0, 0]]


def test_estimate_equals_resampling_the_rows_themselves():
    rng = np.random.default_rng(0)
    groups, values, weights = rng.integers(0, 12, 200), rng.random(200), rng.random(200)
    plan = spread.resampling_plan("rows", 12, 50)
    score = spread.estimate(
        "m", spread.piece_sums(np.stack([values * weights, weights], 1), groups, 12), spread.mean, plan, keep=True
    )
    brute = []
    for counts in plan.astype(int):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in range(12) for _ in range(counts[g])])
        brute.append(np.average(values[rows], weights=weights[rows]))
    assert score.value == pytest.approx(np.average(values, weights=weights), abs=1e-12)
    np.testing.assert_allclose(score.replicates, brute, rtol=1e-6)
    assert (score.low, score.high) == pytest.approx(tuple(np.percentile(brute, (2.5, 97.5))), abs=1e-12)


def test_interval_has_about_the_width_of_theory():
    values = np.random.default_rng(1).normal(0, 1, 400)
    sums = np.stack([values, np.ones(400)], 1)
    score = spread.estimate("mean", sums, spread.mean, spread.resampling_plan("theory", 400))
    assert score.high - score.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_undefined_is_unscored_and_undefined_replicates_are_left_out():
    plan = spread.resampling_plan("few", 3, 100)
    nothing = spread.estimate("m", np.zeros((3, 2)), spread.mean, plan, truth="exact")
    assert nothing.value is None
    assert "denominator" in nothing.reason
    assert nothing.truth == "exact"
    once = spread.estimate("m", np.array([[1.0, 2.0], [0, 0], [0, 0]]), spread.mean, plan, keep=True)
    assert (once.value, once.low, once.high) == (0.5, 0.5, 0.5)
    assert np.isnan(once.replicates).sum() == (plan[:, 0] == 0).sum() > 0


def test_centred_replicates_keep_their_spread():
    values = np.array([0.0, 1.0, 2.0, 3.0, 6.0])
    plain, centred = (spread.summarise("m", values, keep=True, centre=c) for c in (False, True))
    np.testing.assert_allclose(centred.replicates, plain.replicates - 3)
    assert centred.low < centred.value < centred.high


def test_nanmean_ignores_nan_and_is_nan_where_all_is():
    assert spread.nanmean(np.array([[1, np.nan, 3], [np.nan] * 3])).tolist()[0] == 2
    assert np.isnan(spread.nanmean(np.array([[np.nan, np.nan]]))[0])
