"""What tasks are given."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse

from musae.testing_tasks import planted_features, stream_features, synthetic_heldout


@pytest.mark.parametrize("limit", [120 * 32, 120 * 32 - 1, 1000, 500, 120])
def test_probe_rows_are_every_s_th_frame_of_every_clip_within_the_limit(limit):
    data = replace(synthetic_heldout(), probe_frames=limit)
    rows = data.probe_rows.reshape(len(data.clips), -1)
    assert rows.size <= limit
    stride = np.unique(np.diff(rows, axis=1)) if rows.shape[1] > 1 else np.array([32])
    assert len(stride) == 1
    assert (rows[:, -1] % 32 == 31).all()
    denser = stride[0] - 1
    assert denser == 0 or len(data.clips) * -(-32 // denser) > limit


def test_once_is_made_once_per_data():
    data, calls = synthetic_heldout(pieces=5), []
    for _ in range(2):
        assert data.once("key", lambda: calls.append(1) or 7) == 7
    assert len(calls) == 1
    replace(data, layer=2).once("key", lambda: calls.append(1))
    assert len(calls) == 2


def test_clip_means_are_sparse_where_the_code_is():
    data = synthetic_heldout(pieces=5)
    assert isinstance(planted_features(data).sparse_means(np.arange(3)), scipy.sparse.csr_array)
    assert isinstance(stream_features(data).sparse_means(np.arange(3)), np.ndarray)


def test_a_dense_code_holds_the_probe_rows_only():
    data = replace(synthetic_heldout(pieces=5), probe_frames=40)
    x, features = data.x.reshape(-1, data.x.shape[2]), stream_features(data)
    assert features.code.shape == (40, features.width)
    assert features.at(data.probe_rows) is features.code
    some = data.probe_rows[[39, 3, 3, 17]]
    np.testing.assert_array_equal(features.at(some), x[some])
    for stranger in (data.probe_rows[0] + 1, len(x), -1):
        with pytest.raises(ValueError, match=f"no row {stranger};"):
            features.at(np.array([data.probe_rows[1], stranger]))


def test_a_sparse_code_holds_every_row():
    data = synthetic_heldout(pieces=5)
    rows = np.array([7, 2, 300])
    found = planted_features(data).at(rows)
    assert isinstance(found, scipy.sparse.csr_array)
    np.testing.assert_array_equal(found.toarray(), np.maximum(data.x.reshape(-1, data.x.shape[2])[rows], 0))
