"""`musae score` and `musae convert` with other libraries' checkpoints, as users call them."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import musae
from musae.cli import main
from musae.leaderboard import board, collect
from musae.results import Cell

GOLDEN = Path(__file__).parent / "golden"


def call(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_convert_says_what_it_read_and_what_it_wrote(tmp_path):
    made = call("convert", str(GOLDEN / "sparsify-topk"), str(tmp_path / "made"), "--to", "saelens")
    assert made.exit_code == 0, made.output
    assert "sparsify, architecture topk" in made.stdout
    assert f"{tmp_path / 'made'} (saelens)" in made.stdout
    x = torch.randn(20, 16, generator=torch.Generator().manual_seed(3))
    before, after = (musae.load(place).encode(x).dense() for place in (GOLDEN / "sparsify-topk", tmp_path / "made"))
    assert torch.allclose(before, after, atol=1e-5)
    back = call("convert", str(tmp_path / "made"), str(tmp_path / "own.safetensors"), "--to", "musae")
    assert back.exit_code == 0, back.output
    assert musae.load(tmp_path / "own.safetensors").trained["title"].endswith("/made")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["convert", str(GOLDEN / "saelens-gated"), "there", "--to", "sparsify"], "sparsify knows TopK alone"),
        (["convert", str(GOLDEN / "saelens-gated"), "there", "--to", "saelense"], "no format named 'saelense'"),
        (["convert", "nowhere", "there", "--to", "saelens"], "nowhere: no such file or folder"),
        (["score", str(GOLDEN / "saelens-topk" / "cfg.json")], "a file of no format that is read here"),
        (["score", str(GOLDEN)], "checkpoints"),
        (["score", str(GOLDEN / "saelens-topk")], "saelens-topk reads 16 dimensions, and the stream of nano has 256"),
        (["train", "imported"], "read from checkpoints, not trained"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(*arguments, *(["--root", str(tmp_path)] if arguments[0] != "convert" else []))
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert expected in lines[0]


def cell(**changed) -> Cell:
    fields = {"suite": "quick", "suite_version": 1, "generator": "nano", "generator_revision": "r", "layer": 5, "role": "method"}
    fields |= {"method": "imported", "dictionary": "0" * 12, "width": 40, "k": 4, "corpus": "c", "corpus_revision": "r"}
    return Cell(**fields | {"task": "sparsity", "task_version": 1} | changed)


def test_imported_ones_of_the_same_sizes_are_told_apart_on_the_board():
    one, other = cell(title="org/one", dictionary="1" * 12), cell(title="org/other", dictionary="2" * 12)
    assert one.slot != other.slot, "neither supersedes the other"
    assert one.slot != cell(title="org/one", dictionary="3" * 12).slot, "nor does one of the same title"
    columns = [board.column_of(each) for each in (one, other, cell(method="topk"))]
    assert [column.name for column in columns] == ["org/one#111111", "org/other#222222", "topk"]
    assert len(set(columns)) == 3
    assert collect.collect([]) == []
