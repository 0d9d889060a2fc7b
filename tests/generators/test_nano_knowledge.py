"""What nano knows: on held-out pieces its probes beat those of the same architecture with random weights.

Slow: renders 960 clips and runs two generators on them (two to four minutes). `pytest -m slow -s` prints the table. A tempo
probe of the chorales wants this many clips: with 150 of them its difference is not separated from zero.
"""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, r2_score

from musae import registry
from musae.activations.tokens import tokenize
from musae.corpora.track import Split
from musae.scores import mir, probe, spread
from musae.scores.probe import Classes, Tags, Values
from musae.suites.quick import CARD as SUITE

CLIPS = 480
STRIDE = 4
REPLICATES = 200
WITHIN = 0.04
"""On the beat: at most so many seconds from it, one frame."""


def concepts(clips, times):
    """Targets of each concept: root and beat of frames ``[n * T]``, tempo and families of clips ``[n]``."""
    centres = times - (times[1] - times[0]) / 2
    annotations = [clip.annotations for clip in clips]
    roots = [[next((s.label for s in a.chords if s.start <= t < s.end), "N") for t in centres] for a in annotations]
    names = sorted({name for row in roots for name in row})
    index = dict(zip(names, mir.chord_classes(names, "root"), strict=True))
    beats = [np.abs(centres[:, None] - np.array(a.beats)[None]).min(1, initial=9) <= WITHIN for a in annotations]
    families = sorted({name for a in annotations for name in a.instruments})
    held = np.array([[name in a.instruments for name in families] for a in annotations])
    return {
        "root": np.array([[index[name] for name in row] for row in roots]),
        "beat": np.array(beats).astype(int),
        "log-tempo": np.log2([a.tempo for a in annotations]),
        "instrument": held[:, (held.sum(0) >= 15) & (held.sum(0) <= len(held) - 15)],
    }


def knowledge(x, truth, folds, columns):
    """Concept -> truth and out-of-fold answers of linear probes on a stream ``[n, T, d]``, one entry a clip."""
    frames = x[:, columns].reshape(-1, x.shape[2])
    repeated = np.repeat(folds, len(columns))
    root, beat = truth["root"][:, columns].ravel(), truth["beat"][:, columns].ravel()
    found = probe.crossfit(frames, repeated, [Classes(root, 13), Classes(beat, 2)], (None,))
    clip = probe.crossfit(x.mean(1), folds, [Values(truth["log-tempo"]), Tags(truth["instrument"])], (None,))
    return {
        "root": (root.reshape(len(x), -1), found[0][None].argmax(1).reshape(len(x), -1)),
        "beat": (beat.reshape(len(x), -1), found[1][None].argmax(1).reshape(len(x), -1)),
        "log-tempo": (truth["log-tempo"], clip[0][None][:, 0]),
        "instrument": (truth["instrument"], clip[1][None]),
    }


METRICS = {
    "root": lambda t, a: (t[t >= 0] == a[t >= 0]).mean(),
    "beat": lambda t, a: balanced_accuracy_score(t.ravel(), a.ravel()),
    "log-tempo": lambda t, a: r2_score(t, a),
    "instrument": lambda t, a: average_precision_score(t, a, average="macro"),
}
"""Accuracy of frames, balanced accuracy of frames, R2 of clips, macro mAP of clips."""


@pytest.mark.slow
@pytest.mark.parametrize("corpus_name", ["procedural", "chorales"])
def test_nano_beats_its_untrained_self(corpus_name):
    nano = registry.load("generators", "nano").load()
    corpus = registry.load("corpora", corpus_name).load()
    clips = corpus.clips(Split.HELDOUT, seconds=SUITE.clip_seconds, limit=CLIPS)
    tokens = tokenize(nano, corpus, clips)
    _, pieces = np.unique([clip.group for clip in clips], return_inverse=True)
    folds = spread.random(corpus.revision, "folds").permutation(np.arange(pieces.max() + 1) % 5)[pieces]
    truth = concepts(clips, nano.times(tokens.frames).numpy())
    columns = np.arange(STRIDE - 1, tokens.frames, STRIDE)
    answers = {}
    for name, generator in {"trained": nano, "untrained": nano.untrained(0)}.items():
        batches = torch.from_numpy(tokens.codes.astype(np.int64)).split(16)
        x = torch.cat([generator.stream(batch, (SUITE.layer,))[SUITE.layer] for batch in batches]).numpy()
        answers[name] = knowledge(x, truth, folds, columns)
    rng = np.random.default_rng(0)
    samples = [
        np.concatenate([np.flatnonzero(pieces == p) for p in rng.integers(0, pieces.max() + 1, pieces.max() + 1)])
        for _ in range(200)
    ]
    for concept, metric in METRICS.items():
        (t, a), (_, b) = answers["trained"][concept], answers["untrained"][concept]
        differences = np.array([metric(t[s], a[s]) - metric(t[s], b[s]) for s in samples])
        low, high = np.percentile(differences, (2.5, 97.5))
        print(f"{corpus_name} {concept}: {metric(t, a):.3f}, untrained {metric(t, b):.3f}, difference [{low:.3f}, {high:.3f}]")
        assert low > 0, f"{corpus_name} {concept}"
