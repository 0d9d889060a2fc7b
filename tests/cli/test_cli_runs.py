"""Commands that compute, end to end on a tiny suite: half a minute, since a generator runs and clips are rendered."""

import json

import pytest
import random_musicgen
import torch
from click.testing import CliRunner
from tiny_suite import TINY

from musae.cli import main
from musae.formats import recognise
from musae.labelling import report
from musae.methods.imported import Imported


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def suite(tmp_path):
    """Makes `tiny` a registered suite: one file in a folder that the package is told of, before its workers start."""
    import musae.suites

    folder = tmp_path / "suites"
    folder.mkdir()
    arguments = ", ".join(f"{name}={value!r}" for name, value in TINY.model_dump().items())
    (folder / "tiny.py").write_text(f"from musae.card import SuiteCard\n\nCARD = SuiteCard({arguments})\n")
    musae.suites.__path__.append(str(folder))
    yield "tiny"
    musae.suites.__path__.remove(str(folder))


def call(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_run_trains_scores_ranks_and_running_again_does_nothing(root, suite, tmp_path):
    first = call("run", "--suite", suite, "--root", str(root), "--published", str(tmp_path))
    assert first.exit_code == 0, first.output
    assert "11 jobs done" in first.stderr
    assert "No published rows" in first.stdout
    assert "topk" in first.stdout
    again = call("run", "--suite", suite, "--root", str(root), "--published", str(tmp_path))
    assert again.exit_code == 0
    assert "nothing to do" in again.stderr
    assert again.stdout == first.stdout


def test_publish_then_compare_then_print(root, suite, tmp_path):
    published = call("publish", "--suite", suite, "--root", str(root), "--to", str(tmp_path / "results"))
    assert published.exit_code == 0, published.output
    assert "new" in published.stdout
    compared = call("run", "--suite", suite, "--root", str(root), "--published", str(tmp_path / "results"))
    assert "0 outside" in compared.stdout
    printed = call("leaderboard", str(tmp_path / "results"), "--format", "csv")
    assert printed.exit_code == 0
    assert printed.stdout.startswith("suite,")
    assert json.loads((tmp_path / "results" / "schema.json").read_text())["$schema"]


def test_train_and_score_one_dictionary(root, suite):
    trained = call("train", "pca", "--seed", "3", "--suite", suite, "--root", str(root))
    assert trained.exit_code == 0, trained.output
    path = trained.stdout.split()[0]
    scored = call("score", path, "--suite", suite, "--root", str(root))
    assert scored.exit_code == 0, scored.output
    assert "pca" in scored.stdout


def test_where_the_suite_was_not_run_published_rows_stand_beside(root, suite, tmp_path, monkeypatch):
    """So that nobody's dictionary stands on a board without controls."""
    call("publish", "--suite", suite, "--root", str(root), "--to", str(tmp_path / "results"))
    trained = call("train", "pca", "--suite", suite, "--root", str(root))
    [own] = root.glob("tiny-v*/results")
    aside = own.rename(tmp_path / "aside")
    try:
        for published, says in (([tmp_path / "results"], "the published rows"), ([], "no rows stand beside it")):
            monkeypatch.setattr("musae.cli.published.checkout_results", lambda found=published: found)
            scored = call("score", trained.stdout.split()[0], "--suite", suite, "--root", str(root))
            assert scored.exit_code == 0, scored.output
            assert says in scored.stderr
            assert ("random" in scored.stdout) == bool(published)
    finally:
        aside.rename(own)


def test_checkpoints_of_another_library_are_scored_and_told_apart(root, suite, tmp_path):
    """Two of the same sizes, written as SAELens writes them: a column each, by the names of their folders."""
    for seed, name in enumerate(("first", "second")):
        imported = Imported(width=64, k=4, rule="topk")
        shapes = {"W_enc": (64, 256), "b_enc": (64,), "W_dec": (64, 256), "b_dec": (256,)}
        draws = torch.Generator().manual_seed(seed)
        imported.tensors = {part: torch.randn(shape, generator=draws) for part, shape in shapes.items()}
        recognise.write(imported, tmp_path / "saes" / name, "saelens")
    for name in ("first", "second"):
        scored = call("score", str(tmp_path / "saes" / name), "--suite", suite, "--root", str(root))
        assert scored.exit_code == 0, scored.output
        assert "saelens 6.0.0, architecture topk, read as topk" in scored.stdout
        assert "d = 256, width = 64, k: 4 a frame" in scored.stdout
    assert scored.stdout.count("saes/") >= 2
    assert "first" in scored.stdout
    assert "second" in scored.stdout


def test_a_store_of_another_layer_is_refused(root, suite):
    made = call("harvest", "nano", "--corpus", "procedural", "--layer", "1", "--clips", "10", "--root", str(root))
    assert made.exit_code == 0, made.output
    folder = made.stdout.split("layer 1: ")[1].split()[0]
    refused = call("train", "pca", "--store", folder, "--suite", suite, "--root", str(root))
    assert refused.exit_code == 2
    assert "layer" in refused.stderr


def test_a_layer_that_is_not_there_is_refused_before_any_work(root):
    refused = call("harvest", "nano", "--layer", "9", "--root", str(root))
    assert refused.exit_code == 2
    assert "layers 0 to 6" in refused.stderr


def test_the_same_command_runs_a_musicgen_on_recordings(root, suite, tmp_path):
    """Exported pieces stand for somebody's recordings, a small random checkpoint for MusicGen."""
    recordings = tmp_path / "recordings"
    for split, count in (("train", "40"), ("heldout", "12")):
        exported = call("corpus", "export", "procedural", str(recordings), "--split", split, "--limit", count, "--seconds", "11")
        assert exported.exit_code == 0, exported.output
    name = f"musicgen:{random_musicgen.save(tmp_path / 'small')}"
    options = ["--suite", suite, "--generator", name, "--layer", "3", "--corpus", f"folder:{recordings}", "--root", str(root)]
    (tmp_path / "none").mkdir()
    ran = call("run", *options, "--published", str(tmp_path / "none"))
    assert ran.exit_code == 0, ran.output
    [results] = root.glob("tiny+small+layer3+folder-recordings-v1-*/results")
    assert list(results.glob("tiny+small+layer3+folder-recordings@1/small@*/layer3/topk-*/folder-recordings@*/sparsity@*.json"))
    published = call("publish", *options, "--to", str(tmp_path / "published"))
    assert published.exit_code == 0, published.output
    empty = call("run", *options[:-4], "--corpus", f"folder:{recordings}", "--layer", "4", "--root", str(root))
    assert (empty.exit_code, "generator 'small' has layers 0 to 3" in empty.stderr) == (2, True)


def test_a_corpus_without_training_pieces_is_named(root, suite, tmp_path):
    call("corpus", "export", "procedural", str(tmp_path / "only"), "--split", "heldout", "--limit", "12", "--seconds", "11")
    name = f"musicgen:{random_musicgen.save(tmp_path / 'small')}"
    ran = call("run", "--suite", suite, "--generator", name, "--corpus", f"folder:{tmp_path / 'only'}", "--root", str(root))
    assert ran.exit_code == 2
    assert "has no training tracks" in ran.stderr


def test_label(root, suite, tmp_path, monkeypatch):
    """Statistical labels of a few latents, and how the score moves with what was chosen; estimates are those of six clips."""
    monkeypatch.setattr("musae.labels.descriptors.cache_root", lambda: tmp_path / "cache")
    pytest.importorskip("essentia")
    path = call("train", "topk", "--suite", suite, "--root", str(root)).stdout.split()[0]
    common = (path, "--suite", suite, "--root", str(root), "--explainer", "tags", "--latents", "8", "--out")
    out = tmp_path / "labels.json"
    first = call("label", *common, str(out))
    assert first.exit_code == 0, first.output
    assert "wrong_latent" in first.stdout
    found = report.read(out)
    assert 0 < len(found.latents) <= 8
    assert {row.control for row in found.scores} >= {"", "shuffled_labels", "wrong_latent", "empty_label", "permuted_labels"}
    assert all(len(one.exemplars) > 0 for one in found.latents)
    assert call("label", *common, str(out)).stdout == first.stdout
    planned = call("label", *common, str(tmp_path / "none.json"), "--dry-run")
    assert "no calls" in planned.stdout
    assert not (tmp_path / "none.json").exists()
    moved = call("label", *common, str(tmp_path / "moved.json"), "--sensitivity")
    assert moved.exit_code == 0, moved.output
    points = json.loads((tmp_path / "moved.json").read_text())["points"]
    assert {(p["explainer"], p["evidence"]) for p in points} == {
        ("statistical", "exact"),
        ("tags", "estimated"),
        ("tags", "exact"),
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--explainer", "txt"), "did you mean 'text'?"),
        (("--explainer", "audio"), "names no provider"),
        (("--explainer", "tags", "--judge", "clap"), "--clap FOLDER go together"),
        (("--explainer", "tags", "--sensitivity", "--dry-run"), "leave one of them out"),
        (("--explainer", "tags", "--max-cost", "3"), "--max-cost needs the model's prices"),
        (("--explainer", "text:endpoint:localhost"), "endpoint"),
    ],
)
def test_label_refuses(arguments, says):
    refused = call("label", "nothing.safetensors", *arguments)
    assert refused.exit_code == 2
    assert says in refused.stderr
