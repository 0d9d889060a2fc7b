"""ROC-AUC and average precision against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from musae.scores.ranking import LEVELS, rank_scores
from musae.scores.spread import resampling_plan


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_curves_equal_scikit_learn(ties):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, 100).astype(float) if ties else rng.normal(size=100)
    positive, groups = rng.random(100) < 0.3, rng.integers(0, 20, 100)
    plan = resampling_plan("ranking", 20, 30)
    auc, ap = rank_scores(scores, positive, np.zeros(100, int), groups, plan)
    for r, counts in enumerate(plan):
        assert auc[r] == pytest.approx(roc_auc_score(positive, scores, sample_weight=counts[groups]), abs=1e-9)
        assert ap[r] == pytest.approx(average_precision_score(positive, scores, sample_weight=counts[groups]), abs=1e-9)


def test_folds_are_never_ranked_against_each_other():
    scores = np.array(
        [0.1, 0.9, 10.1, 10.9]
    )  # the second fold's scores are all higher: pooled, its negative would outrank a positive
    positive, folds, groups = np.array([0, 1, 0, 1], bool), np.array([0, 0, 1, 1]), np.arange(4)
    auc, ap = rank_scores(scores, positive, folds, groups, np.ones((1, 4), np.float32))
    assert (auc[0], ap[0]) == (1, 1)


def test_folds_weigh_by_pairs_and_by_positives():
    scores = np.array([3.0, 2, 1, 1, 2])  # fold 0: one positive above two negatives; fold 1: a positive below a negative
    positive, folds = np.array([1, 0, 0, 1, 0], bool), np.array([0, 0, 0, 1, 1])
    auc, ap = rank_scores(scores, positive, folds, np.arange(5), np.ones((1, 5), np.float32))
    assert auc[0] == pytest.approx(2 / 3)
    assert ap[0] == pytest.approx((1 + 1 / 2) / 2)


def test_a_constant_is_at_chance():
    positive = np.arange(40) % 4 == 0
    auc, ap = rank_scores(np.zeros(40), positive, np.arange(40) % 5, np.arange(40), np.ones((1, 40), np.float32))
    assert auc[0] == 0.5
    assert ap[0] == pytest.approx(0.25)


def test_many_levels_are_read_off_at_quantiles():
    rng = np.random.default_rng(1)
    positive = rng.random(5000) < 0.2
    scores = rng.normal(size=5000) + positive
    scores[:2000] = 0  # as in a sparse code, many are equal
    auc, ap = rank_scores(scores, positive, np.zeros(5000, int), np.zeros(5000, int), np.ones((1, 1), np.float32))
    assert len(np.unique(scores)) > LEVELS
    assert auc[0] == pytest.approx(roc_auc_score(positive, scores), abs=2e-3)
    assert ap[0] == pytest.approx(average_precision_score(positive, scores), abs=5e-3)


def test_a_missing_class_is_undefined():
    auc, ap = rank_scores(np.arange(4.0), np.zeros(4, bool), np.zeros(4, int), np.arange(4), np.ones((1, 4), np.float32))
    assert np.isnan(auc[0])
    assert np.isnan(ap[0])
