"""What is done to the stream, exactly."""

import pytest
import torch

from musae.errors import UserError
from musae.methods.random import Random
from musae.steering import interventions


@pytest.fixture
def dictionary():
    """Three latents of a stream of three: the first two are read along axes 0 and 1 and write along 2 and (0, 1)."""
    made = Random(width=3, k=3)
    made.tensors = {
        "W_enc": torch.eye(3),
        "b_enc": torch.tensor([0.0, -1.0, 0.0]),
        "W_dec": torch.tensor([[0.0, 0.0, 2.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]),
        "b_dec": torch.tensor([5.0, 5.0, 5.0]),
    }
    return made


X = torch.tensor([[[1.0, 3.0, 0.0], [-1.0, 0.5, 0.0]]])


def test_add_is_alpha_beta_atom(dictionary):
    vector = interventions.combined(dictionary, [0, 1], [1.5 * 2.0, -1.5 * 4.0])
    assert vector.tolist() == [-3.0, -3.0, 6.0]
    assert torch.equal(interventions.add(vector)(X), X + vector)


def test_ablate_takes_away_what_the_latent_wrote_and_nothing_else(dictionary):
    got = interventions.ablate(dictionary, [1])(X)
    assert got.tolist() == [[[1.0 - 0.5 * 2.0, 3.0 - 0.5 * 2.0, 0.0], [-1.0, 0.5, 0.0]]]  # its activations are 2 and 0
    rows = X.view(-1, 3)
    code = dictionary.encode(rows)
    kept = dictionary.decode(code) - code.dense()[:, 1:2] * dictionary.atoms[1]
    assert torch.allclose(got.view(-1, 3), kept + rows - dictionary.decode(code))  # the error of the dictionary stays


def test_clamp_sets_each_latent_to_its_value(dictionary):
    got = interventions.clamp(dictionary, [0, 1], [4.0, 0.5])(X)
    expected = X + torch.tensor([[[-0.5 * 1.5, -0.5 * 1.5, 2.0 * 3.0], [0.25, 0.25, 2.0 * 4.0]]])
    assert torch.allclose(got, expected)


def test_a_value_that_is_there_already_changes_nothing(dictionary):
    assert torch.equal(interventions.clamp(dictionary, [1], [2.0])(X)[:, :1], X[:, :1])


def test_latents_that_are_not_there_and_dictionaries_that_read_earlier_frames_are_refused(dictionary):
    with pytest.raises(UserError, match="latent 3: this random dictionary has latents 0 to 2"):
        interventions.combined(dictionary, [3], [1.0])
    with pytest.raises(UserError, match="latent -1"):
        interventions.ablate(dictionary, [-1])
    dictionary.context = "causal"
    with pytest.raises(UserError, match="reads earlier frames"):
        interventions.ablate(dictionary, [0])
