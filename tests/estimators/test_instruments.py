"""Essentia's classifier of instrument tags. Its models cannot be had here: small graphs stand in for them, and are really run
where Essentia has TensorFlow (the package essentia-tensorflow)."""

import importlib.util

import graphs
import numpy as np
import pytest

from musae import registry
from musae.corpora.instruments import DRUMS, FAMILIES
from musae.errors import UserError
from musae.estimators import essentia_instruments, essentia_package
from musae.estimators.essentia_instruments import FAMILY, GRAPHS, TAGS, VARIABLE, families
from musae.testing_estimators import chords_over_clicks

if importlib.util.find_spec("essentia") is None:
    pytest.skip("Essentia is not installed", allow_module_level=True)
standard = essentia_package.standard()
tensorflow = pytest.mark.skipif(not hasattr(standard, "TensorflowPredict2D"), reason="this Essentia has no TensorFlow")


def test_tags_are_those_of_the_data_set_and_families_are_general_midi():
    assert len(TAGS) == len(set(TAGS)) == 40
    assert list(TAGS) == sorted(TAGS)
    assert set(FAMILY) <= set(TAGS)
    assert set(FAMILY.values()) <= {*FAMILIES, DRUMS}


def test_a_family_sounds_where_one_of_its_tags_reaches_the_threshold():
    activations = np.zeros(40, np.float32)
    for tag, activation in (("rhodes", 0.5), ("cello", 0.49), ("viola", 0.7), ("voice", 0.9)):
        activations[TAGS.index(tag)] = activation
    assert families(activations) == {"piano", "strings"}


def test_no_folder_is_one_sentence(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UserError, match=VARIABLE):
        essentia_instruments.load()


def test_an_essentia_without_tensorflow_says_what_to_install(tmp_path):
    if hasattr(standard, "TensorflowPredict2D"):
        pytest.skip("this Essentia has TensorFlow")
    with pytest.raises(UserError, match="essentia-tensorflow"):
        registry.make("estimators", f"essentia_instruments:{tmp_path}")


@tensorflow
def test_graphs_are_run_and_read(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv(VARIABLE, str(graphs.write(tmp_path, ("piano", "drums", "voice"))))
    made = registry.make("estimators", "essentia_instruments")
    audio = chords_over_clicks(5.0, 16_000)
    assert made.estimate(audio, 16_000).instruments == {"piano", "drums"}
    assert made.estimate(audio[: round(2.1 * 16_000)], 16_000).instruments == {"piano", "drums"}
    assert capfd.readouterr().err == ""
    other = registry.make("estimators", f"essentia_instruments:{graphs.write(tmp_path, ('oboe',))}")
    assert other.estimate(audio, 16_000).instruments == {"reed"}
    assert other.revision != made.revision  # the models are part of it


@tensorflow
@pytest.mark.parametrize("broken", GRAPHS)
def test_a_model_that_is_none_is_one_sentence(tmp_path, broken):
    graphs.write(tmp_path, ())
    (tmp_path / broken).unlink()
    with pytest.raises(UserError, match=f"{broken}: no such file"):
        registry.make("estimators", f"essentia_instruments:{tmp_path}")
    (tmp_path / broken).write_text("no graph")
    with pytest.raises(UserError, match="cannot read a model"):
        registry.make("estimators", f"essentia_instruments:{tmp_path}")
