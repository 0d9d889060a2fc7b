"""Files appear whole or not at all."""

import errno
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from musae.errors import UserError
from musae.files import atomic_path, sha256, writing


def test_a_file_is_renamed_when_it_is_whole(tmp_path):
    with atomic_path(tmp_path / "deep" / "a.json") as temporary:
        temporary.write_text("{}")
        assert not (tmp_path / "deep" / "a.json").exists()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.json"]


def test_a_failure_keeps_the_older_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def half(temporary):
        temporary.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        half(temporary)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"a\.txt: the disk is full"), atomic_path(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from musae.errors import UserError
from musae.files import atomic_path
from musae.metrics_log import JsonLines

folder = Path(sys.argv[1])
tensors = {"a": torch.zeros(20_000)}
log = JsonLines(folder / "log.jsonl")

def to_path():
    with atomic_path(folder / "a.safetensors") as temporary:
        save_file(tensors, temporary)

def to_file():
    with atomic_path(folder / "a.pt") as temporary, temporary.open("wb") as file:
        torch.save(tensors, file)

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for act in (to_path, to_file, lambda: log({"step": 1, "long" * 5000: 0.0})):
    try:
        act()
        print("written")
    except UserError as error:
        print(error)
"""
"""Writes with safetensors, torch and as a log, where no file may be larger than 10 kB."""


def test_no_space_is_one_sentence_whichever_library_meets_it(tmp_path):
    """A limit on the size of files stands for a full disk; in a process of its own (three seconds: torch's import)."""
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "out")], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    says = done.stdout.splitlines()
    assert len(says) == 3
    for name, line in zip(("a.safetensors", "a.pt", "log.jsonl"), says, strict=True):
        assert f"{name}: the disk is full" in line
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["log.jsonl"]


def test_a_failure_where_no_space_is_left_is_the_disks(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"a\.pt: the disk is full"), atomic_path(tmp_path / "a.pt"):
        raise RuntimeError("unexpected pos 576 vs 534")


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    blocked = r"a\.txt: cannot be written \(part of its folder's path is a file\)"
    with pytest.raises(UserError, match=blocked), atomic_path(tmp_path / "file" / "a.txt"):
        pass
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match=r"taken: cannot be written \(Is a directory\)"), atomic_path(tmp_path / "taken"):
        pass

    def refuse(**where):
        raise PermissionError(errno.EACCES, "Permission denied", os.path.join(where["dir"], "x"))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(UserError, match=r"a\.txt: cannot be written \(Permission denied\)"), atomic_path(tmp_path / "a.txt"):
        pass


def test_other_errors_are_left_alone(tmp_path):
    elsewhere = str(tmp_path / "elsewhere" / "input.wav")
    with pytest.raises(FileNotFoundError), writing(tmp_path / "a.txt"):
        raise FileNotFoundError(errno.ENOENT, "No such file", elsewhere)
    with pytest.raises(UserError, match=r"^mine$"), writing(tmp_path / "a.txt"):
        raise UserError("mine")


def test_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
