"""A suite of what this package brings, beside musae's own."""

from musae.card import SuiteCard

CARD = SuiteCard(
    name="plugged",
    summary="this package's method, task, corpus and generator; seconds",
    generator="musae-example/nano_again",
    layer=1,
    width=48,
    k=4,
    methods=("musae-example/drawn", "pca"),
    baselines=(),
    tasks=("musae-example/busy_clips", "sparsity"),
    corpora=("musae-example/tones",),
    seeds=(0, 1),
    training_frames=2_048,
    clip_seconds=5.12,
    clips={"musae-example/tones": 12},
    replicates=100,
)
