"""Statistics of interleaved rounds, worked by hand; the limit's formulas; the data that benches train on."""

import math

import numpy as np
import pytest
import torch

from musae.bench import limits, rounds, workloads
from musae.kernels.op import Shape

CRITICAL = {6: 0, 7: 2, 8: 3, 9: 5, 10: 8, 12: 13, 15: 25, 20: 52}
"""Two-sided 5 % critical values of Wilcoxon's signed-rank test, from any table."""


def test_every_contestant_starts_a_round():
    assert [rounds.rotation("ABC", r) for r in range(4)] == [list("ABC"), list("BCA"), list("CAB"), list("ABC")]
    assert rounds.rotation([], 3) == []


@pytest.mark.parametrize("n", CRITICAL)
def test_signed_rank_cut_is_the_table_s(n):
    assert rounds.signed_rank_cut(n) == CRITICAL[n] + 1


@pytest.mark.parametrize(("n", "cut"), [(5, 0), (6, 1), (8, 1), (9, 2), (12, 3), (20, 6)])
def test_sign_cut_is_the_binomial_s(n, cut):
    assert rounds.sign_cut(n) == cut


@pytest.mark.parametrize("n", [1, 5])
def test_too_few_rounds_have_no_interval(n):
    found = rounds.ratio([2.0] * n, [1.0] * n)
    assert (found.value, found.low, found.high, found.rounds) == (2.0, None, None, n)
    assert rounds.median([1.0] * n).low is None


def test_ratio_by_hand():
    """Log ratios 0, 1, 3 (base 2); Walsh averages 0, 0.5, 1, 1.5, 2, 3; their median 1.25."""
    assert rounds.ratio([1.0, 4.0, 8.0], [1.0, 2.0, 1.0]).value == pytest.approx(2**1.25)


def test_interval_by_hand():
    """Six rounds: the outermost Walsh averages are the smallest and the largest ratio. Nine: the sixth from either end."""
    six = rounds.ratio([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], [1.0] * 6)
    assert (six.low, six.high) == (pytest.approx(1.0), pytest.approx(32.0))
    nine = rounds.ratio([2.0**i for i in range(9)], [1.0] * 9)
    # averages (i + j) / 2 from below: 0, .5, 1, 1, 1.5, 1.5, ...
    assert math.log2(nine.low) == pytest.approx(1.5)
    assert math.log2(nine.high) == pytest.approx(8 - 1.5)
    assert nine.value == pytest.approx(16.0)


def test_ratio_turns_over_and_scales():
    generator = np.random.default_rng(0)
    a, b = generator.lognormal(size=9), generator.lognormal(size=9)
    one, other = rounds.ratio(list(a), list(b)), rounds.ratio(list(3 * b), list(a))
    assert other.value == pytest.approx(3 / one.value)
    assert (other.low, other.high) == (pytest.approx(3 / one.high), pytest.approx(3 / one.low))


def test_intervals_cover_what_they_should():
    """A ratio of 2 under noise with heavy tails, 600 times: coverage 96.1 % by theory, 0.8 % standard error."""
    generator = np.random.default_rng(1)
    covered = [0, 0]
    for _ in range(600):
        noise = np.exp(0.2 * generator.standard_t(3, size=9))
        paired, single = rounds.ratio(list(2 * noise), [1.0] * 9), rounds.median(list(2 * noise))
        covered[0] += paired.low <= 2 <= paired.high
        covered[1] += single.low <= 2 <= single.high
    assert all(0.935 < hits / 600 < 0.985 for hits in covered)


def test_median_by_hand():
    found = rounds.median([9.0, 1.0, 2.0, 8.0, 5.0, 4.0, 6.0, 3.0, 7.0])
    assert (found.value, found.low, found.high, found.rounds) == (5.0, 2.0, 8.0, 9)


@pytest.mark.parametrize(
    "empty", [lambda: rounds.ratio([], []), lambda: rounds.median([]), lambda: rounds.ratio([1.0], [1.0, 2.0])]
)
def test_nothing_to_compare_is_an_error(empty):
    with pytest.raises(ValueError):
        empty()


SMALL = Shape(n=2048, d=256, width=4096, k=32)


def test_limit_by_hand():
    assert limits.flops(SMALL) == 2 * 2048 * 256 * 4096
    # two weights of 1,048,576, biases of 4,096 and 256; with both moments; 4 bytes, read and written
    assert limits.state_bytes(SMALL) == (2 * 1_048_576 + 4096 + 256) * 3 * 4 * 2
    assert limits.encoding_seconds(SMALL, 1e11) == pytest.approx(0.04294967296)
    assert limits.training_seconds(SMALL, 1e11, 1e10) == pytest.approx(0.04294967296 + 0.0050436096)


def test_rates_are_measured_at_every_precision():
    worker = limits.Limits()
    worker.setup({"n": 64, "d": 32, "width": 128}, threads=torch.get_num_threads(), device="cpu")
    rates = worker.measure()
    assert set(rates) == {*limits.PRECISIONS, "pass"}
    assert all(1e6 < rate < 1e16 for rate in rates.values())
    assert sum(t.numel() for t in worker.state) == 3 * (2 * 128 * 32 + 128 + 32)


def test_products_are_what_is_timed():
    x, W = torch.randn(300, 16), torch.randn(5000, 16)
    for rows, part, multiply in limits._ways(x, W):
        assert torch.allclose(multiply(rows, part), rows @ part.T, atol=1e-4)


def test_data_is_centred_scaled_and_not_what_weights_start_as():
    x, atoms = workloads.frames(64, 4000, 8), workloads.initial_atoms(512, 64)
    assert float(x.mean(0).norm()) < 0.05 * 64**0.5
    assert float(x.square().sum(1).mean()) == pytest.approx(64, rel=0.05)
    assert torch.allclose(atoms.norm(dim=1), torch.ones(512))
    planted = torch.nn.functional.normalize(
        torch.randn(512, 64, generator=torch.Generator().manual_seed(workloads.DATA_SEED)), dim=1
    )
    assert float((atoms @ planted.T).max()) < 0.8
    assert torch.equal(x, workloads.frames(64, 4000, 8))


def test_data_is_written_once_for_all_workers(tmp_path):
    size = workloads.Size("tiny", d=8, width=16, k=2, n=32, steps=1, passes=1, check=2)
    workloads.write(tmp_path, size)
    before = (tmp_path / "frames.npy").stat().st_mtime_ns
    workloads.write(tmp_path, size)
    assert (tmp_path / "frames.npy").stat().st_mtime_ns == before
    assert np.load(tmp_path / "frames.npy").shape == ((workloads.BATCHES + 1) * 32, 8)
    assert np.array_equal(np.load(tmp_path / "atoms.npy"), workloads.initial_atoms(16, 8).numpy())
