"""Layer of origin: can a classifier tell from which layer a latent comes, by what it is like (`musae.tables.profiles`)?

The latents are the samples of the dictionaries of one size, as many of each layer, whatever their rate. A logistic regression, an
MLP of one hidden layer and the nearest neighbour (by cosine) are cross-validated over latents, stratified by layer. The score is
balanced accuracy, with a bootstrap interval over latents within layers; the null is the same with the layers dealt out at random.

Latents of one number lie in one fold: random twins have the same directions at every layer, and dictionaries of a sweep begin
with the same weights, so that folds which part them put accuracy below chance. Accuracy may lie below chance all the same, of
the nearest neighbour above all: where every layer has one latent for a concept, those nearest to a held-out latent are of the
other layers. Latents of a dictionary share its clips, and near-duplicates may be parted: so the same classifiers on random twins
say how much of it is the layer's stream, and not what was learnt.

The paper's classifier is an MLP, too, but on what it does not say: its numbers (Large 50.3 %, Small 40.5 %) are no reference for
these.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Model = Literal["logistic", "mlp", "nearest"]

MODELS: tuple[Model, ...] = ("logistic", "mlp", "nearest")

FOLDS = 5

LEAST = 25
"""Latents of each layer, at least: five a fold."""

MOST = 200
"""Of each layer, at most."""

PERMUTATIONS = 5

HIDDEN = 64


@dataclass(frozen=True)
class Accuracy:
    """Balanced accuracy of one classifier."""

    value: float
    low: float
    high: float
    by_layer: tuple[float, ...]
    """Share of each layer's latents that are told right, layers ascending."""
    permuted: tuple[float, ...]
    """Balanced accuracy on layers that were dealt out at random, each time."""
    latents: int
    """Of each layer."""


@dataclass(frozen=True, eq=False)
class Latents:
    """Latents of several layers, as many of each, layer by layer."""

    profiles: NDArray[np.float64]
    """``[layers * n, P]``."""
    layers: NDArray[np.int64]
    """The index of each one's layer."""
    numbers: NDArray[np.int64]
    """Its number in its dictionary."""


def balanced(profiles: Mapping[int, tuple[NDArray[np.float64], NDArray[np.int64]]], seed: int = 0) -> Latents:
    """As many latents of each layer, drawn at random. `profiles`: layer -> ``[S, P]``, and the latents' numbers ``[S]``."""
    n = min(MOST, *(len(numbers) for _, numbers in profiles.values()))
    chosen = [np.random.default_rng(seed).permutation(len(profiles[layer][1]))[:n] for layer in sorted(profiles)]
    x, numbers = (
        np.concatenate([profiles[layer][part][some] for layer, some in zip(sorted(profiles), chosen, strict=True)])
        for part in (0, 1)
    )
    return Latents(x, np.repeat(np.arange(len(chosen)), n), numbers)


def classify(latents: Latents, model: Model, *, permutations: int = PERMUTATIONS, seed: int = 0) -> Accuracy:
    """Cross-validated balanced accuracy of a model, its interval and its null."""
    layers = latents.layers
    n, classes = int(np.bincount(layers)[0]), int(layers.max()) + 1
    right = (_predicted(latents, layers, model, seed) == layers).reshape(classes, n)
    rng = np.random.default_rng(seed)
    draws = np.mean([rng.binomial(n, share, 1000) / n for share in right.mean(1)], axis=0)  # a bootstrap of hits and misses
    low, high = np.percentile(draws, (2.5, 97.5))
    null = []
    for _ in range(permutations):
        mixed = rng.permutation(layers)
        null.append(float((_predicted(latents, mixed, model, seed) == mixed).mean()))
    return Accuracy(float(right.mean()), float(low), float(high), tuple(right.mean(1).tolist()), tuple(null), n)


def _predicted(latents: Latents, layers: NDArray[np.int64], model: Model, seed: int) -> NDArray[np.int64]:
    """Out-of-fold predictions."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier: Any = LogisticRegression(C=0.1, max_iter=300)
    if model == "nearest":
        classifier = KNeighborsClassifier(1, metric="cosine")
    elif model == "mlp":
        classifier = MLPClassifier((HIDDEN,), alpha=1.0, max_iter=100, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed number of epochs
        found: NDArray[np.int64] = cross_val_predict(
            make_pipeline(StandardScaler(), classifier),
            latents.profiles,
            layers,
            groups=latents.numbers,
            cv=StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed),
        )
    return found
