"""Closed-form probes against scikit-learn, fold by fold."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from musae.scores import probe

FOLDS = 5


class Shrunk:
    """scikit-learn's within-class covariance plus a given matrix: the estimator that `probe` documents."""

    def __init__(self, extra):
        self.extra = extra

    def fit(self, x):
        self.covariance_ = np.cov(x.T, bias=True).reshape(x.shape[1], -1) + self.extra
        return self


def rows(n, features, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features)) * rng.uniform(0.1, 10, features) + rng.normal(size=features)
    return x, rng.integers(0, FOLDS, n), rng


def lda(x, labels, ridge):
    """scikit-learn's LDA with ridge * diag(T) added to W."""
    extra = np.diag(x.var(0)) * ridge
    return LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Shrunk(extra)).fit(x, labels)


@pytest.fixture
def one_ridge(monkeypatch):
    monkeypatch.setattr(probe, "RIDGES", (2.0,))


@pytest.mark.parametrize(("n", "features", "tolerance"), [(60, 90, 1e-8), (400, 12, 2e-4)], ids=["wide", "tall"])
@pytest.mark.usefixtures("one_ridge")
def test_classes_equal_scikit_learn(n, features, tolerance):
    x, folds, rng = rows(n, features)
    labels = rng.integers(0, 4, n)
    x[np.arange(n), labels] += 3 * x.std(0)[labels]
    (scores,) = probe.crossfit(x, folds, [probe.Classes(labels, 4)], (None,))
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        expected = lda(x[train], labels[train], 2.0 * features / train.sum()).decision_function(x[test])
        found = scores[None][test]
        differences = found - found[:, :1]
        np.testing.assert_allclose(differences, expected - expected[:, :1], atol=tolerance * np.abs(expected).max(), rtol=1e-4)


@pytest.mark.usefixtures("one_ridge")
def test_rows_outside_the_classes_are_a_class_that_is_never_answered():
    x, folds, rng = rows(300, 8)
    labels = rng.integers(-1, 3, 300)
    (scores,) = probe.crossfit(x, folds, [probe.Classes(labels, 3)], (None,))
    train, test = folds != 0, folds == 0
    expected = lda(x[train], labels[train], 2.0 * 8 / train.sum()).decision_function(x[test])[:, 1:]
    found = scores[None][test]
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], atol=1e-4)


@pytest.mark.parametrize(("n", "features"), [(60, 90), (400, 12)], ids=["wide", "tall"])
@pytest.mark.usefixtures("one_ridge")
def test_tags_equal_scikit_learn(n, features):
    x, folds, rng = rows(n, features)
    tags = rng.random((n, 3)) < 0.4
    x[:, 0] += tags[:, 1] * x[:, 0].std()
    (scores,) = probe.crossfit(x, folds, [probe.Tags(tags)], (None,))
    train, test = folds != 2, folds == 2
    for c in range(3):
        expected = lda(x[train], tags[train, c], 2.0 * features / train.sum()).decision_function(x[test])
        np.testing.assert_allclose(scores[None][test, c], expected, atol=2e-4)


@pytest.mark.parametrize(("n", "features"), [(60, 90), (400, 12)], ids=["wide", "tall"])
@pytest.mark.usefixtures("one_ridge")
def test_values_equal_scikit_learn(n, features):
    x, folds, rng = rows(n, features)
    y = x @ rng.normal(size=features) + rng.normal(size=n)
    (scores,) = probe.crossfit(x, folds, [probe.Values(y)], (None,))
    train, test = folds != 1, folds == 1
    mean, sd = x[train].mean(0), x[train].std(0)
    model = Ridge(alpha=2.0 * features).fit((x[train] - mean) / sd, y[train])
    np.testing.assert_allclose(scores[None][test, 0], model.predict((x[test] - mean) / sd), atol=2e-4 * y.std())


