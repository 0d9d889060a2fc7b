"""The controls that train a part only: what is frozen stays, what is not learns."""

import pytest
import torch

from musae.dictionary import TensorFrames
from musae.errors import UserError
from musae.methods.frozen_decoder import FrozenDecoder
from musae.methods.frozen_encoder import FrozenEncoder
from musae.methods.soft_frozen_decoder import SoftFrozenDecoder
from musae.methods.topk import Topk
from musae.testing import sample_frames

SMALL = {"width": 40, "k": 4, "seed": 5, "batch_size": 50, "epochs": 4}


def trained(method: type[Topk], **more: float) -> tuple[Topk, dict[str, torch.Tensor]]:
    """A trained dictionary, and its parameters before."""
    dictionary = method(**SMALL, **more)
    frames = TensorFrames(sample_frames(1000))
    dictionary.start(frames)
    before = {name: tensor.clone() for name, tensor in dictionary.parameters.items()}
    return dictionary.fit(frames), before


@pytest.mark.parametrize("method", [FrozenDecoder, FrozenEncoder])
def test_what_is_fixed_does_not_move_and_the_rest_does(method: type[Topk]) -> None:
    dictionary, before = trained(method)
    moved = {name for name, tensor in dictionary.parameters.items() if not torch.equal(tensor.detach(), before[name])}
    assert moved == {"W_enc", "b_enc", "W_dec", "b_dec"} - set(method.fixed)


def test_atoms_stay_in_their_cones_and_some_reach_the_rim() -> None:
    dictionary, before = trained(SoftFrozenDecoder, learning_rate=2e-2)
    cosine = (dictionary.atoms * before["W_dec"]).sum(1)
    assert float(cosine.min()) >= 0.8 - 1e-5
    assert float(cosine.min()) == pytest.approx(0.8, abs=1e-5)
    assert torch.allclose(dictionary.atoms.norm(dim=1), torch.ones(40), atol=1e-5)
    free, before = trained(Topk, learning_rate=2e-2)
    assert float((free.atoms * before["W_dec"]).sum(1).min()) < 0.8


def test_the_rim_is_the_nearest_point_of_the_cone() -> None:
    control = SoftFrozenDecoder(width=1, k=1, cosine=0.8)
    control.parameters = {"W_dec": torch.tensor([[0.0, 0.6, 0.8]])}
    control.buffers = {"anchor": torch.tensor([[1.0, 0.0, 0.0]])}
    control.constrain()
    assert torch.allclose(control.parameters["W_dec"], torch.tensor([[0.8, 0.6 * 0.6, 0.6 * 0.8]]))


def test_a_cosine_that_is_no_cone_is_refused() -> None:
    with pytest.raises(UserError, match=r"cosine = 1\.5 must lie between 0 and 1"):
        SoftFrozenDecoder(cosine=1.5)


def test_training_all_of_it_is_better() -> None:
    x = sample_frames(1000)
    left = {
        method: float((d.decode(d.encode(x)) - x).square().mean())
        for method in (Topk, FrozenDecoder, FrozenEncoder, SoftFrozenDecoder)
        for d in [trained(method)[0]]
    }
    assert min(left, key=left.__getitem__) is Topk


@pytest.mark.parametrize("method", [FrozenDecoder, FrozenEncoder])
def test_what_is_fixed_does_not_start_anew(method: type[Topk]) -> None:
    with pytest.raises(UserError, match="resample = 2 would change what is fixed here"):
        method(resample=2)
