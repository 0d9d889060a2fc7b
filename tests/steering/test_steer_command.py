"""`musae steer` as users call it, on a toy generator and a toy corpus."""

import json
import sys
from pathlib import Path

import pytest
import soundfile
import steered_toy
import torch
from click.testing import CliRunner

from musae import registry
from musae.card import SuiteCard
from musae.cli import main
from musae.dictionary import TensorFrames
from musae.methods.random import Random
from musae.steering.report import Report

SUITE = SuiteCard(
    name="steered",
    summary="for tests",
    generator="steered_toy",
    layer=1,
    width=16,
    k=4,
    methods=("random",),
    baselines=(),
    tasks=("sparsity",),
    corpora=("levels",),
    seeds=(0,),
    training_frames=1000,
    clip_seconds=2.0,
    clips={"levels": 12},
    replicates=100,
)
QUICK = ("--prompts", 6, "--seeds", 1, "--candidates", 2, "--random", 2, "--strength", 1)
QUICK += ("--seconds", 1, "--prompt-seconds", 0.4, "--wavs", 1)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A suite, a generator and a corpus that are registered; a dictionary; a cache of its own."""
    import musae.suites

    for module in ("musae.steering.lessons", "musae.activations.tokens"):  # not MUSAE_CACHE, where compiled kernels are
        monkeypatch.setattr(f"{module}.cache_root", lambda: tmp_path / "cache")
    (tmp_path / "suites").mkdir()
    arguments = ", ".join(f"{name}={value!r}" for name, value in SUITE.model_dump().items())
    (tmp_path / "suites" / "steered.py").write_text(f"from musae.card import SuiteCard\n\nCARD = SuiteCard({arguments})\n")
    musae.suites.__path__.append(str(tmp_path / "suites"))
    levels = type(sys)("steered_levels")
    levels.CARD, levels.load = steered_toy.Levels.card, steered_toy.Levels
    monkeypatch.setitem(sys.modules, "steered_levels", levels)
    generator = registry.Entry("generators", "steered_toy", "steered_toy", steered_toy.CARD)
    corpus = registry.Entry("corpora", "levels", "steered_levels", steered_toy.Levels.card)
    with registry.provided(generator), registry.provided(corpus):
        codes = torch.randint(0, 16, (40, 2, 50), generator=torch.Generator().manual_seed(3))
        made = Random(width=16, k=4).fit(TensorFrames(steered_toy.Toy().stream(codes, (1,))[1].flatten(0, 1)))
        made.tensors["W_enc"][5], made.tensors["b_enc"][5] = 0.0, -1.0
        made.trained |= {"generator": f"steered_toy@{steered_toy.Toy.revision}", "layer": 1}
        made.save(tmp_path / "made.safetensors")
        yield tmp_path
    musae.suites.__path__.remove(str(tmp_path / "suites"))


def steer(place, *arguments):
    fixed = ("--suite", "steered", "--root", place / "runs", "--out", place / "out", *QUICK)
    return CliRunner().invoke(main, ["steer", *map(str, (place / "made.safetensors", *fixed, *arguments))])


def test_writes_wavs_a_sheet_and_scores_and_goes_on_where_it_was(place):
    first = steer(place, "--concept", "register high", "--concept", "instrument")
    assert first.exit_code == 0, first.output
    report = Report.model_validate_json((place / "out" / "scores.json").read_text())
    assert [found.concept for found in report.concepts] == ["instrument organ", "register high"]
    assert "AUROC on held-out clips, rendered: mean 1.00" in report.ears["instrument"]
    assert "codec" in report.ears["instrument"]
    for found in report.concepts:
        assert found.concept in first.stdout
        assert found.verdict in ("effect", "no effect", "spoilt")
        folder = place / "out" / found.concept.replace(" ", "-")
        audio, rate = soundfile.read(folder / "steered-1.wav")
        assert (rate, len(audio)) == (4000, round(1.4 * 4000))
        assert {path.stem for path in folder.iterdir()} >= {"unsteered-1", "steered-1", "reversed-1", "random-1", "probe-1"}
    assert (place / "out" / "sheet.png").read_bytes().startswith(b"\x89PNG")
    kept = {path: path.stat().st_mtime_ns for path in (place / "out" / "continuations").iterdir()}
    again = steer(place, "--concept", "register high", "--concept", "instrument")
    assert kept == {path: path.stat().st_mtime_ns for path in (place / "out" / "continuations").iterdir()}
    assert json.loads((place / "out" / "scores.json").read_text())["concepts"] == report.model_dump(mode="json")["concepts"]
    assert again.stdout == first.stdout


def test_bad_input_is_one_sentence(place):
    def refused(*arguments):
        result = steer(place, *arguments)
        assert result.exit_code == 2, result.output
        [line] = [line for line in result.stderr.splitlines() if line.startswith("error:")]
        return line

    assert "did you mean 'register high'?" in refused("--concept", "register hihg")
    assert "known kinds: instrument, register" in refused("--concept", "swing")
    assert "--latent 5: never fires" in refused("--concept", "register high", "--latent", 5)
    assert "latent 99: this random dictionary has latents 0 to 15" in refused("--concept", "register", "--latent", 99)
    assert "--prompts 40 wants 80 held-out pieces" in refused("--concept", "register", "--prompts", 40)
    made = Random(width=16, k=4)
    made.tensors = {"W_enc": torch.ones(16, 8), "b_enc": torch.zeros(16), "W_dec": torch.ones(16, 8), "b_dec": torch.zeros(8)}
    made.trained = {"generator": "nano@0000000000", "layer": 1}
    made.save(place / "made.safetensors")
    assert "was trained on generator nano@0000000000" in refused()


def test_help_teaches():
    text = CliRunner().invoke(main, ["steer", "--help"]).output
    assert "musae steer mine.safetensors --concept register" in text


def test_the_papers_rule_where_clap_is_given(place):
    pytest.importorskip("transformers")
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import random_clap

    folder = random_clap.save(place / "clap")
    result = steer(place, "--concept", "register high", "--prompts", 2, "--clap", folder)
    assert result.exit_code == 0, result.output
    report = Report.model_validate_json((place / "out" / "scores.json").read_text())
    [found] = report.concepts
    assert report.clap
    assert 0 <= found.paper_rule.success <= 1
    assert found.paper_rule.strength == pytest.approx(found.strength / found.alpha)
    assert "alpha 1 against 0" in result.stdout
    refused = steer(place, "--clap", place / "nothing")
    assert refused.exit_code == 2
    assert "is no folder" in refused.stderr
