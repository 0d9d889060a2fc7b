"""Harvest: what lies on disk afterwards, whatever happened on the way."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path

import numpy as np
import pytest
import torch

from musae.activations import harvest as harvesting
from musae.activations.harvest import estimate, harvest, store_path
from musae.activations.store import open_store
from musae.errors import UserError

SMALL = {"shard_clips": 4, "batch_clips": 3}


def content(root: Path) -> dict[str, bytes]:
    """Every file below `root`, manifests without their date."""
    lines = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    return {
        k: b"\n".join(x for x in v.splitlines() if b'"created"' not in x) if k.endswith("json") else v for k, v in lines.items()
    }


def test_layers_come_from_one_pass(generator, make_tokens, tmp_path):
    done = []
    stores = harvest(generator, make_tokens(10), (1, 3), tmp_path, **SMALL, progress=lambda *x: done.append(x))
    assert {layers for _, layers in generator.calls} == {(1, 3)}
    assert [count for count, _ in generator.calls] == [3, 1, 3, 3]
    assert done == [(4, 10), (7, 10), (10, 10)]
    for layer, store in stores.items():
        x = store.array()
        assert x.shape == (10, 12, 8)
        assert (x[:, :, 0] == torch.arange(10)[:, None]).all()
        assert (x[:, :, 1] == torch.arange(12)).all()
        assert (x[:, :, 2] == layer).all()
        assert store.folder.parent == tmp_path / "toy@abad1dea00" / f"layer{layer}"


def test_second_run_computes_nothing(generator, make_tokens, tmp_path):
    harvest(generator, make_tokens(10), (1,), tmp_path, **SMALL)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    generator.calls.clear()
    harvest(generator, make_tokens(10), (1,), tmp_path, **SMALL)
    assert generator.calls == []
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("calls", [0, 1, 2, 3, 5])
def test_interrupted_harvest_resumes_to_identical_bytes(generator, make_tokens, tmp_path, calls):
    tokens = make_tokens(14)  # 4 shards of 4, 4, 3, 3 clips: 6 forward passes
    harvest(generator, tokens, (0, 2), tmp_path / "whole", **SMALL)
    passes = len(generator.calls)
    generator.calls.clear()
    generator.fail_after = calls
    with pytest.raises(RuntimeError, match="power cut"):
        harvest(generator, tokens, (0, 2), tmp_path / "cut", **SMALL)
    with pytest.raises(UserError, match="no finished activation store"):
        open_store(store_path(generator, tokens, 0, tmp_path / "cut", shard_clips=4))
    finished = len(list((tmp_path / "cut").rglob("*.safetensors"))) // 2
    generator.calls.clear()
    generator.fail_after = None
    harvest(generator, tokens, (0, 2), tmp_path / "cut", **SMALL)
    assert len(generator.calls) == passes - sum([2, 2, 1, 1][:finished])
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_deleted_shard_is_computed_alone(generator, make_tokens, tmp_path):
    stores = harvest(generator, make_tokens(14), (0, 2), tmp_path, **SMALL)
    before = content(tmp_path)
    (stores[2].folder / "00001.safetensors").unlink()
    generator.calls.clear()
    harvest(generator, make_tokens(14), (0, 2), tmp_path, **SMALL)
    assert generator.calls == [(3, (2,)), (1, (2,))]
    assert content(tmp_path) == before


def test_finished_store_replaces_a_shard_that_is_not_its_own(generator, make_tokens, tmp_path):
    folder = harvest(generator, make_tokens(14), (2,), tmp_path, **SMALL)[2].folder
    before = content(tmp_path)
    (folder / "00003.safetensors").write_bytes((folder / "00002.safetensors").read_bytes())
    generator.calls.clear()
    harvest(generator, make_tokens(14), (2,), tmp_path, **SMALL)
    assert generator.calls == [(3, (2,))]
    assert content(tmp_path) == before


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "header"])
def test_unfinished_store_replaces_a_damaged_shard(generator, make_tokens, tmp_path, damage):
    store = harvest(generator, make_tokens(14), (2,), tmp_path, **SMALL)[2]
    before = content(tmp_path)
    (store.folder / "manifest.json").unlink()
    path = store.folder / "00002.safetensors"
    data = bytearray(path.read_bytes())
    data[{"header": 12}.get(damage, -5)] ^= 0xFF
    path.write_bytes(bytes({"truncate": data[:-7], "empty": b""}.get(damage, data)))
    generator.calls.clear()
    harvest(generator, make_tokens(14), (2,), tmp_path, **SMALL)
    assert generator.calls == [(3, (2,))]
    assert content(tmp_path) == before


def test_full_disk_leaves_nothing_under_a_final_name(generator, make_tokens, tmp_path, monkeypatch):
    real, writes = Path.write_bytes, []

    def fills_up(self, data):
        if len(writes) == 2:
            real(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        writes.append(self)
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", fills_up)
    with pytest.raises(UserError, match=r"00002\.safetensors: the disk is full"):
        harvest(generator, make_tokens(14), (2,), tmp_path, **SMALL)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["00000.safetensors", "00001.safetensors"]
    monkeypatch.undo()
    assert harvest(generator, make_tokens(14), (2,), tmp_path, **SMALL)[2].array()[13, 0, 0] == 13


def test_too_little_disk_is_said_before_anything_runs(generator, make_tokens, tmp_path, monkeypatch):
    tokens = make_tokens(14)
    needed = estimate(14, 12, 8, 2)
    assert needed == 14 * 12 * 8 * 2 * 2
    usage = dataclasses.make_dataclass("usage", ["free"])
    monkeypatch.setattr(harvesting.shutil, "disk_usage", lambda path: usage(needed - 1))
    with pytest.raises(UserError, match="free some space"):
        harvest(generator, tokens, (0, 2), tmp_path, **SMALL)
    assert generator.calls == []
    monkeypatch.setattr(harvesting.shutil, "disk_usage", lambda path: usage(needed))
    harvest(generator, tokens, (0, 2), tmp_path, **SMALL)
    monkeypatch.setattr(harvesting.shutil, "disk_usage", lambda path: usage(0))
    harvest(generator, tokens, (0, 2), tmp_path, **SMALL)


@pytest.mark.parametrize(("dtype", "error"), [("float16", 2**-11), ("bfloat16", 2**-8), ("float32", 2**-24)])
def test_stored_type_rounds_once(generator, make_tokens, tmp_path, dtype, error):
    store = harvest(generator, make_tokens(5), (1,), tmp_path, dtype=dtype)[1]
    x = store.array()
    assert x.dtype == torch.float32
    relative = (x[..., 3].double() * 3 - 1).abs().max().item()
    assert relative <= error
    assert store.manifest.dtype == dtype
    assert store.manifest.shards[0].sha256


def test_nan_names_the_clip(generator, make_tokens, tmp_path, monkeypatch):
    stream = generator.stream

    def spoilt(codes, layers):
        found = stream(codes, layers)
        for x in found.values():
            x[codes[:, 0, 0] == 5, 7, 3] = float("nan")
        return found

    monkeypatch.setattr(generator, "stream", spoilt)
    with pytest.raises(UserError, match="clip t005@00000250, frame 7, layer 2: the activations hold NaN"):
        harvest(generator, make_tokens(14), (2,), tmp_path, **SMALL)


def test_overflow_names_the_remedy(generator, make_tokens, tmp_path, monkeypatch):
    stream = generator.stream
    monkeypatch.setattr(generator, "stream", lambda codes, layers: {k: v * 1e6 for k, v in stream(codes, layers).items()})
    with pytest.raises(UserError, match=r"beyond float16; take dtype float32"):
        harvest(generator, make_tokens(4), (2,), tmp_path)
    harvest(generator, make_tokens(4), (2,), tmp_path, dtype="bfloat16")


def test_bad_requests(generator, make_tokens, tmp_path, monkeypatch):
    tokens = make_tokens(4)
    with pytest.raises(UserError, match=r"layer 4 .* choose 0 to 3"):
        harvest(generator, tokens, (1, 4), tmp_path)
    with pytest.raises(UserError, match=r"toy@0ther00000 do not fit generator codec toy@c0dec00000"):
        harvest(generator, dataclasses.replace(tokens, codec="0ther00000"), (1,), tmp_path)
    with pytest.raises(UserError, match="no clips"):
        harvest(generator, tokens.take([]), (1,), tmp_path)
    monkeypatch.setattr(generator, "stream", lambda codes, layers: {1: torch.zeros(len(codes), 1, 8)})
    with pytest.raises(UserError, match=r"\(4, 1, 8\), not \(4, 12, 8\)"):
        harvest(generator, tokens, (1,), tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_key_depends_on_content(generator, make_tokens, tmp_path):
    tokens = make_tokens(6)
    path = store_path(generator, tokens, 1, tmp_path)
    codes = tokens.codes.copy()
    codes[3, 1, 2] += 1
    others = [
        store_path(generator, dataclasses.replace(tokens, codes=codes), 1, tmp_path),
        store_path(generator, tokens, 2, tmp_path),
        store_path(generator, tokens, 1, tmp_path, dtype="float32"),
        store_path(generator, tokens, 1, tmp_path, shard_clips=2),
        store_path(type(generator)("0ther00000"), tokens, 1, tmp_path),
    ]
    assert len({path, *others}) == 6


def test_means_are_exact_in_float64(generator, make_tokens, tmp_path):
    store = harvest(generator, make_tokens(10), (1,), tmp_path, **SMALL)[1]
    x = np.asarray(store.array(), np.float64)
    np.testing.assert_allclose(store.position_means().numpy(), x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(store.mean().numpy(), x.mean((0, 1)), rtol=1e-6)
    assert store.position_means().dtype == torch.float64
