"""The best single latent against a search by brute force, and what it must never do."""

import numpy as np
import pytest
import scipy.sparse

from musae.scores import latents
from musae.scores.spread import resampling_plan


def f1(truth, fired):
    return 2 * (truth & fired).sum() / (truth.sum() + fired.sum())


def code(n=400, features=15, seed=0):
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.normal(-0.5, 1, (n, features)), 0).astype(np.float32)
    classes = rng.random((n, 3)) < 0.3
    x[:, 4] *= classes[:, 1]
    return x, np.arange(n) % 5, classes


def test_sparse_detectors_equal_brute_force():
    x, folds, classes = code()
    found = latents.best_latents(scipy.sparse.csr_array(x), folds, classes)
    for fold in range(5):
        train, test, reference = folds != fold, folds == fold, folds == int(fold == 0)
        for c in range(3):
            best = (-1.0, 0, 0.0)
            for f in range(x.shape[1]):
                stored = np.sort(x[reference, f][x[reference, f] > 0])
                places = len(stored) * np.arange(1, latents.THRESHOLDS) // latents.THRESHOLDS
                for threshold in (0.0, *stored[places]):
                    best = max(best, (f1(classes[train, c], x[train, f] > threshold), -f, -threshold))
            f, threshold = -best[1], -best[2]
            assert found.latent[fold, c] == f
            np.testing.assert_array_equal(found.values[test, c], x[test, f])
            np.testing.assert_array_equal(found.fired[test, c], x[test, f] > threshold)
    assert (found.latent[:, 1] == 4).all()


def test_silence_of_a_sparse_code_is_no_detection_but_low_values_of_a_dense_one_are():
    rng = np.random.default_rng(0)
    absent = rng.random(500) < 0.5
    x = ((1 - absent) * rng.uniform(0.5, 1, 500)).astype(np.float32)[:, None]
    folds = np.arange(500) % 5
    sparse, dense = (latents.best_latents(v, folds, absent[:, None]) for v in (scipy.sparse.csr_array(x), x))
    assert f1(absent, dense.fired[:, 0]) > 0.95
    assert not (sparse.fired[:, 0] & (x[:, 0] == 0)).any()


def test_negative_values_are_detectors_of_their_own():
    rng = np.random.default_rng(1)
    on, other = rng.random(500) < 0.3, rng.random(500) < 0.3
    x = scipy.sparse.csr_array((other * 1.0 - (on & ~other) * rng.uniform(1, 2, 500)).astype(np.float32)[:, None])
    found = latents.best_latents(x, np.arange(500) % 5, (on & ~other)[:, None])
    np.testing.assert_array_equal(found.fired[:, 0], on & ~other)


def test_the_scored_fold_is_never_read():
    x, folds, classes = code()
    test = folds == 2
    for features in (x, scipy.sparse.csr_array(x)):
        before = latents.best_latents(features, folds, classes)
        after = latents.best_latents(features, folds, classes ^ test[:, None])
        np.testing.assert_array_equal(before.fired[test], after.fired[test])
        np.testing.assert_array_equal(before.latent[2], after.latent[2])


def test_scores_by_hand():
    """A latent that fires on the class and as often off it: precision 1/2, recall 1."""
    groups = np.repeat(np.arange(10), 4)
    truly, also = np.tile([1, 0, 0, 0], 10), np.tile([1, 1, 0, 0], 10)
    x = scipy.sparse.csr_array(also[:, None].astype(np.float32))
    levels = np.where(groups < 9, "exact", "")
    mixed = np.tile([0, 0, 0, 1], 10)[:, None]
    scores = latents.latent_scores(
        "thing", ["a"], x, truly[:, None], mixed, levels, groups % 5, groups, resampling_plan("hand", 10, 100)
    )
    rows = {(s.metric, s.control, s.label): s for s in scores}
    assert rows["f1_thing", "", ""].value == pytest.approx(2 / 3)
    assert rows["ap_thing", "", ""].value == pytest.approx(1 / 2)
    assert rows["f1_thing", "", "a"].value == pytest.approx(2 / 3)
    assert rows["f1_thing", "chance", ""].value == pytest.approx(2 / 5)
    assert rows["ap_thing", "chance", ""].value == pytest.approx(1 / 4)
    assert rows["f1_thing", "permuted_labels", ""].value == 0
    assert {s.pieces for s in scores} == {9}
    assert {s.truth for s in scores} == {"exact"}


def test_rare_classes_are_unscored_by_name():
    x, _, classes = code()
    classes[:, 2] = False
    classes[:2, 2] = True
    groups = np.arange(400) // 4
    levels = np.full(400, "exact")
    scores = latents.latent_scores(
        "thing", ["a", "b", "c"], x, classes, classes, levels, groups % 5, groups, resampling_plan("rare", 100, 50)
    )
    rare = [s for s in scores if s.label == "c"]
    assert [(s.metric, s.control) for s in rare] == [
        (m, c) for c in ("", "chance", "permuted_labels") for m in ("f1_thing", "ap_thing")
    ]
    assert all(s.value is None and "c holds in fewer" in s.reason for s in rare)


def test_cells_that_are_not_known_do_not_count():
    """In each fold two rows fire, one labelled and one not known, and two do not: F1 is 1, or 2/3 were it absent."""
    x, folds = np.array([[1, 1, 0, 0] * 3], np.float32).T, np.repeat([0, 1, 2], 4)
    classes, seen = np.array([[1, 0, 0, 0] * 3], bool).T, np.array([[1, 0, 1, 1] * 3], bool).T
    levels, plan = np.full(12, "exact"), np.ones((100, 12), np.float32)
    for given, f1 in (((seen, seen), 1), (None, 2 / 3)):
        scores = latents.latent_scores("it", ["a"], x, classes, classes, levels, folds, np.arange(12), plan, given)
        found = {(s.metric, s.control): s.value for s in scores if not s.label}
        assert found["f1_it", ""] == pytest.approx(f1)
        # always firing: 3 positives of the 9 known, or of all 12
        assert found["f1_it", "chance"] == pytest.approx(6 / ((9 if given else 12) + 3))
