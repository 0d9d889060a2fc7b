"""Writing: what is written reads back as the same function, and what a format cannot express is refused.

That libraries compute the same with what is written is in the certificate: `musae bench parity`.
"""

import pytest
import torch

from musae.bench.parity.certificate import random_dictionary
from musae.dictionary import TensorFrames
from musae.errors import UserError
from musae.formats import recognise
from musae.formats.adapter import adapters
from musae.frozen import TENSORS
from musae.methods.imported import Imported
from musae.methods.pca import Pca
from musae.methods.topk import Topk

EXPRESSES = {
    "saelens": {"relu", "topk", "jumprelu", "gated"},
    "sparsify": {"topk"},
    "dictionary_learning": {"relu", "topk", "jumprelu", "gated"},
    "gemma_scope": {"relu", "jumprelu"},
    "overcomplete": {"relu", "topk", "jumprelu"},
}
FRAMES = torch.rand(600, 24, generator=torch.Generator().manual_seed(20)) * torch.linspace(1, 4, 24) + 2
PAIRS = [(target, rule) for target in EXPRESSES for rule in TENSORS]


def test_the_table_is_of_all_formats():
    assert set(EXPRESSES) == set(adapters())


@pytest.mark.parametrize(("target", "rule"), PAIRS)
def test_written_and_read_again_is_the_same_function_or_refused(target, rule, tmp_path):
    dictionary = random_dictionary(rule, target)
    if rule not in EXPRESSES[target]:
        with pytest.raises(UserError, match=f"a {rule} dictionary cannot be written as {target}"):
            recognise.write(dictionary, tmp_path / "made", target)
        assert not (tmp_path / "made").exists(), "nothing half-written is left"
        return
    again = recognise.read(recognise.write(dictionary, tmp_path / "made", target))
    x = 2 * torch.randn(50, 16, generator=torch.Generator().manual_seed(1)) + 0.5
    assert isinstance(again, Imported)
    assert again.library == target
    assert again.k == dictionary.k or rule != "topk"
    code, expected = again.encode(x), dictionary.encode(x)
    assert torch.allclose(code.dense(), expected.dense(), atol=1e-5)
    assert torch.allclose(again.decode(code), dictionary.decode(expected), atol=1e-5)


@pytest.mark.parametrize("target", ["saelens", "sparsify", "dictionary_learning", "musae"])
def test_a_dictionary_trained_here_is_written(target, tmp_path):
    x = FRAMES
    dictionary = Topk(width=40, k=4, batch_size=100).fit(TensorFrames(x))
    dictionary.trained |= {"generator": "nano@1", "layer": 5}
    again = recognise.load(recognise.write(dictionary, tmp_path / "made", target))
    code, expected = again.encode(x), dictionary.encode(x)
    assert torch.allclose(code.dense(), expected.dense(), atol=1e-4)
    assert torch.allclose(again.decode(code), dictionary.decode(expected), atol=1e-4)
    if target in ("saelens", "dictionary_learning"):
        assert (
            again.trained["site"]
            == {"saelens": "nano@1 blocks.4.hook_resid_post", "dictionary_learning": "nano@1 layer 5"}[target]
        )


def test_signed_codes_and_a_bias_that_has_no_place_are_refused(tmp_path):
    pca = Pca(width=8, k=2).fit(TensorFrames(FRAMES))
    with pytest.raises(UserError, match=r"pca dictionary cannot be written as saelens: .*signed"):
        recognise.write(pca, tmp_path / "made", "saelens")
    biased = random_dictionary("relu", "saelens")
    with pytest.raises(UserError, match="b_dec is not 0, and overcomplete decodes without a bias"):
        recognise.write(biased, tmp_path / "made", "overcomplete")
    assert not (tmp_path / "made").exists()


def test_nothing_is_overwritten_and_unknown_formats_are_named(tmp_path):
    dictionary = random_dictionary("topk", "saelens")
    recognise.write(dictionary, tmp_path / "made", "saelens")
    with pytest.raises(UserError, match="is there already, and is not overwritten"):
        recognise.write(dictionary, tmp_path / "made", "sparsify")
    with pytest.raises(UserError, match=r"no format named 'sealens'; known: dictionary_learning, .*, musae"):
        recognise.write(dictionary, tmp_path / "other", "sealens")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        recognise.write(dictionary, tmp_path / "file" / "made", "saelens")
