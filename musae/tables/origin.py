"""Layer of origin: can a classifier tell from which layer a latent comes, by what it is like (`musae.tables.profiles`)?

The latents are the samples of the dictionaries of one size, as many of each layer, whatever their rate. A logistic regression and
an MLP of one hidden layer are cross-validated over latents, stratified by layer. The score is balanced accuracy, with a bootstrap
interval over latents within layers; the null is the same with the layers dealt out at random. Latents of a dictionary share its
clips, and some are near-duplicates that fall in different folds: so the same classifiers on random twins say how much of it is
the layer's stream, and not what was learnt.

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

Model = Literal["logistic", "mlp"]

MODELS: tuple[Model, ...] = ("logistic", "mlp")

FOLDS = 5

LEAST = 25
"""Latents of each layer, at least: five a fold."""

PERMUTATIONS = 10

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


def balanced(profiles: Mapping[int, NDArray[np.float64]], seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """As many latents of each layer, drawn at random: profiles ``[layers * n, P]`` and their layer's index."""
    rng, n = np.random.default_rng(seed), min(map(len, profiles.values()))
    parts = [profiles[layer][rng.permutation(len(profiles[layer]))[:n]] for layer in sorted(profiles)]
    return np.concatenate(parts), np.repeat(np.arange(len(parts)), n)


def classify(
    x: NDArray[np.float64], layers: NDArray[np.int64], model: Model, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Accuracy:
    """Cross-validated balanced accuracy of a model on balanced profiles, its interval and its null."""
    n, classes = int(np.bincount(layers)[0]), int(layers.max()) + 1
    right = (_predicted(x, layers, model, seed) == layers).reshape(classes, n)
    rng = np.random.default_rng(seed)
    draws = np.mean([rng.binomial(n, share, 1000) / n for share in right.mean(1)], axis=0)  # a bootstrap of hits and misses
    low, high = np.percentile(draws, (2.5, 97.5))
    null = []
    for _ in range(permutations):
        mixed = rng.permutation(layers)
        null.append(float((_predicted(x, mixed, model, seed) == mixed).mean()))
    return Accuracy(float(right.mean()), float(low), float(high), tuple(right.mean(1).tolist()), tuple(null), n)


def _predicted(x: NDArray[np.float64], layers: NDArray[np.int64], model: Model, seed: int) -> NDArray[np.int64]:
    """Out-of-fold predictions."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier: Any = LogisticRegression(C=0.1, max_iter=300)
    if model == "mlp":
        classifier = MLPClassifier((HIDDEN,), alpha=1e-2, early_stopping=True, max_iter=200, random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a null that does not converge is none the less a null
        found: NDArray[np.int64] = cross_val_predict(make_pipeline(StandardScaler(), classifier), x, layers, cv=folds)
    return found
