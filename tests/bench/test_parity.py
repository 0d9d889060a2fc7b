"""The parity certificate can fail, and says what is missing where the libraries are not installed."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from musae.bench.parity import certificate
from musae.cli import main
from musae.formats import recognise
from musae.formats.adapter import adapters

GOLDEN = Path(__file__).resolve().parents[1] / "formats" / "golden" / "saelens-topk"


def test_every_format_has_models_of_its_library():
    assert {f"{name}_models.py" for name in adapters()} == {path.name for path in certificate.HERE.glob("*_models.py")}


@pytest.mark.parametrize("spoilt", ["code", "reconstruction"])
def test_a_difference_in_codes_or_in_reconstructions_is_noticed(spoilt):
    expected, dictionary = dict(np.load(GOLDEN / "expected.npz")), recognise.read(GOLDEN)
    assert certificate.compare("saelens", "topk", "in", expected, dictionary).equal
    expected[spoilt][3, 2] += 2e-5
    difference = certificate.compare("saelens", "topk", "in", expected, dictionary)
    assert not difference.equal
    assert max(difference.codes, difference.reconstructions) > 1.5e-5


def test_rows_say_what_was_compared_both_ways():
    made = certificate.Certificate(packages={"saelens": {"sae-lens": "6.54.0"}})
    made.differences.append(certificate.Difference("saelens", "topk", "out", 1e-6, 2e-6))
    codes, reconstructions = made.rows()
    assert (codes.value, reconstructions.value) == (1e-6, 2e-6)
    assert codes.case == {"d": 16, "width": 40, "k": 4, "n": 24, "way": "out", "versions": "sae-lens 6.54.0"}


def test_without_the_libraries_the_remedy_is_named(tmp_path):
    result = CliRunner().invoke(main, ["bench", "parity", "--environment", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "`make peers` makes it" in result.stderr
