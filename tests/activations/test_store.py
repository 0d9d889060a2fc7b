"""The store: reading, shuffling, seeking, refusing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from musae.activations.harvest import harvest
from musae.activations.shards import ShardFile, shard_path, write_shard
from musae.activations.store import Manifest, Shard, Store, open_store
from musae.errors import UserError

T = 12


@pytest.fixture
def store(generator, make_tokens, tmp_path):
    """23 clips of 12 frames in 6 shards of 4 or 3 clips; x[0], x[1] are the clip's and the frame's number."""
    return harvest(generator, make_tokens(23), (2,), tmp_path, shard_clips=4)[2]


def ids(x):
    """Row numbers of frames."""
    return (x[:, 0] * T + x[:, 1]).long().tolist()


def with_buffer(store, frames):
    return open_store(store.folder, buffer_frames=frames)


@pytest.mark.parametrize("buffer", [1, T, 5 * T + 3, 10_000])
@pytest.mark.parametrize("batch", [1, 7, 64, 23 * T, 1000])
def test_every_frame_once_an_epoch(store, buffer, batch):
    seen = [ids(x) for x in with_buffer(store, buffer).batches(batch, seed=3, epochs=2)]
    per_epoch = -(-store.frames // batch)
    assert len(seen) == 2 * per_epoch
    assert all(len(x) == min(batch, store.frames) for x in seen[: per_epoch - 1])
    first, second = ([row for x in seen[i : i + per_epoch] for row in x] for i in (0, per_epoch))
    assert sorted(first) == sorted(second) == list(range(store.frames))
    assert first != second


@pytest.mark.parametrize("buffer", [T, 5 * T + 3, 10_000])
@pytest.mark.parametrize("batch", [7, 64, 300])
def test_start_step_continues_the_same_run(store, buffer, batch):
    store = with_buffer(store, buffer)
    whole = [ids(x) for x in store.batches(batch, seed=3, epochs=3)]
    for start in (*range(0, len(whole), max(1, len(whole) // 9)), len(whole)):
        assert [ids(x) for x in store.batches(batch, seed=3, epochs=3, start_step=start)] == whole[start:]


def test_order_depends_on_the_seed(store):
    first, same, other = (ids(next(store.batches(50, seed=s))) for s in (1, 1, 2))
    assert first == same != other


@pytest.mark.parametrize("buffer", [T, 5 * T + 3, 10_000])
@pytest.mark.parametrize(("length", "batch"), [(2, 7), (5, 16), (T, 3)])
def test_sequences_are_adjacent_frames_of_one_clip(store, buffer, length, batch):
    store, count = with_buffer(store, buffer), 23 * (T // length)
    whole = list(store.sequences(batch, length, seed=3, epochs=2))
    per_epoch = -(-count // batch)
    assert len(whole) == 2 * per_epoch
    for epoch in (whole[:per_epoch], whole[per_epoch:]):
        seen = torch.cat(epoch)
        assert seen.shape[:2] == (count, length)
        assert bool((seen[:, 1:, 1] - seen[:, :-1, 1] == 1).all())
        assert bool((seen[..., 0] == seen[:, :1, 0]).all())
        assert sorted(ids(seen[:, 0])) == [clip * T + i * length for clip in range(23) for i in range(T // length)]
    for start in range(len(whole)):
        again = store.sequences(batch, length, seed=3, epochs=2, start_step=start)
        assert all(torch.equal(a, b) for a, b in zip(again, whole[start:], strict=True))


def test_a_length_that_no_clip_has_is_refused(store):
    with pytest.raises(UserError, match="clips of 12 frames hold no sequence of 13"):
        next(store.sequences(4, 13, seed=0))


def test_seeking_reads_only_what_it_needs(store, monkeypatch):
    store, touched = with_buffer(store, 4 * T), []
    compare = ShardFile._compare
    monkeypatch.setattr(ShardFile, "_compare", lambda self, *found: touched.append(self.path.name) or compare(self, *found))
    steps = -(-store.frames // 16)
    list(store.batches(16, seed=0, start_step=steps - 1))
    assert len(touched) <= 2
    list(store.batches(16, seed=0))
    assert sorted(touched) == sorted({*touched})
    assert len(touched) == 6


def test_frames_of_a_batch_come_from_all_over_the_store(generator, make_tokens, tmp_path):
    """Even where the buffer holds an eighth of the store: neighbours in a batch are no closer than random clips are."""
    store = harvest(generator, make_tokens(256), (2,), tmp_path, shard_clips=8)[2]
    clips = torch.cat([x[:, 0] for x in with_buffer(store, 32 * T).batches(128, seed=0)]).double().numpy()
    assert abs(np.corrcoef(clips[:-1], clips[1:])[0, 1]) < 0.06  # 3 standard errors of 3,071 pairs
    means = clips.reshape(-1, 128).mean(1)
    independent = clips.std() / np.sqrt(128)
    assert means.std() < 1.5 * independent
    assert min(len({*x}) for x in clips.reshape(-1, 128)) > 24  # of the 32 clips in the buffer
    whole = next(with_buffer(store, 10**6).batches(128, seed=0))[:, 0]
    assert len({*whole.tolist()}) > 85  # 128 draws from 256 clips hit 101 on average


def test_sample_is_without_repetition(store):
    x = store.sample(100, seed=5)
    assert len({*ids(x)}) == 100
    assert torch.equal(x, store.sample(100, seed=5))
    assert not torch.equal(x, store.sample(100, seed=6))
    assert sorted(ids(store.sample(10**6, seed=5))) == list(range(store.frames))
    assert len({*ids(with_buffer(store, T).sample(100, seed=5))}) == 100


def test_rows_know_track_clip_and_time(store):
    rows = store.rows([0, T - 1, T, 22 * T + 5])
    assert rows.track.tolist() == ["t000", "t000", "t001", "t022"]
    assert rows.clip.tolist() == [f"{t}@00000250" for t in rows.track]
    np.testing.assert_allclose(rows.time, [0.04, 0.48, 0.04, 0.24])


def test_clips_come_in_the_order_asked_for(store):
    order = [22, 0, 7, 8, 6, 12, 18, 0]
    x = torch.cat(list(store.clips(order, batch=3)))
    assert x.shape == (8, T, 8)
    assert x[:, 0, 0].tolist() == order
    assert torch.equal(torch.cat(list(store.clips(batch=5))), store.array())
    assert list(store.clips([])) == []


def test_satisfies_what_training_asks_for(store, tmp_path, generator, make_tokens):
    assert (store.d, store.frames, store.shape) == (8, 23 * T, (23, T, 8))
    assert store.mean().dtype == torch.float32
    assert next(store.batches(5, seed=0)).dtype == torch.float32
    again = harvest(generator, make_tokens(23), (2,), tmp_path / "elsewhere", shard_clips=4)[2]
    other = harvest(generator, make_tokens(22), (2,), tmp_path / "elsewhere", shard_clips=4)[2]
    assert store.identity == again.identity != other.identity


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing", "swapped"])
def test_corrupt_shard_is_named_at_first_touch(store, damage):
    path = store.folder / "00003.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    if damage == "missing":
        path.unlink()
    elif damage == "swapped":
        path.write_bytes((store.folder / "00002.safetensors").read_bytes())
    else:
        path.write_bytes(bytes(data if damage == "flip" else data[:-5]))
    store = open_store(store.folder)
    assert len(next(store.clips([0, 1, 2]))) == 3
    with pytest.raises(UserError, match=r"00003\.safetensors.*delete it and run the same harvest"):
        next(store.clips([9]))
    with pytest.raises(UserError, match=r"00003\.safetensors"):
        list(store.batches(10, seed=0))


@pytest.mark.parametrize("name", ["tokens.npz", "summary.safetensors"])
def test_corrupt_index_is_named_and_made_again(store, name, generator, make_tokens, tmp_path):
    path = store.folder / name
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(UserError, match=f"{name}.*checksum"):
        open_store(store.folder).rows([0])
    generator.calls.clear()
    harvest(generator, make_tokens(23), (2,), tmp_path, shard_clips=4)
    assert generator.calls == []
    assert path.read_bytes() == good


def test_another_generator_layer_or_corpus_is_refused(store):
    match = {"generator_revision": "abad1dea00", "layer": 2, "corpus_revisions": {"fake": "c0ffee0001", "more": "x"}}
    assert open_store(store.folder, **match).frames == store.frames
    for field, value, had, wanted in [
        ("generator_revision", "0ther00000", "abad1dea00", "0ther00000"),
        ("layer", 3, "layer 2", "not 3"),
        ("corpus_revisions", {"fake": "0ther00000"}, "c0ffee0001", "0ther00000"),
        ("corpus_revisions", {"else": "c0ffee0001"}, "'fake' c0ffee0001", "not None"),
    ]:
        with pytest.raises(UserError, match=f"{had}.*{wanted}"):
            open_store(store.folder, **{**match, field: value})


def test_bad_manifest_is_named(store, tmp_path):
    path = store.folder / "manifest.json"
    good = json.loads(path.read_text())
    for change, message in [
        ({"layer": -1}, "layer"),
        ({"dtype": "int4"}, "dtype"),
        ({"surprise": 1}, "surprise"),
        ({"format": 99}, "format 99"),
        ({"clips": 24}, "add up"),
        ({"frames": 1}, "add up"),
    ]:
        path.write_text(json.dumps(good | change))
        with pytest.raises(UserError, match=rf"manifest\.json: .*{message}"):
            open_store(store.folder)
    path.write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json"):
        open_store(store.folder)
    with pytest.raises(UserError, match="no finished activation store"):
        open_store(tmp_path / "nowhere")


def test_nonfinite_values_are_located(store):
    assert store.locate_nonfinite() == ""
    path = store.folder / "00004.safetensors"
    x = store.array()[4::6].half()
    x[2, 7, 3] = float("inf")
    write_shard(path, x)
    found = store.locate_nonfinite()
    assert "00004.safetensors" in found
    assert "t016@00000250 (row 2), frame 7" in found


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_memory_is_bounded_by_the_buffer(tmp_path):
    """A store of 64 MiB, read with a buffer of 4 MiB, takes no more than two of them and a little."""
    clips, frames, d, shards = 64, 2048, 256, 16
    entries = []
    for shard in range(shards):
        x = torch.full((clips // shards, frames, d), float(shard), dtype=torch.float16)
        entries.append(Shard(clips=len(x), frames=len(x) * frames, sha256=write_shard(shard_path(tmp_path, shard), x)))
    manifest = Manifest(
        format=1, generator="toy", generator_revision="r", layer=1, corpora={}, tokens="", dtype="float16", d=d,
        frames_per_clip=frames, clips=clips, frames=clips * frames, shards=tuple(entries), files={}, created="", versions={},
    )  # fmt: skip
    store = Store(tmp_path, manifest, buffer_frames=4 * frames)
    before = resident()
    highest, seen = 0, 0
    for x in store.batches(512, seed=0):
        highest, seen = max(highest, resident()), seen + len(x)
    assert seen == store.frames
    assert highest - before < 20 * 2**20


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
