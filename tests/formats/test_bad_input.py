"""Spoilt checkpoints: each is refused with one sentence that names the file, what is there and what was expected."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musae.errors import UserError
from musae.formats import recognise
from musae.methods.imported import Imported

ones = torch.ones
DECODERS = {
    "saelens-standard": "W_dec",
    "saelens-gated": "W_dec",
    "sparsify-topk": "W_dec",
    "dictionary_learning-topk": "decoder.weight",
    "dictionary_learning-jumprelu": "W_dec",
    "gemma_scope-jumprelu": "W_dec",
    "overcomplete-topk": "dictionary._weights",
}


def refusal(folder) -> str:
    """The sentence with which a folder is refused."""
    with pytest.raises(UserError) as caught:
        recognise.read(folder)
    words = str(caught.value)
    assert "\n" not in words
    assert words.endswith(".")
    return words


def outcome(folder) -> str:
    """The sentence with which a folder is refused, or the library of what was read; nothing else may happen."""
    try:
        read = recognise.read(folder)
    except UserError as error:
        return str(error)
    assert isinstance(read, Imported)
    return read.library


@pytest.mark.parametrize(("name", "decoder"), DECODERS.items())
def test_a_transposed_decoder_is_named(copy, name, decoder):
    spoilt = copy(name)
    tensor = spoilt.read()[decoder]
    words = refusal(spoilt.tensors({decoder: tensor.T.contiguous()}))
    assert f"{list(tensor.T.shape)}, and {list(tensor.shape)} is expected" in words
    assert "transposed" in words
    assert spoilt.weights.name in words


@pytest.mark.parametrize(("name", "decoder"), DECODERS.items())
def test_missing_tensors_wrong_shapes_whole_numbers_and_nan(copy, name, decoder):
    spoilt = copy(name)
    tensor = spoilt.read()[decoder]
    assert decoder in refusal(spoilt.tensors({decoder: None}))
    assert "and [" in refusal(spoilt.tensors({decoder: tensor[:-1].contiguous()}))
    assert "floating-point" in refusal(spoilt.tensors({decoder: tensor.int()}))
    bad = tensor.clone()
    bad[3, 2] = float("nan")
    assert f"{decoder} holds NaN or an infinity, first at [3, 2]" in refusal(spoilt.tensors({decoder: bad}))


@pytest.mark.parametrize(
    ("name", "changed", "expected"),
    [
        # TopK weights under a ReLU configuration, and the other way round
        ("saelens-topk", {"architecture": "standard"}, "k = 4 is set, which only a topk has"),
        ("saelens-standard", {"activation_fn": "topk"}, "'standard' and the activation 'topk'"),
        ("saelens-batchtopk", {"architecture": "standard"}, "training_architecture says 'batchtopk'"),
        ("saelens-gated", {"architecture": "standard"}, "b_gate"),
        ("saelens-standard", {"architecture": "jumprelu"}, "the tensor threshold [F] is missing"),
        ("dictionary_learning-topk", {"trainer.dict_class": "AutoEncoder"}, "a TopKTrainer trains 'AutoEncoderTopK'"),
        (
            "dictionary_learning-topk",
            {"trainer.dict_class": "AutoEncoder", "trainer.trainer_class": ...},
            "holds the tensors of AutoEncoderTopK or BatchTopKSAE",
        ),
        ("dictionary_learning-jumprelu", {"trainer.dict_class": "AutoEncoderNew", "trainer.trainer_class": ""}, "JumpRelu"),
        ("overcomplete-topk", {"class": "SAE"}, "top_k is set, which only a TopKSAE has"),
        ("overcomplete-jumprelu-identity", {"class": "SAE"}, "holds thresholds, which a JumpSAE has"),
        # a missing k, which libraries replace by a default of theirs
        ("saelens-topk", {"k": ...}, "k is missing"),
        ("sparsify-topk", {"k": ...}, "k is missing"),
        ("dictionary_learning-topk", {"trainer.k": ...}, "trainer.k is missing"),
        ("overcomplete-topk", {"top_k": ...}, "top_k is missing"),
        ("overcomplete-batchtopk", {"running_threshold": ...}, "running_threshold is missing"),
        ("dictionary_learning-topk", {"trainer.k": 7}, "k is 4, and config.json says trainer.k = 7"),
        ("saelens-topk", {"k": 41}, "k = 41 must lie between 1 and the number of latents, F = 40"),
        ("saelens-topk", {"k": 2.5}, "k is 2.5, and a whole number above 0 is expected"),
        ("saelens-topk", {"k": True}, "k is true, and a whole number"),
        ("sparsify-topk", {"k": -1}, "k is -1"),
        # normalisation
        ("saelens-standard", {"normalize_activations": "layer_norm"}, "scales each frame by its own norm"),
        ("saelens-standard", {"normalize_activations": "constant_norm_rescale"}, "scales each frame by its own norm"),
        ("saelens-standard", {"normalize_activations": "expected_average_only_in"}, "the norm scale is missing"),
        ("saelens-standard", {"normalize_activations": True}, "expected_average_only_in"),
        ("saelens-standard-scaled", {"normalize_activations": "none"}, "remove the one or correct the other"),
        ("saelens-standard", {"normalize_activations": "covariance_whitening"}, "unfolded"),
        ("saelens-standard", {"normalize_activations": "softmax"}, "none or expected_average_only_in is expected"),
        ("saelens-standard", {"reshape_activations": "hook_z"}, "attention heads"),
        ("overcomplete-topk", {"normalization": "l3"}, 'normalization is "l3"'),
        # other functions
        (
            "saelens-standard",
            {"architecture": "transcoder"},
            "'transcoder' is not read: known are standard, topk, jumprelu, gated",
        ),
        ("saelens-standard", {"architecture": "batchtopk"}, "save_inference_model"),
        ("saelens-topk", {"architecture": "abstopk"}, "signed"),
        ("saelens-topk", {"architecture": ...}, "architecture '' is not read"),
        ("sparsify-topk", {"activation": "groupmax"}, "groupmax"),
        ("sparsify-topk", {"transcode": True}, "another module's output"),
        ("sparsify-topk", {"skip_connection": True}, "linear map"),
        ("sparsify-topk", {"signed": True}, "signed"),
        ("dictionary_learning-topk", {"trainer.dict_class": "CrossCoder"}, "'CrossCoder' is not read"),
        ("overcomplete-topk", {"class": "MpSAE"}, 'class is "MpSAE"'),
        # sizes
        ("saelens-standard", {"d_in": 17}, "d = 17 by cfg.json's d_in"),
        ("saelens-standard", {"d_sae": 39}, "F = 39 by cfg.json's d_sae"),
        ("sparsify-topk", {"d_in": 40}, "d = 40 by cfg.json's d_in"),
        ("sparsify-topk", {"num_latents": 80}, "F = 80 by cfg.json's num_latents"),
        ("dictionary_learning-topk", {"trainer.dict_size": 41}, "F = 41"),
        # kinds
        ("saelens-standard", {"apply_b_dec_to_input": "no"}, "true or false is expected"),
        ("saelens-standard", {"architecture": ["standard"]}, "a text is expected"),
        ("dictionary_learning-topk", {"trainer": []}, "trainer.dict_class ''"),
    ],
)
def test_configurations_that_contradict_the_weights(copy, name, changed, expected):
    assert expected in refusal(copy(name).set(changed))


@pytest.mark.parametrize(
    ("name", "changed", "expected"),
    [
        ("saelens-standard", {"threshold": ones(40)}, "holds threshold [40], which a SAELens standard SAE has not"),
        ("saelens-standard", {"finetuning_scaling_factor": 2 * ones(40)}, "differs from 1"),
        ("saelens-jumprelu", {"threshold": None}, "the tensor threshold [F] is missing"),
        ("saelens-gated", {"b_mag": ones(39)}, "b_mag has the shape [39], and [40] is expected"),
        ("saelens-topk-rescaled", {"W_dec": torch.zeros(40, 16)}, "row 0 of W_dec is 0"),
        ("sparsify-topk", {"W_skip": ones(16, 16)}, "holds W_skip"),
        ("dictionary_learning-batch_topk", {"threshold": torch.tensor(-1.0)}, "never estimated"),
        ("dictionary_learning-topk", {"k": torch.tensor(9)}, "k is 9, and config.json says trainer.k = 4"),
        ("dictionary_learning-standard", {"bias": None}, "the tensor bias [d] is missing"),
        ("gemma_scope-jumprelu", {"scaling_factor": ones(40)}, "holds scaling_factor [40], which a Gemma Scope SAE has not"),
        ("gemma_scope-jumprelu", {"threshold": None}, "the tensor threshold [F] is missing"),
        ("overcomplete-topk", {"Q": ones(4)}, "QSAE"),
        ("overcomplete-topk", {"encoder.mlp_blocks.0.0.weight": ones(16, 16)}, "not linear"),
        ("overcomplete-topk", {"encoder.final_block.1.weight": ones(40)}, "layer norm"),
        ("overcomplete-topk", {"encoder.final_block.0.weight": None}, "not linear"),
        ("overcomplete-topk", {"dictionary._weights": None, "dictionary.Relax": ones(40, 16)}, "archetypal"),
        ("overcomplete-topk", {"dictionary.multiplier": ones(1)}, "dictionary.multiplier has the shape [1], and [] is expected"),
    ],
)
def test_tensors_that_the_configuration_does_not_know(copy, name, changed, expected):
    spoilt = copy(name)
    words = refusal(spoilt.tensors(changed))
    assert expected in words
    assert spoilt.folder.name in words


def test_a_state_dict_of_overcomplete_alone_is_not_guessed(copy):
    spoilt = copy("overcomplete-topk")
    spoilt.config.unlink()
    assert "does not say whether it is an SAE, a TopKSAE or a BatchTopKSAE; write {" in refusal(spoilt.folder)


class Wicked:
    """Unpickling it would write a file."""

    def __init__(self, target) -> None:
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("name", ["dictionary_learning-topk", "overcomplete-topk"])
def test_pickled_objects_are_refused_with_the_remedy_and_never_run(copy, name, tmp_path):
    spoilt = copy(name)
    torch.save({"encoder.weight": Wicked(tmp_path / "ran")}, spoilt.weights)
    words = refusal(spoilt.folder)
    assert "torch.save(model.state_dict(), path)" in words
    torch.save(torch.nn.Linear(2, 2), spoilt.weights)
    assert "pickled Python objects" in refusal(spoilt.folder)
    spoilt.weights.write_bytes(pickle.dumps(Wicked(tmp_path / "ran"), protocol=2))
    assert "pickled Python objects" in refusal(spoilt.folder)
    assert not (tmp_path / "ran").exists()


def test_pickled_objects_in_an_archive_are_refused(copy, tmp_path):
    spoilt = copy("gemma_scope-jumprelu")
    np.savez(spoilt.weights, W_enc=np.array([Wicked(tmp_path / "ran")], dtype=object))
    assert "pickled Python objects" in refusal(spoilt.folder)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_state_dict_is_refused(copy):
    spoilt = copy("dictionary_learning-topk")
    torch.save([ones(2)], spoilt.weights)
    assert "holds a list, not a state dict" in refusal(spoilt.folder)
    torch.save({"model": {"a": ones(2)}}, spoilt.weights)
    assert "holds model (a dict)" in refusal(spoilt.folder)


@pytest.mark.parametrize("name", ["saelens-topk", "sparsify-topk", "dictionary_learning-topk", "overcomplete-topk"])
@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, "\x00"])
def test_configurations_that_are_no_json_object(copy, name, text):
    spoilt = copy(name)
    spoilt.config.write_text(text)
    assert spoilt.config.name in refusal(spoilt.folder)


@pytest.mark.parametrize("name", ["saelens-topk", "sparsify-topk", "dictionary_learning-topk"])
def test_a_configuration_that_is_missing(copy, name):
    spoilt = copy(name)
    spoilt.config.unlink()
    assert f"{spoilt.config.name}: no such file" in refusal(spoilt.folder)


WILD = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("topk") | st.just("none"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
FIELDS = {
    "saelens-topk": [
        "k",
        "d_in",
        "d_sae",
        "architecture",
        "normalize_activations",
        "metadata",
        "apply_b_dec_to_input",
        "activation_fn",
    ],
    "sparsify-topk": ["k", "d_in", "num_latents", "expansion_factor", "activation", "transcode"],
    "dictionary_learning-topk": ["trainer", "trainer.k", "trainer.dict_class", "trainer.activation_dim", "trainer.layer"],
    "overcomplete-topk": ["class", "top_k", "normalization", "running_threshold"],
}


@pytest.mark.parametrize("name", FIELDS)
@WILD
@given(data=st.data())
def test_any_value_of_any_field_is_read_or_refused(copy, name, data):
    spoilt = copy(name)
    chosen = data.draw(st.lists(st.sampled_from(FIELDS[name]), min_size=1, max_size=2, unique=True))
    folder = spoilt.set({field: data.draw(values) for field in sorted(chosen, reverse=True)})
    assert "\n" not in outcome(folder)


@pytest.mark.parametrize("name", ["saelens-topk", "sparsify-topk", "dictionary_learning-topk", "gemma_scope-jumprelu"])
@WILD
@given(data=st.data())
def test_damaged_weights_are_refused_or_read_never_a_traceback(copy, name, data):
    spoilt = copy(name)
    content = bytearray(spoilt.weights.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    spoilt.weights.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    assert "\n" not in outcome(spoilt.folder)
