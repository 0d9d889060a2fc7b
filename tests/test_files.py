"""Files appear whole or not at all."""

import errno

import pytest

from musae.errors import UserError
from musae.files import atomic_path, sha256


def test_a_file_is_renamed_when_it_is_whole(tmp_path):
    with atomic_path(tmp_path / "deep" / "a.json") as temporary:
        temporary.write_text("{}")
        assert not (tmp_path / "deep" / "a.json").exists()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.json"]


def test_a_failure_keeps_the_older_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"a\.txt: the disk is full"), atomic_path(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
