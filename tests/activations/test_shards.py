"""Files of a store: what int8 loses, and stores that are not on this machine."""

from __future__ import annotations

import importlib.util
import threading
import time

import fsspec
import pytest
import torch
from upath import UPath

from musae.activations.harvest import harvest
from musae.activations.shards import CorruptShard, ShardFile, dequantise, quantise, shard_path, write_shard
from musae.activations.shuffle import AHEAD, ahead
from musae.activations.store import open_store
from musae.errors import UserError
from musae.files import place

SMALL = {"shard_clips": 4, "batch_clips": 3}


@pytest.fixture
def remote():
    """A URL of an empty folder in memory, as far from a local path as an object store is."""
    fsspec.filesystem("memory").store.clear()
    yield "memory://bucket/runs"
    fsspec.filesystem("memory").store.clear()


def test_int8_is_off_by_half_a_step_of_its_column_at_most():
    torch.manual_seed(0)
    x = torch.randn(5, 40, 6) * torch.tensor([1e-3, 1.0, 1.0, 100.0, 0.0, 1.0]) + torch.tensor([0.0, 50.0, -3.0, 0.0, 7.0, 0.0])
    found = quantise(x)
    assert found["x"].dtype == torch.int8
    assert found["x"].min() >= -127
    columns = x.flatten(0, 1)
    step = (columns.amax(0) - columns.amin(0)) / 254
    back = found["shift"] + found["scale"] * found["x"]
    assert ((back - x).abs() <= step / 2 + 1e-6 * x.abs()).all()
    assert torch.equal(back[..., 4], x[..., 4])
    assert torch.equal(dequantise(found["x"], found["scale"], found["shift"]), back.half())


def test_int8_shards_are_read_as_they_were_left_in_memory(tmp_path):
    x = torch.randn(4, 12, 8).half()
    before = x.clone()
    digest = write_shard(tmp_path / "x.safetensors", x, "int8")
    assert not torch.equal(x, before)
    file = ShardFile(tmp_path / "x.safetensors", "int8", 4, 12, 8)
    file.verify(digest)
    for start, stop in ((0, 4), (1, 3)):
        out = torch.empty(stop - start, 12, 8, dtype=torch.float16)
        file.read(out, start)
        assert torch.equal(out, x[start:stop])
    assert (tmp_path / "x.safetensors").stat().st_size < 4 * 12 * 8 + 400
    with pytest.raises(CorruptShard, match="wrong shape or length"):
        ShardFile(tmp_path / "x.safetensors", "float16", 4, 12, 8)


def test_int8_stores_say_so_and_have_means_of_what_is_read(generator, make_tokens, tmp_path):
    exact = harvest(generator, make_tokens(14), (2,), tmp_path, **SMALL)[2]
    coarse = harvest(generator, make_tokens(14), (2,), tmp_path, **SMALL, dtype="int8")[2]
    assert coarse.folder != exact.folder
    assert coarse.manifest.dtype == "int8"
    torch.testing.assert_close(coarse.array(), exact.array(), rtol=0, atol=14 / 254)
    torch.testing.assert_close(coarse.mean(), coarse.array().flatten(0, 1).mean(0))
    assert torch.equal(torch.cat([*coarse.batches(7, seed=1)]).sort(0).values, coarse.array().flatten(0, 1).sort(0).values)


@pytest.mark.parametrize("place", [0, 30, 400, -1], ids=["header", "header's text", "data", "last byte"])
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_changed_byte_is_found_by_whoever_reads_first(tmp_path, dtype, place):
    x = torch.randn(4, 12, 8).half()
    path = tmp_path / "x.safetensors"
    digest = write_shard(path, x, dtype)
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
    for clips in (4, 1):  # all of it, and a part
        with pytest.raises(CorruptShard, match="computes only this shard"):
            ShardFile(path, dtype, 4, 12, 8).read(torch.empty(clips, 12, 8, dtype=torch.float16), 0, digest)


