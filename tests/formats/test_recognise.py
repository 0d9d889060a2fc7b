"""Which format a path is, hub ids, unknown files; and that nothing is taken for something else."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants, errors
from safetensors.torch import save_file

import musae
from musae.errors import UserError
from musae.formats import recognise
from musae.methods.imported import Imported
from musae.methods.pca import Pca

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def pca() -> Pca:
    """A dictionary of musae's own, whose codes are signed."""
    dictionary = Pca(width=4, k=2)
    dictionary.tensors = {"W_dec": torch.eye(4), "b_dec": torch.zeros(4)}
    return dictionary


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("saelens-topk", "sae_weights.safetensors"),
        ("sparsify-topk", "sae.safetensors"),
        ("dictionary_learning-topk", "ae.pt"),
        ("gemma_scope-jumprelu", "params.npz"),
        ("overcomplete-topk", "sae.pt"),
    ],
)
def test_a_folder_and_its_file_of_weights_are_the_same(name, file):
    folder = recognise.load(GOLDEN / name)
    assert isinstance(folder, Imported)
    assert recognise.load(GOLDEN / name / file).content_hash == folder.content_hash
    assert folder.library == name.split("-")[0]


def test_what_is_understood_is_said():
    text = recognise.describe(musae.load(GOLDEN / "saelens-topk-rescaled-scaled"))
    assert "saelens 6.54.0, architecture topk, read as topk" in text
    assert "d = 16, width = 40, k: 4 a frame" in text
    assert "frames times 0.37 (expected_average_only_in), folded in" in text
    assert "gpt2-small blocks.4.hook_resid_post" in text
    text = recognise.describe(musae.load(GOLDEN / "saelens-matryoshka"))
    assert "matryoshka_batchtopk saved as jumprelu" in text
    assert "k: 4 on average" in text
    assert "k: not held" in recognise.describe(musae.load(GOLDEN / "saelens-jumprelu"))


def test_musaes_own_files_and_folders_are_loaded_as_before(pca, tmp_path):
    pca.trained = {"generator": "nano@1", "layer": 5}
    path = pca.save(tmp_path / "own" / "mine.safetensors")
    for place in (path, path.parent, tmp_path):
        loaded = musae.load(place) if place != tmp_path else musae.load(path)
        assert isinstance(loaded, Pca)
        assert loaded.content_hash == pca.content_hash
    assert "musae, method pca" in recognise.describe(loaded)
    assert "nano@1 layer 5" in recognise.describe(loaded)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match="not a saved dictionary, or damaged"):
        musae.load(path)


def test_one_checkpoint_further_down_is_found_and_several_are_listed(tmp_path):
    shutil.copytree(GOLDEN / "sparsify-topk", tmp_path / "run" / "layers.5")
    assert recognise.load(tmp_path / "run").trained["title"] == "run/layers.5"
    assert recognise.load(tmp_path).trained["site"] == "layers.5"
    shutil.copytree(GOLDEN / "sparsify-topk", tmp_path / "run" / "layers.10")
    with pytest.raises(UserError, match=r"holds 2 checkpoints, layers\.10, layers\.5; give one"):
        recognise.load(tmp_path / "run")


def test_a_folder_of_two_formats_is_not_guessed(tmp_path):
    for name in ("sparsify-topk", "saelens-topk"):
        shutil.copytree(GOLDEN / name, tmp_path / "both", dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"may be saelens .* or sparsify .*; give the file of weights"):
        recognise.load(tmp_path / "both")


def test_unknown_safetensors_are_listed_with_the_adapters_place(tmp_path):
    """Two branches, as of a dictionary whose parts read different streams."""
    tensors = {f"{branch}.{part}": torch.ones(3, 2) for branch in ("coarse", "fine") for part in ("encoder", "decoder")}
    save_file(tensors, tmp_path / "model.safetensors")
    for place in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(UserError) as caught:
            recognise.load(place)
        words = str(caught.value)
        assert "coarse.decoder [3, 2], coarse.encoder [3, 2], fine.decoder [3, 2], fine.encoder [3, 2]" in words
        assert "write an adapter for its library: one file in musae/formats/" in words
    torch.save(tensors, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"fine\.encoder \[3, 2\].*musae/formats/"):
        recognise.load(tmp_path / "model.pt")


