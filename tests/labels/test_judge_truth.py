"""The truth judge: planted labels, shuffled ones, hand-worked numbers, and labels that say nothing."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from musae.labels import descriptors, evidence, explain_statistically, facts
from musae.labels.claims import ABSTENTION, DrumsClaim, KeyClaim, Label, NoneOfThese, RootClaim, TempoClaim
from musae.labels.evidence import Firing
from musae.labels.explain_statistically import describe, explain, holm
from musae.labels.judge_truth import judge, shuffled
from musae.scores.mir import TONICS
from musae.testing_tasks import KEYS, planted_features, synthetic_heldout

LEVEL = "exact"


@pytest.fixture(scope="module")
def data():
    return synthetic_heldout(pieces=150)


def planted(data, claims):
    """Latents that are claims by construction: they fire where the claim holds."""
    at = {}
    for unit in ("frames", "clips"):
        table = facts.facts(data, unit, LEVEL)
        at[unit] = np.stack([table.holds(claim)[0] for claim in claims], 1)
    return Firing(np.arange(len(claims)), at, {u: f.astype(np.float32) for u, f in at.items()}, len(claims))


ROOTS = [RootClaim(root=r) for r in TONICS]
CLAIMS = [*ROOTS, *(KeyClaim(key=k) for k in KEYS)]


def test_planted_labels_are_found_and_true(data):
    firing = planted(data, CLAIMS)
    labels = [e.label for e in explain(firing, data, LEVEL)]
    assert [label.claims for label in labels] == [(claim,) for claim in CLAIMS]
    assert judge(labels, firing, data, LEVEL).youden()[0] >= 0.99


def test_wrong_labels_are_at_chance(data):
    """Root D never sounds where root C does: a latent of C with D's label has the Youden index 0 - P(D | not C).

    Dealt round, each latent has each label once, so the mean over deals would be 0 if no frame were without a chord.
    """
    firing = planted(data, ROOTS)
    labels = [describe([claim], 1) for claim in ROOTS]
    table = facts.facts(data, "frames", LEVEL)
    judging = ~evidence.explaining(data)[evidence.groups(data, "frames")]
    held = np.stack([table.holds(claim)[0] for claim in ROOTS], 1)[judging & table.holds(ROOTS[0])[1]]
    p, n = held.mean(0), len(ROOTS)
    means = []
    for shift in range(n):
        dealt = np.roll(np.arange(n), -shift)
        expected = 1.0 if shift == 0 else float(np.mean(-p[dealt] / (1 - p)))
        found = judge([labels[i] for i in dealt], firing, data, LEVEL).youden()[0]
        assert found == pytest.approx(expected, abs=1e-6)
        means.append(found)
    silent = 1 - p.sum()
    assert abs(np.mean(means)) < silent / (n - 1) + 1e-3
    for deal in shuffled(labels, "r", draws=3):
        assert sorted(map(str, deal)) == sorted(map(str, labels))


def test_by_hand(data):
    """Of the judging frames: where the latent fires C holds at 2 of 4, where it is silent at 1 of 5."""
    firing = planted(data, [ROOTS[0]])
    true, known = facts.facts(data, "frames", LEVEL).holds(ROOTS[0])
    judging = ~evidence.explaining(data)[evidence.groups(data, "frames")] & known
    keep = np.concatenate([np.flatnonzero(judging & true)[:3], np.flatnonzero(judging & ~true)[:6]])
    fires = np.zeros(len(true), bool)
    fires[keep[[0, 1, 3, 4]]] = True
    index = facts.facts(data, "frames", LEVEL).index["chord"].copy()
    index[np.setdiff1d(np.arange(len(index)), keep)] = 0  # not annotated
    table = replace(facts.facts(data, "frames", LEVEL), index={"chord": index})
    other = replace(data)
    other.once(f"facts frames {LEVEL} False", lambda: table)
    verdict = judge([describe([ROOTS[0]], 1)], replace(firing, at={"frames": fires[:, None]}), other, LEVEL)
    assert verdict.hits[0] == pytest.approx([1 / 2])
    assert verdict.false[0] == pytest.approx([1 / 5])
    assert verdict.covered[0] == pytest.approx([2 / 3])
    assert verdict.youden()[0] == pytest.approx(1 / 2 - 1 / 5)


@pytest.mark.parametrize(
    "label",
    [
        ABSTENTION,
        describe([TempoClaim(low=20, high=400)], 1),
        describe([DrumsClaim(drums=False)], 1),  # there are none in this corpus
        describe([DrumsClaim(drums=True)], 1),
        Label(name="", confidence=0, claims=(NoneOfThese(),)),
    ],
)
def test_what_says_nothing_scores_nothing(data, label):
    assert (judge([label], planted(data, [ROOTS[0]]), data, LEVEL).youden() == 0).all()


def test_an_abstention_and_a_vacuous_claim_dilute(data):
    firing = planted(data, [ROOTS[0], ROOTS[1]])
    both = describe([ROOTS[0], TempoClaim(low=20, high=400)], 1)
    assert judge([describe([ROOTS[0]], 1), ABSTENTION], firing, data, LEVEL).youden()[0] == pytest.approx(0.5)
    verdict = judge([both, ABSTENTION], firing, data, LEVEL)
    assert verdict.youden()[0] == pytest.approx(0.25)
    assert verdict.per_label(2) == pytest.approx([0.5, 0])


def test_noise_is_not_explained(data):
    """The family-wise error is 5 % a latent; 40 latents of noise give no more labels than 2 of them on average."""
    rng = np.random.default_rng(0)
    at = {u: rng.random((len(evidence.groups(data, u)), 40)) < 0.1 for u in ("frames", "clips")}
    firing = Firing(np.arange(40), at, {}, 40)
    assert sum(bool(e.label.claims) for e in explain(firing, data, LEVEL)) <= 5


def test_holm_is_what_it_says():
    p = np.array([[0.01, 0.04, np.nan, 0.03]])
    assert holm(p)[0] == pytest.approx([0.03, 0.06, np.nan, 0.06], nan_ok=True)


def test_fisher_is_scipys(data):
    """The tail of the hypergeometric distribution is Fisher's one-sided test."""
    a, b, c, d = 5, 7, 2, 9
    expected = scipy.stats.fisher_exact([[a, b - a], [c, d - c]], alternative="greater").pvalue
    assert scipy.stats.hypergeom.sf(a - 1, b + d, a + c, b) == pytest.approx(expected)


def test_evidence_of_the_two_halves_is_disjoint(data):
    firing = evidence.firing(planted_features(data), data)
    seen = [evidence.evidence(firing, 3, data, descriptors.exact(data, LEVEL), judging) for judging in (False, True)]
    pieces = [{data.groups[e.clip] for part in (s.top, s.random, s.hard, s.near) for e in part} for s in seen]
    assert pieces[0]
    assert pieces[1]
    assert not pieces[0] & pieces[1]
    for s in seen:
        assert all(e.fires for e in s.top)
        assert not any(e.fires for part in (s.random, s.hard, s.near) for e in part)
        assert [e.activation for e in s.top] == sorted((e.activation for e in s.top), reverse=True)


def test_candidates_are_distinct():
    assert len(set(explain_statistically.CANDIDATES)) == len(explain_statistically.CANDIDATES)
