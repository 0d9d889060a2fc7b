"""The main job on a small suite: from tokens to the board, through the code that `musae run` calls.

It takes about half a minute: a dictionary is really trained on the shipped generator's activations, and clips are rendered.
"""

import secrets

import pytest

from musae import evaluation, registry
from musae.card import SuiteCard
from musae.errors import UserError
from musae.evaluation import Job, do, is_done, jobs
from musae.leaderboard.board import boards
from musae.results import read_all
from musae.workspace import Workspace

SEED = secrets.randbelow(10**6)
"""Drawn at test time: nothing here may hold for one seed only."""

SUITE = SuiteCard(
    name="small",
    summary="for tests",
    generator="nano",
    layer=5,
    width=512,
    k=16,
    methods=("topk", "random"),
    baselines=("residual",),
    tasks=("reconstruction", "chords"),
    corpora=("procedural",),
    seeds=(SEED,),
    training_frames=131_072,
    clip_seconds=10.24,
    clips={"procedural": 60},
    probe_frames=8_000,
    replicates=200,
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """The small suite, done."""
    space = Workspace(SUITE, tmp_path_factory.mktemp("runs"))
    for job in jobs(SUITE):
        do(space, job)
    return space


def scores(workspace, method):
    """Metric -> value of a method's main scores, probes of all latents."""
    return {
        (m.metric, m.probe_k): m.value
        for file in read_all(workspace.results)
        if file.cell.method == method
        for m in file.measures
        if m.main
    }


def test_trained_topk_beats_random_whatever_the_seed(workspace):
    topk, random = scores(workspace, "topk"), scores(workspace, "random")
    assert topk["fvu", None] < random["fvu", None] - 0.02, f"seed {SEED}"
    assert topk["loss_recovered", None] > random["loss_recovered", None], f"seed {SEED}"
    assert topk["f1_root", None] > random["f1_root", None], f"seed {SEED}"


def test_the_board_separates_them(workspace):
    [board] = boards(read_all(workspace.results))
    [corpus] = board.corpora
    topk, random = (next(c for c in corpus.columns if c.name == name) for name in ("topk", "random"))
    [fvu] = [line for line in corpus.lines if line.metric == "fvu"]
    assert fvu.order(topk, random) == 1


def test_running_again_computes_nothing(workspace):
    before = {path: path.stat().st_mtime_ns for path in workspace.home.rglob("*") if path.is_file()}
    again = Workspace(SUITE, workspace.root)
    assert all(is_done(again, job) for job in jobs(SUITE))
    for job in jobs(SUITE):
        do(again, job)
    assert {path: path.stat().st_mtime_ns for path in workspace.home.rglob("*") if path.is_file()} == before


def test_what_is_lost_is_computed_again_to_the_same_rows(workspace):
    before = {file.cell: file.measures for file in read_all(workspace.results)}
    lost = [path for path in workspace.results.rglob("chords@*.json") if "topk" in str(path)]
    assert lost
    for path in [*lost, *workspace.home.glob("dictionaries/topk-*.safetensors")]:
        path.unlink()
    job = Job("topk", SEED, "procedural")
    again = Workspace(SUITE, workspace.root)
    assert not is_done(again, job)
    do(again, job)
    assert is_done(again, job)
    assert {file.cell: file.measures for file in read_all(workspace.results)} == before


def test_python_gives_the_rows_of_the_command_line(workspace, monkeypatch):
    monkeypatch.setattr(evaluation, "suite_card", lambda name: SUITE)
    rows = evaluation.evaluate(workspace.fit("topk", SEED), suite="small", root=workspace.root)
    assert {row.metric: row.value for row in rows if row.main and row.probe_k is None} == {
        metric: value for (metric, k), value in scores(workspace, "topk").items() if k is None
    }


def test_an_unknown_suite_suggests_the_nearest():
    with pytest.raises(UserError, match="did you mean 'quick'"):
        evaluation.evaluate(None, suite="quik")


def test_heldout_music_is_not_trained_on():
    tokens = registry.load("generators", "nano").training_tokens()
    for index, name in enumerate(tokens.corpora):
        trained = set(tokens.groups[tokens.corpus == index])
        from musae.corpora.track import Split

        heldout = {track.group for track in registry.load("corpora", name).load().tracks(Split.HELDOUT)}
        assert trained
        assert not trained & heldout
