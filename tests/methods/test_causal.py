"""A dictionary whose codes depend on earlier frames satisfies the whole contract: training, conformance, scoring."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor
from torch.nn import functional

from musae import registry
from musae.autoencoder import Autoencoder, fired
from musae.dictionary import SparseCode
from musae.kernels.sparse_decode import sparse_decode
from musae.kernels.topk_encode import topk_encode
from musae.tasks.reconstruction import _decode
from musae.testing import CLIP, check_method, check_rows_independent, sample_frames, source_of
from musae.workspace import encode


class Leaky(Autoencoder):
    """TopK of a frame to which a third of the one before it is added: reads sequences in training, clips when it is frozen."""

    name = "leaky"
    context = "causal"
    sequence = 4
    rule = "topk"

    def loss(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        assert x.shape[1:] == (4, 24)
        return super().loss(x.flatten(0, 1))

    def objective(self, z: Tensor) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor]:
        p = self.parameters
        values, indices = topk_encode(smeared(z.unflatten(0, (-1, 4))), p["W_enc"], p["b_enc"], self.k)
        z_hat = sparse_decode(values, indices, p["W_dec"], p["b_dec"])
        return functional.mse_loss(z_hat, z), {}, z_hat, fired(values, indices, self.width)

    def folded(self) -> dict[str, Tensor]:
        return super().folded() | {"centre": self.buffers["centre"].double()}

    def encode(self, x: Tensor) -> SparseCode:
        self._tensor("W_dec")
        centre = self.tensors["centre"]
        from_centre = smeared(self.checked(x) - centre) + centre
        return SparseCode.from_topk(*topk_encode(from_centre, self.tensors["W_enc"], self.tensors["b_enc"], self.k), self.width)


def smeared(x: Tensor) -> Tensor:
    """Clips ``[clips, T, d]`` as rows, each with a third of the one before it in its clip."""
    return (x + functional.pad(x[:, :-1], (0, 0, 1, 0)) / 3).flatten(0, 1)


class LookingAhead(Leaky):
    def encode(self, x: Tensor) -> SparseCode:
        return super().encode(x.flip(1))


class AcrossClips(Leaky):
    def encode(self, x: Tensor) -> SparseCode:
        return super().encode(x.flatten(0, 1).unsqueeze(0) if x.ndim == 3 else x)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry knows the method."""
    load, find = registry.load, registry.find
    here = SimpleNamespace(METHOD=Leaky)
    entry = SimpleNamespace(card=SimpleNamespace(features="latents"))
    monkeypatch.setattr(registry, "load", lambda kind, name: here if name == "leaky" else load(kind, name))
    monkeypatch.setattr(registry, "find", lambda kind, name: entry if name == "leaky" else find(kind, name))


@pytest.mark.usefixtures("found")
def test_a_causal_dictionary_conforms() -> None:
    check_method(Leaky)
    check_method(Leaky(width=40, k=3, batch_size=64).fit(source_of(sample_frames(320))))


@pytest.mark.parametrize("broken", [LookingAhead, AcrossClips])
def test_what_is_not_causal_is_noticed(broken: type[Leaky]) -> None:
    dictionary = broken(width=40, k=3, batch_size=64).fit(source_of(sample_frames(320)))
    with pytest.raises(AssertionError, match="later frames, or with other clips"):
        check_rows_independent(dictionary, sample_frames(320))


@pytest.mark.usefixtures("found")
def test_a_causal_dictionary_is_encoded_by_clips_and_decoded_by_rows() -> None:
    x = sample_frames(640)
    dictionary = Leaky(width=40, k=3, batch_size=64).fit(source_of(x))
    clips = x.view(-1, CLIP, 24)
    data: Any = SimpleNamespace(x=clips.numpy())
    features = encode(dictionary, data)
    assert isinstance(features.code, scipy.sparse.csr_array)
    expected = dictionary.encode(clips)
    assert np.array_equal(features.code.toarray(), expected.dense().numpy())
    assert np.allclose(features.clip_means, expected.dense().view(-1, CLIP, 40).mean(1), atol=1e-6)
    some = np.array([3, 70, 5])
    rebuilt = _decode(dictionary, features.code, some, CLIP).view(3, CLIP, 24)
    assert torch.allclose(rebuilt, dictionary.decode(expected).view(-1, CLIP, 24)[some], atol=1e-5)
