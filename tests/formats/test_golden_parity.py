"""Reading: every checkpoint that a library saved encodes and decodes as that library did, without the library.

`musae bench parity --golden tests/formats/golden` made the fixtures; ``expected.npz`` holds frames, and the library's own codes
and reconstructions. Values are of the order of 1 to 10.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from musae.bench.parity.certificate import LIMIT
from musae.bench.rows import read
from musae.dictionary import load
from musae.formats import recognise
from musae.formats.adapter import adapters
from musae.testing import check_method

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = sorted(path for path in (Path(__file__).parent / "golden").iterdir())
EVERY = pytest.mark.parametrize("folder", GOLDEN, ids=lambda folder: folder.name)
BUDGETS = {
    "saelens-topk": (4, "frame"),
    "saelens-jumprelu": (40, "mean"),
    "saelens-matryoshka": (4, "mean"),
    "sparsify-topk": (4, "frame"),
    "dictionary_learning-jumprelu": (5, "mean"),
    "dictionary_learning-batch_topk": (4, "mean"),
    "gemma_scope-jumprelu": (40, "mean"),
    "overcomplete-batchtopk": (40, "mean"),
}
"""k and budget: of a jumprelu its target where the configuration names one, else all latents, so that nothing is held."""


def test_there_is_a_fixture_of_every_format():
    assert {folder.name.split("-")[0] for folder in GOLDEN} == set(adapters())


@EVERY
def test_codes_and_reconstructions_are_the_librarys(folder):
    expected = np.load(folder / "expected.npz")
    dictionary = recognise.read(folder)
    code = dictionary.encode(torch.from_numpy(expected["x"]))
    assert np.abs(code.dense().numpy() - expected["code"]).max() <= LIMIT
    assert np.abs(dictionary.decode(code).numpy() - expected["reconstruction"]).max() <= LIMIT
    assert (expected["code"] > 0).any(1).all(), "a frame without a latent would prove nothing"


@EVERY
def test_what_is_read_conforms_and_survives_saving(folder, tmp_path):
    dictionary = recognise.read(folder)
    check_method(dictionary)
    again = load(dictionary.save(tmp_path / "again.safetensors"))
    assert again.trained["title"] == f"golden/{folder.name}"
    assert (again.rule, again.library, again.budget) == (dictionary.rule, dictionary.library, dictionary.budget)


@pytest.mark.parametrize(("name", "expected"), BUDGETS.items())
def test_budgets(name, expected):
    dictionary = recognise.read(Path(__file__).parent / "golden" / name)
    assert (dictionary.k, dictionary.budget) == expected


def test_the_published_certificate_covers_every_fixture_and_every_format_both_ways():
    (path,) = (ROOT / "results" / "bench" / "parity").glob("*.json")
    rows = read(path).rows
    assert all(row.value <= LIMIT for row in rows)
    assert {f"{row.subject}-{row.variant}" for row in rows if row.case["way"] == "in"} == {folder.name for folder in GOLDEN}
    assert {row.subject for row in rows if row.case["way"] == "out"} == set(adapters())
