"""Planted data, the comparison on them and its arithmetic; with toy contestants, so no other library is needed.

Every training is a process of its own, which imports PyTorch: nine of them take a quarter of a minute together.
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import scipy.stats
from click.testing import CliRunner

from musae.bench.planted import cells, comparison, contestants, data, report, tuning
from musae.bench.planted.cells import Result
from musae.bench.planted.comparison import Comparison, Entry
from musae.bench.planted.contestants import Contestant
from musae.bench.planted.data import Planted, Source
from musae.bench.planted.tuning import Choice
from musae.bench.rows import document, read
from musae.cli.bench_planted_command import command
from musae.errors import UserError

SMALL = Planted(atoms=64, d=32, l0=4, shift=4, group=4, correlation=0.5)
ROWS = 3 * 16_384
TINY = Planted(atoms=8, d=16, l0=2, shift=4, group=2, snr_db=100, frames=256, heldout=512)
PYTHONS = {True: Path(sys.executable), False: Path(sys.executable)}
TOY = """
import numpy as np
import torch

DISTRIBUTION = "numpy"


class Contestant:
    def __init__(self, method, size, settings):
        print("chatter")
        self.settings, self.seed = settings, size["seed"]
        if settings.get("fails_on") == self.seed:
            raise RuntimeError("no luck\\ntoday")

    def fit(self, frames, batch):
        generator = torch.Generator().manual_seed(self.seed)
        atoms = torch.randn(self.settings["width"], frames.shape[1], generator=generator)
        if "atoms" in self.settings:
            atoms = torch.from_numpy(np.load(self.settings["atoms"])).flip(0)
        self.atoms = atoms * self.settings.get("scale", 1.0)
        self.inverse = torch.linalg.pinv(self.atoms)

    def decoder(self):
        return self.atoms, torch.zeros(self.atoms.shape[1])

    def encode(self, x):
        code = x @ self.inverse
        return code * (code > 1e-2)

    def reconstruct(self, x):
        return self.encode(x) @ self.atoms + self.settings.get("shift", 0.0)
