"""Layer of origin: found where it is planted, at chance where it is not, and not below it."""

import numpy as np
import pytest

from musae.tables import origin


def layers(shift, n=60, columns=6, seed=0):
    """Three layers of latents, whose columns are moved by `shift` from one layer to the next."""
    rng = np.random.default_rng(seed)
    return {layer: (rng.normal(shift * layer, 1, (n + layer, columns)), np.arange(n + layer)) for layer in range(3)}


@pytest.mark.parametrize("model", origin.MODELS)
def test_planted_layers_are_told_and_permuted_ones_are_not(model):
    found = origin.classify(origin.balanced(layers(1.0)), model, permutations=3)
    assert found.low > 0.5
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(np.mean(found.by_layer))
    assert found.latents == 60
    assert abs(np.mean(found.permuted) - 1 / 3) < 0.12
    assert max(found.permuted) < found.low


def test_what_differs_by_nothing_is_at_chance():
    found = origin.classify(origin.balanced(layers(0.0, n=200)), "logistic", permutations=0)
    assert abs(found.value - 1 / 3) < 0.08
    assert found.permuted == ()


def test_latents_that_are_alike_at_all_layers_are_not_below_chance():
    """Latent j is the same at each layer: folds that parted its twins would learn to say the wrong layer."""
    x = np.random.default_rng(0).normal(size=(100, 60))
    same = {layer: (x + np.random.default_rng(layer).normal(0, 0.1, x.shape), np.arange(100)) for layer in range(2)}
    found = origin.classify(origin.balanced(same), "logistic", permutations=0)
    assert found.value > 0.4


def test_one_latent_a_concept_at_every_layer_is_below_chance():
    """Under another number at each layer: the nearest to a held-out latent is the same concept at another layer."""
    x = np.random.default_rng(0).normal(size=(60, 30))
    order = [np.random.default_rng(layer).permutation(60) for layer in range(3)]
    noisy = {layer: x[o] + np.random.default_rng(9 + layer).normal(0, 0.1, x.shape) for layer, o in enumerate(order)}
    found = origin.classify(origin.balanced({k: (v, np.arange(60)) for k, v in noisy.items()}), "nearest", permutations=0)
    assert found.high < 0.15


def test_as_many_of_each_layer():
    latents = origin.balanced(layers(1.0))
    assert np.bincount(latents.layers).tolist() == [60, 60, 60]
    assert all(len(np.unique(latents.numbers[latents.layers == layer])) == 60 for layer in range(3))
