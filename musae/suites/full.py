"""The suite behind a published table: more seeds, twice the width, every held-out clip."""

from musae.card import SuiteCard

CARD = SuiteCard(
    name="full",
    summary="one layer of nano, width 4096, k 32, 4 M frames, 5 seeds; an hour or two on a laptop",
    generator="nano",
    layer=5,
    width=4096,
    k=32,
    version=2,
    methods=("topk", "pca", "random"),
    controls=("permuted_decoder", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder", "untrained_generator"),
    baselines=("residual", "codec_step", "codec_means"),
    tasks=("reconstruction", "sparsity", "chords", "key", "tempo", "instrument"),
    corpora=("chorales", "procedural"),
    seeds=(0, 1, 2, 3, 4),
    control_seeds=(0,),
    training_frames=4_194_304,
    clip_seconds=10.24,
    clips={"chorales": 960, "procedural": 1440},
    clips_per_track=3,
)
