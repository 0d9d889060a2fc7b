"""The decision on synthetic times, where the truth is known."""

import numpy as np
import pytest

from musae.bench.ci.decide import ALPHA, MARGIN, Decision, decide, effect, holm, p_slower
from musae.bench.ci.pairs import RESTARTS

PAIRS = 6


def times(rng, ratio=1.0, noise=0.03, process=0.005, drift=0.1, heavy=False):
    """Base and new times [restarts, pairs]: a drift that both sides share, a quirk of each process, noise of each sample."""
    shared = 0.01 * np.exp(drift * rng.standard_normal((RESTARTS, 1)))
    sides = []
    for factor in (1.0, ratio):
        draw = rng.standard_t(2, (RESTARTS, PAIRS)) if heavy else rng.standard_normal((RESTARTS, PAIRS))
        sides.append(shared * factor * np.exp(process * rng.standard_normal((RESTARTS, 1)) + noise * draw))
    return sides[0], sides[1]


def verdicts(family):
    return {decision.bench: decision.verdict for decision in decide(family)}


def rate(verdict, repeats=40, **truth):
    """Share of comparisons of eight benches, of which the first has the given truth, in which it gets a verdict."""
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(repeats):
        family = {"first": times(rng, **truth), **{f"other {i}": times(rng) for i in range(7)}}
        found += verdicts(family)["first"] == verdict
    return found / repeats


def test_a_clear_regression_is_slower_and_its_mirror_faster():
    assert rate("slower", ratio=1.10) >= 0.99
    assert rate("faster", ratio=1 / 1.10) >= 0.99


def test_heavy_tails_neither_hide_a_regression_nor_make_one():
    assert rate("slower", ratio=1.10, heavy=True, noise=0.02) >= 0.95
    assert rate("slower", heavy=True) == 0


def test_equal_families_raise_no_alarm():
    rng = np.random.default_rng(3)
    alarms = sum(any(d.fails for d in decide({str(i): times(rng) for i in range(12)})) for _ in range(50))
    assert alarms == 0


def test_quirks_of_processes_are_no_regression():
    """Samples of a process agree with each other far better than processes do, whose ratios vary by 2.8 %."""
    rng = np.random.default_rng(5)
    alarms = sum(
        any(d.fails for d in decide({str(i): times(rng, process=0.02, noise=0.002) for i in range(12)})) for _ in range(50)
    )
    assert alarms <= 1


def test_less_than_the_margin_never_gates_however_sure_it_is():
    rng = np.random.default_rng(1)
    base, head = times(rng, ratio=1 + MARGIN * 0.7, noise=1e-4, process=0)
    decision = decide({"bench": (base, head)})[0]
    assert decision.verdict == "same"
    assert p_slower(base, head, 0.0) < 1e-6


def test_two_restarts_that_disagree_stop_an_alarm():
    rng = np.random.default_rng(2)
    base, head = times(rng, ratio=1.3, noise=0.001)
    head[:2] = base[:2] * 1.01
    assert decide({"bench": (base, head)})[0].verdict == "unclear"
    head[1] = base[1] * 1.3
    assert decide({"bench": (base, head)})[0].verdict == "slower"


def test_the_family_is_corrected_together():
    """What is significant alone is not significant among many: p-values are larger by the number of benches."""
    rng = np.random.default_rng(11)
    doubtful = times(rng, ratio=1.08, noise=0.05)
    alone = decide({"doubtful": doubtful})[0].p
    among = decide({"doubtful": doubtful, **{str(i): times(rng) for i in range(19)}})[0].p
    assert alone is not None
    assert among == pytest.approx(min(1.0, 20 * alone))


def test_the_margin_test_keeps_its_level_at_the_margin():
    """At a true ratio of exactly 1 + MARGIN, with independent samples, 5 % of p-values lie below 0.05."""
    rng = np.random.default_rng(13)
    p = [p_slower(*times(rng, ratio=1 + MARGIN, process=0), MARGIN) for _ in range(1000)]
    assert 0.03 <= np.mean(np.array(p) < 0.05) <= 0.07


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_effects_by_hand():
    base = np.full((3, 2), 2.0)
    head = np.array([[2.2, 2.2], [2.0, 2.0], [2.4, 2.4]])
    found = effect(base, head)
    assert (found.ratio, found.low, found.high) == pytest.approx((1.1, 1.0, 1.2))
    assert found.delta == pytest.approx(2 / 3)


def test_a_level_is_stated_and_verdicts_that_fail_are_two():
    assert ALPHA == 0.01
    failing = {
        v for v in ("slower", "faster", "same", "unclear", "broken", "new", "gone", "unmeasured") if Decision("b", v).fails
    }
    assert failing == {"slower", "broken"}


@pytest.mark.parametrize("bad", [np.zeros((6, 6)), np.full((6, 6), np.nan), np.ones(6), np.ones((6, 5))])
def test_times_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="times must be"):
        decide({"bench": (np.ones((6, 6)), bad)})
