"""Agreement between judges: scipy's correlation, its interval, and what cannot be said."""

import numpy as np
import pytest
import scipy.stats

from musae.labels.agreement import REPLICATES, agreement, spearman


def test_rho_is_scipys():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 5, (6, 30)).astype(float)  # with ties
    second = first + rng.normal(0, 2, first.shape)
    expected = [scipy.stats.spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    assert spearman(first, second) == pytest.approx(expected)


def test_judges_that_agree_and_one_that_draws_lots():
    rng = np.random.default_rng(1)
    truth = rng.random(60)
    judges = {"truth": truth, "detection": truth + rng.normal(0, 0.1, 60), "contrary": -truth, "lots": rng.random(60)}
    found = {a.judges: a for a in agreement(judges, np.ones(60, bool), "r")}
    assert len(found) == 6
    near, against, none = (found["truth", name] for name in ("detection", "contrary", "lots"))
    assert 0.8 < near.low < near.rho < near.high <= 1
    assert near.p == pytest.approx(1 / (1 + REPLICATES))
    assert (against.rho, against.low, against.high) == pytest.approx((-1, -1, -1))
    assert none.low < 0 < none.high
    assert none.p > 0.05
    assert found == {a.judges: a for a in agreement(judges, np.ones(60, bool), "r")}


def test_a_null_is_rarely_significant():
    rng = np.random.default_rng(2)
    found = [agreement({"a": rng.random(15), "b": rng.random(15)}, np.ones(15, bool), "r")[0].p for _ in range(100)]
    assert np.mean(np.array(found) < 0.05) < 0.13
    assert 0.35 < np.mean(found) < 0.65


def test_what_is_left_out():
    values = np.arange(20.0)
    one, labelled = values.copy(), np.arange(20) < 15
    one[0] = np.nan
    (found,) = agreement({"a": one, "b": values}, labelled, "r")
    assert (found.n, found.rho) == (14, pytest.approx(1))
    (few,) = agreement({"a": one, "b": values}, labelled & (values > 5), "r")
    assert (few.rho, few.reason) == (None, "both have scored 9 latents, and 10 are needed")
    (flat,) = agreement({"a": np.ones(20), "b": values}, labelled, "r")
    assert (flat.rho, flat.reason) == (None, "a says the same of all 15 latents")