"""


@pytest.fixture(scope="module")
def drawn():
    source = Source(SMALL, 3)
    chunks = list(source.chunks(ROWS, "test"))
    x, codes = np.concatenate([x for x, _ in chunks]), scipy.sparse.vstack([codes for _, codes in chunks], "csr")
    return source, x, codes


def test_rates_follow_zipf_and_mandelbrot(drawn):
    _, _, codes = drawn
    rates = (codes > 0).sum(0) / ROWS
    assert SMALL.rates().sum() == pytest.approx(SMALL.l0)
    assert rates == pytest.approx(SMALL.rates(), abs=4 * 0.5 / ROWS**0.5)
    slope, *_ = scipy.stats.linregress(np.log(np.arange(1, 65) + SMALL.shift), np.log(rates))
    assert slope == pytest.approx(-SMALL.exponent, abs=0.03)
    assert np.diff(codes.indptr).mean() == pytest.approx(SMALL.l0, rel=0.02)


def test_the_published_problem_is_what_the_issue_asks_for():
    of = Planted()
    assert (of.atoms, of.d, of.frames, of.k) == (1024, 256, 2**20, 16)
    assert of.rates().max() == pytest.approx(0.25, abs=0.01)
    assert of.rates().min() * of.heldout > 100


def test_atoms_of_a_group_fire_together_as_the_copula_says(drawn):
    source, _, codes = drawn
    fires = (codes > 0).toarray()
    groups = source.groups
    assert np.bincount(groups).tolist() == [4] * 16
    i = 0
    j = int(np.flatnonzero(groups == groups[i])[1])
    quantiles = scipy.stats.norm.ppf(SMALL.rates()[[i, j]])
    both = scipy.stats.multivariate_normal.cdf(quantiles, cov=[[1, SMALL.correlation], [SMALL.correlation, 1]])
    assert (fires[:, i] & fires[:, j]).mean() == pytest.approx(both, rel=0.1)
    assert both > 1.5 * SMALL.rates()[i] * SMALL.rates()[j]
    other = int(np.flatnonzero(groups != groups[i])[0])
    assert (fires[:, i] & fires[:, other]).mean() == pytest.approx(SMALL.rates()[i] * SMALL.rates()[other], rel=0.1)


def test_magnitudes_are_lognormal_with_mean_one(drawn):
    *_, codes = drawn
    assert codes.data.min() > 0
    assert codes.data.mean() == pytest.approx(1, abs=0.01)
    assert np.log(codes.data).std() == pytest.approx(SMALL.spread, abs=0.01)


def test_noise_is_as_loud_as_stated_and_bounds_the_fvu(drawn):
    source, x, codes = drawn
    signal = codes @ source.atoms
    noise = x - signal
    assert 10 * np.log10(signal.var(0).sum() / noise.var(0).sum()) == pytest.approx(SMALL.snr_db, abs=0.1)
    assert np.abs(noise.mean(0)).max() < 5 * source.noise / ROWS**0.5
    floor = 1 / (1 + 10 ** (SMALL.snr_db / 10))
    assert cells.scores.fvu(x, codes, source.atoms, np.zeros(32)) == pytest.approx(floor, rel=0.02)


def test_atoms_are_unit_vectors_of_their_seed(drawn):
    source, *_ = drawn
    assert np.linalg.norm(source.atoms, axis=1) == pytest.approx(np.ones(64), abs=1e-6)
    assert (Source(SMALL, 3).atoms == source.atoms).all()
    assert np.abs(Source(SMALL, 4).atoms - source.atoms).max() > 0.1


def test_streams_differ_by_purpose_and_seed_alone():
    one = data.stream("train", 0).standard_normal(4)
    assert (data.stream("train", 0).standard_normal(4) == one).all()
    assert (data.stream("heldout", 0).standard_normal(4) != one).all()
    assert (data.stream("train", 1).standard_normal(4) != one).all()


def test_files_are_written_once_and_a_killed_writer_goes_on(tmp_path):
    folder = data.write(tmp_path, TINY, 0)
    train, heldout = np.load(folder / "train.npy"), np.load(folder / "heldout.npy")
    assert (train.shape, train.dtype, heldout.shape) == ((256, 16), np.float32, (512, 16))
    assert np.abs(train - heldout[:256]).max() > 0.1
    codes = scipy.sparse.load_npz(folder / "codes.npz")
    assert codes @ np.load(folder / "atoms.npy") == pytest.approx(heldout, abs=1e-3)  # at 100 dB there is hardly any noise
    before = (folder / "train.npy").stat().st_mtime_ns
    assert data.write(tmp_path, TINY, 0) == folder
    assert (folder / "train.npy").stat().st_mtime_ns == before
    (folder / "codes.npz").unlink()  # as if it had been killed
    data.write(tmp_path, TINY, 0)
    assert (np.load(folder / "train.npy") == train).all()
    assert data.write(tmp_path, dataclasses.replace(TINY, snr_db=10), 0) != folder


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("toy") / "toy.py"
    path.write_text(TOY)

    @dataclasses.dataclass(frozen=True)
    class Toy(Contestant):
        @property
        def file(self):
            return path

    return Toy


def compare(root, entered, seeds=(0, 1), shown=None):
    made = Comparison(root, TINY, seeds, PYTHONS, lambda *what: None if shown is None else shown.append(what))
    return made, made.run(entered)


@pytest.fixture(scope="module")
def compared(toy, tmp_path_factory):
    """A comparison of three toys, one of which fails with the second seed; and what it was made of."""
    root = tmp_path_factory.mktemp("compared")
    truth = data.write(root / "data", TINY, 0) / "atoms.npy"
    entered = [
        toy("toy", "knows", {"width": 8, "atoms": str(truth), "scale": 2.0}),
        toy("toy", "guesses", {"width": 8}),
        toy("toy", "unlucky", {"width": 8, "fails_on": 1001}),
    ]
    shown = []
    made, entries = compare(root, entered, shown=shown)
    return root, entered, made, entries, shown


def test_who_knows_the_atoms_scores_one_and_who_guesses_does_not(compared):
    *_, entries, shown = compared
    knows, guesses = entries
    first = knows.results[0]
    assert first.mcc == pytest.approx(1, abs=1e-5)
    assert first.f1 > 0.99
    assert first.fvu < 1e-3
    assert first.l0 == pytest.approx(TINY.l0, rel=0.15)
    assert first.dead == 0
    assert knows.results[1].mcc < 0.9  # the atoms of seed 0 are not those of seed 1
    assert guesses.results[0].mcc < 0.8
    assert [result.seed for result in guesses.results] == [0, 1]
    assert first.packages.keys() == {"python", "torch", "numpy"}
    assert first.cpu_s >= 0
    assert ("toy/knows", 2, 2) in shown


def test_a_contestant_that_fails_is_left_out_with_a_sentence(compared):
    _, _, made, entries, _ = compared
    assert [entry.contestant.method for entry in entries] == ["knows", "guesses"]
    assert made.failed == ["toy/unlucky: cannot learn here: RuntimeError: no luck"]


def test_a_method_that_is_not_there_is_left_out(tmp_path):
    made, entries = compare(tmp_path, [Contestant("musae", "topkk")])
    assert entries == []
    assert made.failed[0].startswith("musae/topkk: no methods named 'topkk'; did you mean")


def test_finished_cells_are_read_and_not_computed(compared, monkeypatch):
    root, entered, _, entries, _ = compared
    monkeypatch.setattr(comparison, "Process", None)
    _, again = compare(root, entered[:2])
    assert again == entries


def test_a_killed_comparison_goes_on_with_what_is_missing(compared, monkeypatch):
    root, entered, _, entries, _ = compared
    (cell,) = root.glob("cells/toy-guesses-s1-*.json")
    text = cell.read_text()
    cell.unlink()
    started = []
    process = comparison.Process
    monkeypatch.setattr(comparison, "Process", lambda name, *rest, **more: started.append(name) or process(name, *rest, **more))
    _, again = compare(root, entered[:2])
    assert started == ["toy/guesses"]
    assert again[1].results[1].cosines == entries[1].results[1].cosines
    cell.write_text(text)
    assert not list(root.glob("cells/*.npz"))


def test_a_damaged_cell_is_one_sentence(tmp_path):
    path = tmp_path / "cell.json"
    assert Result.load(path) is None
    for text in ("", "[]", '{"contestant": "toy"}'):
        path.write_text(text)
        with pytest.raises(UserError, match="delete it to compute it again"):
            Result.load(path)


def test_a_reconstruction_that_is_not_the_codes_is_refused(toy, tmp_path):
    made, entries = compare(tmp_path, [toy("toy", "shifts", {"width": 8, "shift": 1.0})])
    assert entries == []
    assert "its own reconstruction differs from code @ W_dec + b_dec" in made.failed[0]


def test_a_key_depends_on_all_that_a_cell_depends_on(toy, tmp_path):
    one = toy("toy", "a", {"width": 8})
    size = {"d": 16, "seed": 1000}
    key = cells.key(one, "data", size, {"lr": 1}, "environment")
    assert key == cells.key(one, "data", size, {"lr": 1}, "environment")
    others = [
        cells.key(toy("toy", "b", {"width": 8}), "data", size, {"lr": 1}, "environment"),
        cells.key(one, "other", size, {"lr": 1}, "environment"),
        cells.key(one, "data", {**size, "seed": 1001}, {"lr": 1}, "environment"),
        cells.key(one, "data", size, {"lr": 2}, "environment"),
        cells.key(one, "data", size, {"lr": 1}, "another"),
    ]
    text = one.file.read_text()
    one.file.write_text('"""What it is."""\n# and why\n' + text)
    assert cells.key(one, "data", size, {"lr": 1}, "environment") == key
    one.file.write_text(text.replace("1e-2", "2e-2"))
    others.append(cells.key(one, "data", size, {"lr": 1}, "environment"))
    one.file.write_text(text)
    assert len({key, *others}) == 7


def test_the_code_of_a_method_is_all_that_it_imports():
    reached = {path.name for path in cells._reached("musae.methods.frozen_decoder")}
    assert {"frozen_decoder.py", "topk.py", "training.py", "dictionary.py", "kernels.cpp"} <= reached
    assert not {"pca.py", "workspace.py"} & reached


def result(seed=0, mcc=0.5, l0=16.0, cosines=(), f1s=(), settings=None):
    return Result("toy/a", seed, 1, settings or {}, mcc, 0.5, 0.2, l0, 0.0, list(cosines), list(f1s), 2.0, 1.0, {"torch": "2"})


def test_the_learning_rate_with_the_highest_mcc_is_chosen():
    one = Contestant("toy", "a", {"x": 1}, rates=(1e-4, 1e-3, 1e-2))
    asked = []

    def train(settings):
        asked.append(settings)
        return result(mcc={1e-4: 0.2, 1e-3: 0.9, 1e-2: 0.4}[settings["lr"]], settings=settings)

    assert tuning.choose(one, 16, train) == Choice({"x": 1, "lr": 1e-3}, 3)
    assert len(asked) == 3
    assert tuning.choose(Contestant("musae", "topk"), 16, None) == Choice({}, 0)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("start", [0.01, 0.1, 1.0])
def test_the_coefficient_is_sought_that_brings_l0_to_k(power, start):
    def train(settings):
        return result(l0=16 * (0.1 / settings["penalty"]) ** power, settings=settings)

    found = tuning.search("penalty", start, 16, {"lr": 1e-3}, train)
    assert len(found) <= tuning.TRIES
    nearest = min(abs(np.log(one.l0 / 16)) for one in found)
    assert nearest <= np.log(1 + tuning.NEAR) + 0.1  # the law is a straight line in logarithms: interpolation hits it
    one = Contestant("toy", "a", rates=(1e-3,), penalty="penalty", start=start)
    choice = tuning.choose(one, 16, train)
    assert choice.settings["penalty"] == pytest.approx(0.1, rel=0.15)
    assert choice.tried == len(found)


def entry(library, method, cosines, f1s, **more):
    found = [result(seed, float(np.mean(c)), cosines=c, f1s=f) for seed, (c, f) in enumerate(zip(cosines, f1s, strict=True))]
    return Entry(Contestant(library, method, **more), Choice({"lr": 5e-3} if more else {}, 3 if more else 0), found)


@pytest.fixture
def worked():
    """Two seeds, four atoms. musae is .1 and .2 above the peer in MCC, with every atom; in F1 it is .1 below with every atom."""
    peer_c, peer_f = [[0.5, 0.6, 0.7, 0.8]] * 2, [[0.5, 0.5, 0.5, 0.5]] * 2
    own_c = [[0.6, 0.7, 0.8, 0.9], [0.7, 0.8, 0.9, 1.0]]
    return [
        entry("musae", "topk", own_c, [[0.4] * 4] * 2),
        entry("musae", "random", [[0.2] * 4] * 2, [[0.0] * 4] * 2),
        entry("peer", "topk", peer_c, peer_f, rates=(5e-3,)),
        entry("peer", "gated", peer_c, peer_f, rates=(5e-3,)),
    ]


def test_differences_by_hand(worked):
    own, _, peer, _ = worked
    mcc = report.difference(own, peer, "mcc")
    assert mcc.value == pytest.approx(0.15)
    assert mcc.atoms == pytest.approx((0.15, 0.15))  # every atom differs alike
    # t(.975, 1) = 12.706, standard error .05
    assert mcc.seeds == pytest.approx((0.15 - 12.706 * 0.05, 0.15 + 12.706 * 0.05), abs=1e-3)
    assert not mcc.below
    f1 = report.difference(own, peer, "f1")
    assert f1.value == pytest.approx(-0.1)
    assert f1.below
    assert report.difference(peer, own, "mcc").below


def test_the_interval_over_atoms_is_that_of_a_mean(worked):
    random = np.random.default_rng(0)
    values = random.normal(0.01, 0.1, 1000)
    one, two = entry("musae", "a", [values + 0.5], [values]), entry("peer", "a", [np.full(1000, 0.5)], [np.zeros(1000)])
    found = report.difference(one, two, "mcc")
    reach = 1.96 * values.std() / 1000**0.5
    assert found.atoms == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.1 * reach)
    assert found.seeds is None


def test_seeds_must_agree(worked):
    own, *_ = worked
    other = entry("peer", "topk", [[0.5] * 4], [[0.5] * 4])
    with pytest.raises(ValueError):
        report.difference(own, other, "mcc")
    moved = Entry(own.contestant, own.choice, own.results[::-1])
    with pytest.raises(ValueError, match="do not have the same seeds"):
        report.difference(own, moved, "mcc")


def test_peers_meet_their_method_and_controls_meet_topk(worked):
    names = [(a.contestant.name, b.contestant.name) for a, b in report.pairs(worked)]
    assert names == [("musae/topk", "peer/topk"), ("musae/topk", "musae/random")]


def test_rows_by_hand(worked, tmp_path):
    made = document("planted", report.rows(worked, SMALL), device="test", threads=1, seconds=1)
    (row,) = made.find(subject="musae", variant="topk", metric="mcc", seed=1)
    assert row.value == pytest.approx(0.85)
    means = [row for row in made.find(subject="musae", variant="topk", metric="mcc") if "seed" not in row.case]
    assert [row.value for row in means] == [pytest.approx(0.8)]
    assert means[0].rounds == 2
    over = {row.case["over"]: row for row in made.find(metric="f1_difference", against="peer/topk")}
    assert over["atoms"].high == pytest.approx(-0.1)
    assert over["seeds"].low == pytest.approx(-0.1)
    assert {row.case["lr"] for row in made.find(subject="peer", variant="topk", metric="fvu")} == {"0.005"}
    assert [row.value for row in made.find(subject="peer", variant="topk", metric="settings_tried")] == [3]
    assert not made.find(subject="musae", metric="settings_tried")
    assert read(made.write(tmp_path / "rows.json")) == made


def test_the_table_shows_everybody_and_the_verdict(worked):
    text = report.markdown(worked, SMALL)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[:2] for line in lines[2:6]] == [
        ["| topk", "musae"], ["| topk", "peer"], ["| random", "musae"], ["| gated", "peer"],
    ]  # fmt: skip
    assert "+0.150 [+0.150, +0.150]" in lines[3]
    assert lines[3].endswith("| below in F1 |")
    assert text.splitlines()[-1].endswith(": peer/topk lr 0.005 (3); peer/gated lr 0.005 (3).")
    assert lines[-1].startswith("| random | +0.600 [+0.500, +0.700]")
    assert "SNR 15 dB (least FVU 0.031)" in text


def test_without_the_peers_environment_one_sentence_names_the_target(tmp_path):
    found = CliRunner().invoke(command, ["--environment", str(tmp_path / "none")])
    assert isinstance(found.exception, UserError)
    assert "`make peers` makes it" in str(found.exception)


def test_a_method_that_takes_no_part_is_named():
    found = CliRunner().invoke(command, ["--method", "temporal"])
    assert isinstance(found.exception, UserError)
    assert str(found.exception).startswith("--method temporal: it takes no part in this bench; choose among topk,")


def test_the_command_runs_and_publishes(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "Planted", lambda: TINY)
    own = toy("musae", "topk", {"width": 8})
    monkeypatch.setattr(contestants, "Contestant", lambda library, name: dataclasses.replace(own, method=name))
    monkeypatch.setattr(cells, "_reached", lambda module: set())
    monkeypatch.setenv("MUSAE_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(command, ["--method", "random", "--method", "topk", "--no-peers", "--seeds", "1", "--publish"])
    assert found.exit_code == 0, found.output
    assert "| topk | musae |" in found.stdout
    (published,) = (tmp_path / "results" / "bench" / "planted").iterdir()
    rows = read(published)
    assert rows == read(tmp_path / "runs" / "bench" / "planted-rows.json")
    assert rows.bench == "planted"
    assert len(rows.find(metric="mcc_difference", against="musae/random")) == 2
    assert json.dumps(rows.find(variant="topk")[0].case)


def test_every_contestant_has_its_file_and_its_method():
    for peer in contestants.PEERS:
        assert peer.file.is_file()
        assert peer.method in contestants.METHODS
    assert len({peer.name for peer in contestants.PEERS}) == len(contestants.PEERS)
    assert {peer.method for peer in contestants.PEERS} == set(contestants.METHODS)
