"""The command line as users call it: output, exit codes, one sentence for bad input."""

import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from musae.cli import COMMANDS, main


def call(*arguments, **options):
    """Run `musae` in this process."""
    return CliRunner().invoke(main, list(arguments), **options)


def sentence(result):
    """The one line that bad input prints; checks that it is one, that the exit code is 2 and that there is no traceback."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_help_names_every_command_with_examples():
    text = call("--help").output
    assert all(name in text for name in COMMANDS)
    assert "Examples" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert "Examples" in result.output or command == "list" or "musae" in result.output


def test_list_shows_all_kinds():
    text = call("list").output
    assert all(word in text for word in ("topk", "chorales", "nano", "reconstruction", "quick"))


def test_list_and_help_are_quick():
    """Starting Python and importing what a listing needs; the best of five, since neighbours slow the machine."""
    for arguments in (["list"], ["--help"]):
        seconds = []
        for _ in range(5):
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-m", "musae.cli", *arguments], check=True, capture_output=True)
            seconds.append(time.perf_counter() - begun)
        assert min(seconds) < 0.5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rnu"], "did you mean 'run'"),
        (["run", "--suite", "quik"], "did you mean 'quick'"),
        (["train", "topkk"], "did you mean 'topk'"),
        (["train", "residual"], "baseline, which learns nothing"),
        (["corpus", "describe", "choral"], "did you mean 'chorales'"),
        (["harvest", "nanno"], "did you mean 'nano'"),
        (["pretrain", "musicgen"], "cannot be pre-trained here"),
        (["score", "nowhere.safetensors"], "no such file"),
        (["leaderboard", "nowhere"], "no such file or folder"),
    ],
)
def test_bad_input_is_one_sentence(arguments, expected):
    assert expected in sentence(call(*arguments))


def test_a_wrong_option_is_exit_code_2():
    assert call("run", "--nonsense").exit_code == 2


def test_dry_run_prints_cells_time_and_disk_and_does_nothing(tmp_path):
    result = call("run", "--dry-run", "--root", str(tmp_path))
    assert result.exit_code == 0
    assert "fit topk seed 2" in result.output
    assert "score codec_means on chorales" in result.output
    assert "minutes" in result.output
    assert "GiB" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell):
    assert "_MUSAE_COMPLETE" in call("completion", shell).output


def test_corpus_describe_and_export(tmp_path):
    described = call("corpus", "describe", "procedural")
    assert described.exit_code == 0
    assert "heldout" in described.output
    exported = call("corpus", "export", "procedural", str(tmp_path), "--limit", "1", "--seconds", "2", "--rate", "16000")
    assert exported.exit_code == 0, exported.output
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".jams", ".wav"]


def test_interrupted_is_130(monkeypatch):
    from musae import registry

    def interrupt(kind):
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "entries", interrupt)
    result = call("list")
    assert result.exit_code == 130
    assert "run the same command again" in result.stderr
