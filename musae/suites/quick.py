"""The suite behind `make leaderboard`: one layer of the embedded generator, minutes on a laptop.

Layer 5 of 6: of layers 3 to 6, probes of chord root and beat read most there, on 200 clips of training pieces of each corpus
(layer 6 reads chord quality a little better, and beat and tempo worse).
"""

from musae.card import SuiteCard

CARD = SuiteCard(
    name="quick",
    summary="one layer of nano, width 2048, k 32, 1 M frames, 3 seeds; minutes on a laptop",
    generator="nano",
    layer=5,
    width=2048,
    k=32,
    version=2,
    methods=("topk", "pca", "random"),
    controls=("permuted_decoder", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder", "untrained_generator"),
    baselines=("residual", "codec_step", "codec_means"),
    tasks=("reconstruction", "sparsity", "chords", "key", "tempo", "instrument"),
    corpora=("chorales", "procedural"),
    seeds=(0, 1, 2),
    control_seeds=(0,),
    training_frames=1_048_576,
    clip_seconds=10.24,
    clips={"chorales": 480, "procedural": 800},
    clips_per_track=2,
)
