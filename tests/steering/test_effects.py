"""Paired effects, their intervals and Holm's correction, against known answers."""

import numpy as np
import pytest

from musae.steering import effects


def test_shift_is_paired_over_seeds_and_leaves_out_what_is_unknown():
    steered = np.array([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan]])
    plain = np.array([[0.5, 1.0, 0.0], [0.5, 1.0, 0.0]])
    assert effects.shift(steered, plain, 1)[:2].tolist() == [1.5, 1.0]
    assert effects.shift(steered, plain, -1)[:2].tolist() == [-1.5, -1.0]
    assert np.isnan(effects.shift(steered, plain, 1)[2])


def test_the_interval_is_that_of_the_mean():
    shifts = np.random.default_rng(0).normal(1.0, 2.0, 400)
    found = effects.effect(shifts)
    assert found.value == pytest.approx(shifts.mean())
    half = 1.96 * shifts.std() / 20
    assert (found.low, found.high) == pytest.approx((shifts.mean() - half, shifts.mean() + half), abs=0.03)
    assert found.p < 0.001


def test_directions_are_resampled_with_pieces():
    """Between directions the null varies by 1, within them not at all: only resampling directions can show it."""
    shifts, null = np.zeros(50), np.repeat(np.random.default_rng(1).normal(0, 1, (16, 1)), 50, axis=1)
    found = effects.beyond(shifts, null)
    assert found.value == pytest.approx(-null.mean())
    assert (found.high - found.low) == pytest.approx(2 * 1.96 * null[:, 0].std() / 4, rel=0.1)


def test_under_the_null_the_p_value_is_small_as_often_as_it_says():
    rng = np.random.default_rng(2)
    small = np.mean([effects.beyond(rng.normal(size=30), rng.normal(size=(8, 30)), i).p < 0.05 for i in range(300)])
    assert 0.01 < small < 0.11


def test_nothing_known_is_no_effect():
    found = effects.beyond(np.array([np.nan, np.nan]), np.zeros((2, 2)))
    assert (found.pieces, found.p) == (0, 1.0)


def test_holm_against_a_worked_example():
    assert effects.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert effects.holm([0.9, 0.8]) == [1.0, 1.0]
    assert effects.holm([]) == []
