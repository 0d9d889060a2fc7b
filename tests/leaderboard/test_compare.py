"""Intervals against closed forms, and when two methods are told apart."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from musae.leaderboard.compare import Sample, interval, quantiles, seed_half_width, sign

NOISE = np.random.default_rng(0).standard_normal(1000)


def sample(values: dict[int | None, float], noise: float = 0.01, shared: bool = True) -> Sample:
    """Replicates about the mean of `values`, by the same pieces (`shared`) or by others."""
    draws = NOISE if shared else np.random.default_rng(1).standard_normal(1000)
    return Sample(values, float(np.mean(list(values.values()))) + noise * draws)


def test_seed_interval_is_the_t_interval():
    values = [0.1, 0.3, 0.35]
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    assert seed_half_width(values) == pytest.approx((high - low) / 2, rel=1e-12)
    assert seed_half_width([0.1]) is None


def test_combined_interval_adds_in_quadrature():
    one = interval(sample({0: 0.5}))
    assert one.pieces is not None
    assert (one.low, one.high) == pytest.approx(one.pieces)
    assert one.seeds is None
    two = interval(sample({0: 0.4, 1: 0.6}))
    assert two.pieces is not None
    assert two.seeds is not None
    assert two.high == pytest.approx(0.5 + math.hypot(two.seeds, two.pieces[1] - 0.5))


def test_undefined_replicates_are_left_out():
    assert quantiles(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert quantiles(np.array([np.nan])) is None
    assert sign(Sample({0: 1.0}, np.array([np.nan])), Sample({0: 0.0}, np.array([np.nan]))) == 0


def test_pairing_by_pieces_tells_apart_what_overlaps():
    a, b = sample({None: 0.505}, noise=0.1), sample({None: 0.5}, noise=0.1)
    assert interval(a).low < interval(b).value
    assert sign(a, b) == 1
    assert sign(b, a) == -1
    assert sign(a, sample({None: 0.5}, noise=0.1, shared=False)) == 0


def test_the_sign_must_hold_for_every_seed():
    assert sign(sample({0: 0.60, 1: 0.62, 2: 0.61}), sample({0: 0.5, 1: 0.5, 2: 0.5})) == 1
    assert sign(sample({0: 0.70, 1: 0.70, 2: 0.49}), sample({0: 0.5, 1: 0.5, 2: 0.5})) == 0


def test_seeds_are_paired_where_both_have_the_same():
    a, b = {0: 0.60, 1: 0.80}, {0: 0.50, 1: 0.70}
    assert sign(sample(a), sample(b)) == 1, "0.60 of seed 0 is not held against 0.70 of seed 1"
    assert sign(sample(a), sample({None: 0.65})) == 0, "a method without seeds meets every seed"
    assert sign(sample(a), sample({3: 0.50, 4: 0.70})) == 0, "other seeds: every pair"


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=4), st.lists(st.floats(-1, 1), min_size=2, max_size=4))
def test_sign_is_antisymmetric(x, y):
    a, b = sample(dict(enumerate(x))), sample(dict(enumerate(y)), shared=False)
    assert sign(a, b) == -sign(b, a)
