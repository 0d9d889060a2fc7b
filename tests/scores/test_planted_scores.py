"""Scores against a known dictionary, on numbers worked out by hand."""

import itertools

import numpy as np
import pytest
import scipy.sparse

from musae.scores import planted


def csr(rows):
    return scipy.sparse.csr_array(np.array(rows, np.float32))


def test_the_assignment_is_the_best_one_and_not_greedy():
    # Cosines with the atoms (1, 0) and (0, 1): the first learnt one has (.8, .6), the second (.6, .8) turned to (1, 0)'s side.
    atoms = np.eye(2)
    learnt = np.array([[0.8, 0.6], [0.96, 0.28]])
    found, cosines = planted.match(atoms, learnt)
    # greedy: atom 0 takes .96, atom 1 is left .6 (sum 1.56); the other way .8 + .28 = 1.08
    assert found.tolist() == [1, 0]
    assert cosines == pytest.approx([0.96, 0.6])
    # now the greedy choice, .96 first, is not the best
    learnt = np.array([[0.96, 0.28, 0, 0], [0.95, 0, 0.3122499, 0]])
    atoms = np.array([[1.0, 0, 0, 0], [0.8, 0.6, 0, 0]])
    # atom 1 with learnt 0: .768 + .168 = .936; with learnt 1: .76. Sums: .96 + .76 = 1.72, .95 + .936 = 1.886
    found, cosines = planted.match(atoms, learnt)
    assert found.tolist() == [1, 0]
    assert cosines == pytest.approx([0.95, 0.936], abs=1e-6)


def test_sign_and_length_of_an_atom_do_not_matter():
    atoms = np.eye(3)
    found, cosines = planted.match(atoms, np.array([[0, 0, -5.0], [0.1, 0, 0], [0, 2, 0]]))
    assert found.tolist() == [1, 2, 0]
    assert cosines == pytest.approx([1, 1, 1])
    assert cosines.max() <= 1


def test_too_few_atoms_and_atoms_of_length_zero_score_nothing():
    atoms = np.eye(3)
    found, cosines = planted.match(atoms, np.array([[0, 1.0, 0], [0, 0, 0]]))
    assert cosines == pytest.approx([0, 1, 0])
    assert found[1] == 0
    assert sorted(found) == [-1, 0, 1]
    f1 = planted.firing_f1(csr(np.eye(3)), csr([[0, 0], [1, 0], [0, 0]]), found)
    assert f1 == pytest.approx([0, 1, 0])


def test_more_learnt_atoms_than_true_ones_leave_some_over():
    atoms = np.eye(2)
    found, cosines = planted.match(atoms, np.array([[0.6, 0.8], [1, 0], [0, 1.0]]))
    assert found.tolist() == [1, 2]
    assert cosines.mean() == pytest.approx(1)


def test_the_assignment_agrees_with_all_permutations():
    random = np.random.default_rng(0)
    atoms, learnt = random.standard_normal((5, 3)), random.standard_normal((5, 3))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (atoms, learnt)]
    cosines = np.abs(unit[0] @ unit[1].T)
    best = max(sum(cosines[i, p[i]] for i in range(5)) for p in itertools.permutations(range(5)))
    assert planted.match(atoms, learnt)[1].sum() == pytest.approx(best)


def test_f1_by_hand():
    # Four frames. Atom 0 fires in 0, 1, 2; its match (latent 1) in 1, 2, 3: two hits, 2 * 2 / (3 + 3).
    # Atom 1 fires in 3; its match (latent 0) never. Atom 2 never fires, its match in frame 0.
    truth = csr([[1, 0, 0], [2, 0, 0], [3, 0, 0], [0, 1, 0]])
    code = csr([[0, 0, 9], [0, 1, 0], [0, 0.1, 0], [0, 5, 0]])
    f1 = planted.firing_f1(truth, code, np.array([1, 0, 2]))
    assert f1 == pytest.approx([2 / 3, 0, 0])


def test_firing_means_above_zero_and_silence_on_both_sides_says_nothing():
    truth = csr([[1, 0], [0, 0]])
    code = csr([[1, 0], [-1, 0]])
    f1 = planted.firing_f1(truth, code, np.array([0, 1]))
    assert f1[0] == 1
    assert np.isnan(f1[1])


def test_fvu_l0_and_dead_share_by_hand():
    x = np.array([[2.0, 0], [0, 2], [2, 2], [0, 0]])
    code = csr([[1, 0, 0], [0, 2, 0], [1, 2, 0], [0, 0, 0]])
    learnt = np.array([[2.0, 0], [0, 0.5], [7, 7]])
    # variance: each column is +-1 about its mean, 8 in all; error: (0, 1) twice, 2 in all
    assert planted.fvu(x, code, learnt, np.zeros(2)) == pytest.approx(2 / 8)
    assert planted.fvu(x, csr(np.zeros((4, 3))), learnt, x.mean(0)) == pytest.approx(1)
    assert planted.l0(code) == 1
    assert planted.dead(code) == pytest.approx(1 / 3)


def test_stored_zeros_do_not_fire():
    code = scipy.sparse.csr_array((np.array([0.0, 3.0]), np.array([0, 1]), np.array([0, 2])), shape=(1, 2))
    assert planted.l0(code) == 1
    assert planted.dead(code) == 0.5
