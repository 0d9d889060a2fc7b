import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from musae.dictionary import SparseCode, TensorFrames, load
from musae.errors import UserError
from musae.methods.pca import Pca
from musae.methods.residual import Residual
from musae.testing import sample_frames


@given(st.integers(0, 9), st.integers(1, 12), st.integers(0, 2**31))
def test_sparse_code_round_trips(rows: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randint(-2, 3, (rows, width), generator=generator).float()
    code = SparseCode.from_dense(dense)
    assert torch.equal(code.dense(), dense)
    assert torch.equal(torch.from_numpy(code.to_scipy().toarray()), dense)
    order = torch.rand(rows, width, generator=generator).argsort(1)
    shuffled = SparseCode.from_topk(dense.gather(1, order), order, width)
    for a, b in zip(
        (code.values, code.indices, code.offsets), (shuffled.values, shuffled.indices, shuffled.offsets), strict=True
    ):
        assert torch.equal(a, b)
    middle = rows // 2
    parts = [SparseCode.from_dense(dense[:middle]), SparseCode.from_dense(dense[middle:])]
    assert torch.equal(SparseCode.concat(parts).dense(), dense)
    assert torch.equal(code.dense(middle), dense[middle:])


def test_fixed_k_view_shares_memory_or_refuses() -> None:
    code = SparseCode.from_topk(torch.tensor([[3.0, -1.0], [2.0, 5.0]]), torch.tensor([[4, 1], [0, 2]]), 5)
    values, indices = code.fixed_k()
    assert values.tolist() == [[-1, 3], [2, 5]]
    assert indices.tolist() == [[1, 4], [0, 2]]
    assert values.data_ptr() == code.values.data_ptr()
    with pytest.raises(ValueError, match="between 1 and 2"):
        SparseCode.from_topk(torch.tensor([[3.0, 0.0], [2.0, 5.0]]), torch.tensor([[4, 1], [0, 2]]), 5).fixed_k()


def test_scipy_code_is_float32_with_sorted_indices() -> None:
    matrix = SparseCode.from_dense(sample_frames(30).double()).to_scipy()
    assert matrix.dtype == "float32"
    assert matrix.has_sorted_indices


def test_batches_cover_an_epoch_once_and_resume_anywhere() -> None:
    x = torch.arange(23.0).unsqueeze(1)
    frames = TensorFrames(x)
    batches = list(frames.batches(5, seed=4, epochs=2))
    assert [len(b) for b in batches] == [5, 5, 5, 5, 3] * 2
    for epoch in (batches[:5], batches[5:]):
        assert torch.cat(epoch).sort(0).values.equal(x)
    assert not torch.cat(batches[:5]).equal(torch.cat(batches[5:]))
    for start in (0, 3, 5, 7, 10):
        rest = list(frames.batches(5, seed=4, epochs=2, start_step=start))
        assert len(rest) == 10 - start
        assert all(a.equal(b) for a, b in zip(rest, batches[start:], strict=True))
    assert len(frames.sample(9, 1).unique()) == 9
    assert len(frames.sample(99, 1)) == 23


@pytest.mark.parametrize("shape", [(5,), (0, 3), (3, 0)])
def test_frames_without_frames_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="n, d"):
        TensorFrames(torch.zeros(shape))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return Pca(width=8, k=3).fit(TensorFrames(sample_frames())).save(tmp_path / "pca.safetensors")


def test_a_saved_file_says_what_it_is(saved: Path) -> None:
    from safetensors import safe_open

    with safe_open(saved, framework="pt") as file:
        metadata = json.loads(file.metadata()["musae"])
    assert metadata["method"] == "pca"
    assert metadata["config"] == {"width": 8, "k": 3, "seed": 0}
    assert metadata["trained"] == {"frames": 600, "store": "memory"}
    assert metadata["hash"] == load(saved).content_hash
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("cut", [0, 5, 40, -1])
def test_a_truncated_file_is_one_clear_error(saved: Path, cut: int) -> None:
    saved.write_bytes(saved.read_bytes()[:cut])
    with pytest.raises(UserError, match=str(saved)):
        load(saved)


