"""A suite that trains and scores in seconds."""

from musae.card import SuiteCard

TINY = SuiteCard(
    name="tiny",
    summary="for tests",
    generator="nano",
    layer=2,
    width=64,
    k=4,
    methods=("topk", "pca", "random"),
    baselines=("codec_means",),
    tasks=("reconstruction", "sparsity"),
    corpora=("procedural",),
    seeds=(0, 1),
    training_frames=10_240,
    clip_seconds=10.24,
    clips={"procedural": 12},
    replicates=100,
)
