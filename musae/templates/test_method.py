"""`my_method` keeps the contract of a method, and does what it says."""

import torch

from musae.dictionary import TensorFrames
from musae.templates.method import MyMethod
from musae.testing import check_method, sample_frames


def test_it_keeps_the_contract() -> None:
    check_method(MyMethod)


def test_atoms_are_frames_at_norm_1() -> None:
    x = sample_frames()
    fitted = MyMethod(width=16, k=2, seed=1).fit(TensorFrames(x))
    centred = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    assert torch.allclose((centred @ fitted.atoms.T).max(0).values, torch.ones(16), atol=1e-5)