@pytest.mark.parametrize("name", ["empty", "notes.txt"])
def test_what_is_no_checkpoint_says_what_would_be(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"saelens: cfg\.json and sae_weights\.safetensors"):
        recognise.load(tmp_path / name)


def test_names_with_control_characters_never_reach_a_terminal(copy):
    spoilt = copy("saelens-topk")
    folder = spoilt.set({"metadata.hook_name": "\x1b[31mred\nline"})
    assert "\x1b" not in recognise.describe(recognise.read(folder))
    with pytest.raises(UserError) as caught:
        recognise.read(spoilt.set({"architecture": "\x1b[31m"}))
    assert "\x1b" not in str(caught.value)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A local cache as `huggingface_hub` lays it out, links to blobs included, and no network."""
    repository = tmp_path / "hub" / "models--org--repo"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "blobs").mkdir()
    for name, folder in (("sparsify-topk", "layers.5"), ("gemma_scope-jumprelu", "layer_20/width_16k/average_l0_7")):
        place = repository / "snapshots" / "abc" / folder
        place.mkdir(parents=True)
        for file in (GOLDEN / name).iterdir():
            blob = repository / "blobs" / f"{name}-{file.stem}"
            shutil.copy(file, blob)
            (place / file.name).symlink_to(blob)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return repository


def test_hub_ids_name_a_folder_or_a_file(hub):
    dictionary = recognise.load("org/repo/layers.5")
    assert dictionary.library == "sparsify"
    assert dictionary.trained["title"] == "org/repo/layers.5"
    assert recognise.load("org/repo/layers.5/sae.safetensors").content_hash == dictionary.content_hash
    scope = recognise.load("org/repo/layer_20/width_16k/average_l0_7")
    assert (scope.library, scope.k, scope.budget) == ("gemma_scope", 7, "mean")
    assert scope.trained["site"] == "layer_20/width_16k/average_l0_7"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/repo", "holds no checkpoint there"),
        ("org/repo/layers.6", "holds no checkpoint there"),
        ("org/other/layers.5", "the hub cannot be reached"),
        ("org/repo/../../etc", "no '..'"),
        ("org/repo//layers.5", "no empty parts"),
        ("org", "no such file or folder, and no hub id"),
        ("/org/repo", "no such file or folder"),
    ],
)
def test_hub_ids_that_lead_nowhere(hub, name, expected):
    with pytest.raises(UserError) as caught:
        recognise.load(name)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_the_files_of_a_checkpoint_are_asked_for(monkeypatch):
    asked = {}

    def snapshot(repository, **options):
        asked.update(repository=repository, **options)
        raise errors.OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(UserError, match="cannot be reached"):
        recognise.load("org/repo/a/b")
    assert asked["repository"] == "org/repo"
    assert "a/b/cfg.json" in asked["allow_patterns"]
    assert all(pattern.startswith("a/b/") and "*" not in pattern for pattern in asked["allow_patterns"])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (errors.GatedRepoError, "grant access by request"),
        (errors.RepositoryNotFoundError, "no such repository on the hub"),
        (errors.HfHubHTTPError, "the hub cannot be reached"),
        (errors.LocalEntryNotFoundError, "the hub cannot be reached"),
        (RuntimeError, "the hub cannot be reached"),
    ],
)
def test_what_the_hub_answers_is_one_sentence(monkeypatch, kind, expected):
    def fail(*_, **__):
        raise (
            kind("first line\nsecond", response=response)
            if issubclass(kind, errors.HfHubHTTPError)
            else kind("first line\nsecond")
        )

    response = SimpleNamespace(headers={}, request=None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError) as caught:
        recognise.load("org/repo/layers.5")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_configuration_names_no_paths(copy, tmp_path):
    """Whatever a configuration says, nothing outside of its folder is read."""
    spoilt = copy("saelens-topk")
    (tmp_path / "secret.json").write_text(json.dumps({"scaling_factor": 3}))
    folder = spoilt.set({"weights": "../secret.json", "metadata.hook_name": "../../secret"})
    assert recognise.read(folder).content_hash == recognise.read(GOLDEN / "saelens-topk").content_hash
