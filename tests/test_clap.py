"""CLAP on small random checkpoints: against transformers' own, and what cannot be read. No published weights are at hand."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, ClapModel

from musae.clap import Clap
from musae.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))
import random_clap
from random_clap import RATE


@pytest.fixture(scope="module", params=[False, True], ids=["unfused", "fused"])
def folder(request, tmp_path_factory):
    return random_clap.save(tmp_path_factory.mktemp("clap"), fusion=request.param)


@pytest.fixture(scope="module")
def clap(folder):
    return Clap.load(folder)


def waves(n, seconds, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    sweep = np.stack([np.sin(2 * np.pi * (200 + 150 * i + 300 * t) * t) for i in range(n)])
    return (0.3 * sweep + rng.normal(0, 0.02, sweep.shape)).astype(np.float32)


def test_a_window_is_embedded_as_transformers_does(clap, folder):
    heard = waves(3, 1.0)
    model = ClapModel.from_pretrained(folder).eval()
    given = clap._extractor(list(heard), sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        expected = model.get_audio_features(given["input_features"].float(), torch.zeros((3, 1), dtype=torch.bool)).pooler_output
    found = clap.audio(heard, RATE)
    assert found == pytest.approx(torch.nn.functional.normalize(expected, dim=1).numpy(), abs=1e-5)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(found[0], found[1], atol=1e-3)


def test_texts_are_embedded_as_transformers_does(clap, folder):
    texts = ["a slow piano", "drums", ""]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), ClapModel.from_pretrained(folder).eval()
    found = clap.text(texts)
    for text, row in zip(texts[:2], found, strict=False):  # alone, without padding
        with torch.inference_mode():
            expected = model.get_text_features(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).pooler_output
        assert row == pytest.approx(torch.nn.functional.normalize(expected, dim=1)[0].numpy(), abs=1e-5)
    assert np.isfinite(found).all()
    assert clap.text(["x" * 5000]) == pytest.approx(clap.text(["x" * 77]), abs=1e-6)


def test_the_same_audio_has_the_same_place(clap):
    """Also where transformers' extractor would cut it at random; and nothing is drawn from numpy's global generator."""
    for seconds in (0.3, 1.0, 1.2, 2.6):
        heard = waves(2, seconds)
        np.random.seed(0)  # noqa: NPY002
        first = clap.audio(heard, RATE)
        np.random.seed(1)  # noqa: NPY002
        assert np.array_equal(first, clap.audio(heard, RATE))
        assert first == pytest.approx(np.concatenate([clap.audio(heard[:1], RATE), clap.audio(heard[1:], RATE)]), abs=1e-5)


def test_long_audio_is_heard_in_even_windows(clap):
    long = waves(1, 3.0)[0]
    parts = clap.audio(long.reshape(3, RATE), RATE).sum(0)
    assert clap.audio(long[None], RATE)[0] == pytest.approx(parts / np.linalg.norm(parts), abs=1e-5)
    middle = long[: int(1.4 * RATE)]
    assert clap.audio([middle], RATE)[0] == pytest.approx(clap.audio([middle[int(0.2 * RATE) :][:RATE]], RATE)[0], abs=1e-5)


def test_other_rates_and_lengths(clap):
    t = np.arange(4 * RATE) / (4 * RATE)
    tone = (0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    assert clap.audio([tone], 4 * RATE)[0] @ clap.audio([tone[::4]], RATE)[0] > 0.99
    mixed = clap.audio([tone[::4], waves(1, 2.0)[0], tone[: RATE // 2]], RATE)
    assert mixed.shape == (3, 24)
    assert clap.audio([], RATE).shape == clap.text([]).shape == (0, 24)


@pytest.mark.parametrize("bad", [np.zeros((2, RATE)), np.zeros(0), np.array([0.0, np.nan])])
def test_what_is_no_audio(clap, bad):
    with pytest.raises(UserError, match=r"CLAP: clip 0 .*give finite mono audio"):
        clap.audio([bad], RATE)


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        Clap.load(tmp_path / "none")
    with pytest.raises(UserError, match=r"has no config.json"):
        Clap.load(tmp_path)
    folder = random_clap.save(tmp_path / "clap")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"model_type": "clap"', '"model_type": "bert"'))
    with pytest.raises(UserError, match="model_type is 'bert'"):
        Clap.load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="transformers cannot read it"):
        Clap.load(folder)
    (folder / "config.json").write_text(config.replace('"projection_dim": 24', '"projection_dim": 20'))
    with pytest.raises(UserError, match=r"another shape than config\.json says"):
        Clap.load(folder)
    (folder / "config.json").write_text(config)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="weights cannot be loaded"):
        Clap.load(folder)
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no \*.safetensors file"):
        Clap.load(folder)


def test_the_revision_is_of_the_weights(tmp_path, clap):
    first, again, other = (Clap.load(random_clap.save(tmp_path / str(n), seed=seed)).revision for n, seed in enumerate((3, 3, 4)))
    assert first == again != other