def test_a_changed_tensor_or_header_is_noticed(saved: Path) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match=r"checksum .*; delete it and train it again"):
        load(saved)
    saved.write_bytes(data.replace(b'\\"k\\": 3', b'\\"k\\": 4'))
    with pytest.raises(UserError, match="checksum"):
        load(saved)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "pcaa"}, "did you mean 'pca'"),
        ({"format": 99}, "format 99"),
        ({"config": {"width": 8, "depth": 2}}, "depth"),
        (None, "not a saved dictionary"),
    ],
)
def test_foreign_metadata_is_one_clear_error(saved: Path, change: dict | None, says: str) -> None:
    dictionary = load(saved)
    metadata = {"format": 1, "method": "pca", "config": dictionary.config(), "trained": {}, "hash": dictionary.content_hash}
    header = {"musae": json.dumps({**metadata, **change})} if change else {"other": "file"}
    save_file(dictionary.tensors, saved, metadata=header)
    with pytest.raises(UserError, match=says):
        load(saved)


def test_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "nothing.safetensors")


def test_codes_of_another_width_are_not_decoded(saved: Path) -> None:
    with pytest.raises(UserError, match="9 latents"):
        load(saved).decode(SparseCode.from_dense(torch.ones(2, 9)))


def test_width_is_the_number_of_atoms_and_the_one_asked_for_is_kept(tmp_path: Path) -> None:
    pca = Pca(width=100, k=3)
    assert pca.width == 100
    for columns in (10, 20):  # a second fit begins anew
        pca.fit(TensorFrames(sample_frames(50, columns)))
        assert pca.width == len(pca.atoms) == columns
        assert pca.config()["width"] == 100
    again = load(pca.save(tmp_path / "pca.safetensors"))
    assert (again.width, again.config()) == (20, pca.config())


def test_hash_depends_on_method_hyper_parameters_and_tensors() -> None:
    x = sample_frames()
    one = Pca(width=8, k=3).fit(TensorFrames(x))
    hashes = {one.content_hash, Pca(width=8, k=2).fit(TensorFrames(x)).content_hash, Residual(8).content_hash}
    one.tensors["b_dec"][0] += 1
    assert len(hashes | {one.content_hash}) == 4
    assert Residual(8).content_hash != Residual(9).content_hash
    assert len(one.content_hash) == 12


def test_sequences_are_adjacent_frames_of_one_clip_once_an_epoch() -> None:
    """Five clips of seven frames in sequences of three: the last frame of each clip is left over."""
    x = torch.arange(35.0).unsqueeze(1)
    frames = TensorFrames(x, frames_per_clip=7)
    batches = list(frames.sequences(4, 3, seed=1, epochs=2))
    assert [len(batch) for batch in batches] == [4, 4, 2] * 2
    for epoch in (batches[:3], batches[3:]):
        seen = torch.cat(epoch).squeeze(2)
        assert bool((seen.diff(dim=1) == 1).all())
        assert sorted(seen[:, 0].tolist()) == [7 * clip + start for clip in range(5) for start in (0, 3)]
    assert not torch.equal(torch.cat(batches[:3]), torch.cat(batches[3:]))
    for start in range(6):
        again = list(frames.sequences(4, 3, seed=1, epochs=2, start_step=start))
        assert all(torch.equal(a, b) for a, b in zip(again, batches[start:], strict=True))


def test_frames_that_do_not_fill_their_clips_are_refused() -> None:
    with pytest.raises(UserError, match="clips of 4"):
        TensorFrames(torch.zeros(10, 3), frames_per_clip=4)
    with pytest.raises(UserError, match="hold no sequence of 6"):
        TensorFrames(torch.zeros(10, 3), frames_per_clip=5).sequences(1, 6, seed=0)
    with pytest.raises(UserError, match="how they follow"):
        TensorFrames(torch.zeros(10, 3), "mine").sequences(1, 2, seed=0)


@pytest.mark.parametrize("metadata", ["[]", '{"format": 1}', '{"format": 1, "method": 3}', '{"method": "topk"}', "3"])
def test_metadata_of_another_shape_are_one_sentence(tmp_path: Path, metadata: str) -> None:
    path = tmp_path / "crafted.safetensors"
    save_file({"W_dec": torch.ones(2, 3)}, path, metadata={"musae": metadata})
    with pytest.raises(UserError, match="not a saved dictionary, or damaged"):
        load(path)