def test_a_store_elsewhere_holds_what_a_local_one_does(generator, make_tokens, tmp_path, remote):
    tokens = make_tokens(14)
    there = harvest(generator, tokens, (0, 2), remote, **SMALL)
    here = harvest(generator, tokens, (0, 2), tmp_path, **SMALL)
    for layer in (0, 2):
        assert str(there[layer].folder).startswith("memory://bucket/runs/toy@")
        assert there[layer].identity == here[layer].identity
        assert torch.equal(there[layer].array(), here[layer].array())
        for a, b in zip(there[layer].batches(7, seed=3), here[layer].batches(7, seed=3), strict=True):
            assert torch.equal(a, b)
    again = open_store(str(there[0].folder))
    assert again.rows([5]).clip.tolist() == here[0].rows([5]).clip.tolist()
    generator.calls.clear()
    harvest(generator, tokens, (0, 2), remote, **SMALL)
    assert generator.calls == []


def test_an_interrupted_harvest_elsewhere_goes_on(generator, make_tokens, tmp_path, remote):
    whole = harvest(generator, make_tokens(14), (2,), tmp_path, **SMALL)[2]
    generator.calls.clear()
    generator.fail_after = 5
    with pytest.raises(RuntimeError, match="power cut"):
        harvest(generator, make_tokens(14), (2,), remote, **SMALL)
    folder = next(iter(UPath(remote).glob("*/layer2/*")))
    half = shard_path(folder, 1)
    half.write_bytes(half.read_bytes()[:-5])
    generator.fail_after = None
    generator.calls.clear()
    store = harvest(generator, make_tokens(14), (2,), remote, **SMALL)[2]
    assert sum(clips for clips, _ in generator.calls) == 4 + 3  # the damaged shard and the one that was not reached
    assert store.identity == whole.identity


def test_an_epoch_elsewhere_moves_each_byte_once(generator, make_tokens, remote, monkeypatch):
    store = harvest(generator, make_tokens(32), (2,), remote, **SMALL)[2]
    kind = type(fsspec.filesystem("memory"))
    plain, moved = kind.cat_file, []

    def counted(self, path, start=None, end=None, **options):
        found = plain(self, path, start=start, end=end, **options)
        moved.append(len(found))
        return found

    monkeypatch.setattr(kind, "cat_file", counted)
    list(open_store(str(store.folder)).batches(16, seed=0))
    data = store.frames * store.d * 2
    headers = 8 * 2**12
    assert data <= sum(moved) <= data + headers


@pytest.mark.parametrize(
    ("url", "says"),
    [("nosuch://bucket/x", "nosuch://bucket/x: cannot be reached"), ("s3://bucket/x", "s3://bucket/x: cannot be reached")],
)
def test_urls_that_cannot_be_reached_are_named(generator, make_tokens, url, says):
    if url.startswith("s3") and importlib.util.find_spec("s3fs"):
        pytest.skip("s3fs is installed: the URL would be asked for")
    with pytest.raises(UserError, match=says):
        harvest(generator, make_tokens(4), (2,), url, **SMALL)


def test_local_paths_stay_what_they_are(tmp_path):
    assert place(tmp_path) == place(str(tmp_path)) == tmp_path


def test_reading_ahead_keeps_order_errors_and_measure():
    made = []

    def items(n):
        for i in range(n):
            made.append(i)
            yield i
        raise ValueError("the end")

    source = ahead(items(10))
    assert next(source) == 0
    time.sleep(0.05)
    assert len(made) <= 2 + AHEAD
    assert [next(source) for _ in range(9)] == list(range(1, 10))
    with pytest.raises(ValueError, match="the end"):
        next(source)
    before = threading.active_count()
    source = ahead(items(10**9))
    next(source)
    source.close()
    assert threading.active_count() == before
    assert list(ahead(iter([]))) == []