@pytest.mark.parametrize(("n", "features"), [(60, 90), (400, 30)], ids=["wide", "tall"])
def test_k_sparse_probes_read_the_k_most_correlated_features(n, features):
    x, folds, rng = rows(n, features)
    tags = rng.random((n, 2)) < 0.4
    x[:, :6] += tags[:, [0]] * x[:, :6].std(0)
    (scores,) = probe.crossfit(x, folds, [probe.Tags(tags)], (4,))
    train, test = folds != 3, folds == 3
    for c in range(2):
        r = [abs(np.corrcoef(column, tags[train, c])[0, 1]) for column in x[train].T]
        chosen = np.argsort(r)[-4:]
        expected = lda(x[train][:, chosen], tags[train, c], 4 / train.sum()).decision_function(x[test][:, chosen])
        np.testing.assert_allclose(scores[4][test, c], expected, atol=2e-4)


def test_sparse_and_dense_codes_give_the_same():
    x, folds, rng = rows(500, 20)
    x = np.maximum(x, 0).astype(np.float32)
    targets = [probe.Classes(rng.integers(0, 3, 500), 3), probe.Values(rng.normal(size=500))]
    for a, b in zip(probe.crossfit(x, folds, targets), probe.crossfit(scipy.sparse.csr_array(x), folds, targets), strict=True):
        for k in probe.KS:
            np.testing.assert_allclose(a[k], b[k], atol=2e-4)


def test_a_far_origin_and_the_units_change_nothing():
    x, folds, rng = rows(400, 10)
    labels = rng.integers(0, 3, 400)
    plain = probe.crossfit(x, folds, [probe.Classes(labels, 3)])[0]
    moved = probe.crossfit(x * np.logspace(-3, 3, 10) + 1e4, folds, [probe.Classes(labels, 3)])[0]
    for k in probe.KS:
        np.testing.assert_allclose(moved[k], plain[k], atol=5e-3)


def test_dense_features_are_never_copied_in_double():
    """All rows in double would be two more arrays of their size, beside the copy in single precision that is kept."""
    x = np.random.default_rng(0).normal(size=(60_000, 24)).astype(np.float32)
    folds = np.arange(len(x)) % FOLDS
    tracemalloc.start()
    try:
        moments = probe._Moments(x, folds, [probe.Values(x[:, 0].astype(np.float64))])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert moments.parts[0].dtype == np.float32
    assert peak < 1.9 * x.nbytes


def test_the_scored_fold_is_never_read():
    """Changing labels of a fold changes no score on it: neither weights, nor selection, nor ridge have seen them."""
    x, folds, rng = rows(300, 40)
    labels, tags, values = rng.integers(0, 3, 300), rng.random((300, 2)) < 0.5, rng.normal(size=300)
    test = folds == 4

    def scores(flip):
        shuffled = [np.where(test, rng.permutation(labels), labels), tags ^ test[:, None], values + 5 * test]
        a, b, c = shuffled if flip else (labels, tags, values)
        return probe.crossfit(x, folds, [probe.Classes(a, 3), probe.Tags(b), probe.Values(c)])

    for before, after in zip(scores(False), scores(True), strict=True):
        for k in probe.KS:
            np.testing.assert_array_equal(before[k][test], after[k][test])


def test_the_ridge_is_chosen_by_the_inner_fold():
    """A clean line wants the smallest ridge; nothing but noise, more often than not, the largest."""
    folds, chosen = np.arange(100) % FOLDS, []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        clean, noise = rng.normal(size=(100, 3)), rng.normal(size=(100, 300))
        target = [probe.Values(clean @ [1.0, 2.0, 3.0])]
        chosen.append([probe._ridges(probe._Moments(x, folds, target).training([0, 1, 2]), 3)[0] for x in (clean, noise)])
    assert np.median(chosen, axis=0).tolist() == [probe.RIDGES[0], probe.RIDGES[-1]]


def test_dead_features_and_absent_classes_do_no_harm():
    x, folds, rng = rows(200, 6)
    x[:, 2] = 0
    labels = rng.integers(0, 2, 200)
    labels[folds == 0] = 2  # a class that only one fold has: nothing to learn it from there
    (scores,) = probe.crossfit(x, folds, [probe.Classes(labels, 3)])
    for k in probe.KS:
        assert not np.isnan(scores[k]).any()
        assert (scores[k][folds == 0].argmax(1) != 2).all()
