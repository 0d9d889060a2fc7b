"""`musae validate`: what it finds, what it says, its exit codes."""

import pytest
import torch
from click.testing import CliRunner

from musae import registry
from musae.cli import main
from musae.dictionary import TensorFrames
from musae.methods.pca import Pca
from musae.testing import sample_frames

METHOD = """
from musae.card import MethodCard
from musae.methods.pca import Pca

CARD = MethodCard(name="mine", summary="for tests", seeded=False)


class Mine(Pca):
    name = "mine"
{body}

METHOD = Mine
"""
CROOKED = """
    def decode(self, code):
        return super().decode(code) + 0.05
"""
FORGETFUL = """
    def fit(self, frames, **arguments):
        super().fit(frames)
"""
TASK = """
from musae.card import TaskCard

CARD = TaskCard(name="mine", summary="s", version=1, main=("m",), direction={"m": "none"}, reads=("codes",))


def score(features, data):
    return []
"""
PROVIDER = """
from musae.card import ProviderCard
from musae.providers.provider import Provider, Reply

CARD = ProviderCard(name="mine", summary="s", source="s")


class Mine(Provider):
    card, model, revision, free = CARD, "mine", "1", True

    def reply(self, request):
        return Reply("music") if request.schema else Reply(likelihoods=(-1.0,) * len(request.options))


def load():
    return Mine()
"""


def validate(*arguments):
    return CliRunner().invoke(main, ["validate", *map(str, arguments)])


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module into the present folder; no two tests share its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = "validated_" + "".join(c for c in tmp_path.name if c.isalnum())

    def make(source):
        path = tmp_path / f"{module}.py"
        path.write_text(source)
        return path

    return make


def test_a_name_gets_a_line_a_check():
    result = validate("pca")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "methods pca"
    assert "  ok      decode is linear" in lines
    assert lines[-1] == f"{len(lines) - 2} checks, all passed."


def test_a_file_need_not_be_installed(write):
    assert validate(write(METHOD.format(body=""))).exit_code == 0
    assert "mine" not in registry.entries("methods")


def test_a_broken_promise_is_exit_code_1_and_the_others_are_tried(write):
    result = validate(write(METHOD.format(body=CROOKED)))
    assert result.exit_code == 1
    [failed] = [line for line in result.stdout.splitlines() if line.startswith("  failed")]
    assert failed == "  failed  decode is linear: mine: decode must be code @ atoms + bias"
    assert "  ok      saving and loading change nothing" in result.stdout
    assert result.stdout.endswith("1 failed: the contract is broken.\n")


def test_a_provider(write):
    result = validate(write(PROVIDER))
    assert result.exit_code == 1
    assert "failed  an answer fits its schema: mine: a plain question is not answered in form" in result.output
    assert "ok      likelihoods are of the options" in result.output


def test_what_needs_the_check_that_failed_is_not_run(write):
    result = validate(write(METHOD.format(body=FORGETFUL)))
    assert result.exit_code == 1
    assert "failed  fit freezes: mine: fit must return self" in result.stdout
    assert "decode" not in result.stdout
    assert "8 more need the one that failed, and were not run" in result.stdout


def test_any_error_of_others_code_is_a_sentence(write):
    result = validate(write(TASK.replace("return []", "return features.nothing")))
    assert result.exit_code == 1
    assert "rows of a dictionary: it raised AttributeError" in result.stdout


def test_a_class_of_a_module_in_this_folder(write):
    path = write(METHOD.format(body=""))
    assert validate(f"{path.stem}:Mine").exit_code == 0
    result = validate(f"{path.stem}:Mnie")
    assert result.exit_code == 2
    assert "did you mean 'Mine'" in result.stderr


def test_a_fitted_instance_is_not_fitted_again(write):
    path = write(
        "import torch\nfrom musae.dictionary import TensorFrames\nfrom musae.methods.pca import Pca\n"
        "fitted = Pca(width=4, k=2).fit(TensorFrames(torch.randn(50, 6)))\n"
    )
    result = validate(f"{path.stem}:fitted")
    assert result.exit_code == 0, result.output
    assert "fit freezes" not in result.output


def test_what_a_module_with_a_card_provides(write):
    path = write(TASK)
    result = validate(f"{path.stem}:score")
    assert result.exit_code == 1
    assert "mine: no row for its main metric m" in result.stdout


def test_a_saved_dictionary(tmp_path):
    path = Pca(width=8, k=3).fit(TensorFrames(sample_frames())).save(tmp_path / "saved.safetensors")
    result = validate(path)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"dictionary {path} (pca, ")
    data = bytearray(path.read_bytes())
    data[-5] ^= 0xFF
    path.write_bytes(data)
    assert validate(path).exit_code == 2


def test_a_saved_dictionary_that_is_not_finite_fails(tmp_path):
    fitted = Pca(width=8, k=3).fit(TensorFrames(sample_frames()))
    fitted.tensors["b_dec"][0] = torch.nan
    result = validate(fitted.save(tmp_path / "saved.safetensors"))
    assert result.exit_code == 1
    assert "tensors['b_dec'] must be finite" in result.stdout


def test_a_name_of_two_kinds_asks_for_the_kind():
    with registry.provided(registry.Entry("tasks", "pca", "musae.tasks.sparsity", None)):
        result = validate("pca")
        assert result.exit_code == 2
        assert "methods or tasks; say which with --kind" in result.stderr
        assert validate("pca", "--kind", "methods").exit_code == 0


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("topkk", "did you mean 'topk'"),
        ("qqqqqq", "give a name of `musae list`"),
        ("nowhere.py", "no such file"),
        ("nowhere.safetensors", "no such file"),
        ("no_such_module:x", "importing 'no_such_module' raised ModuleNotFoundError"),
        ("musae.errors:UserError", "no FeatureSet"),
    ],
)
def test_what_is_not_found_is_one_sentence(what, says):
    result = validate(what)
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert says in line


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\n", "declares no CARD"),
        ("def broken(:\n", ":1: "),
        (TASK + "\nimport no_such_library\n", "importing it raised ModuleNotFoundError"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(write, source, says):
    result = validate(write(source))
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert says in line
