"""How true the labels of latents are, at the sizes of `quick`: 50 latents of each dictionary, by the local language model.

Five seeds, since which latents there are to be labelled changes with them. Dictionaries are trained as in `quick`.
"""

from musae.card import SuiteCard

CARD = SuiteCard(
    name="labels",
    summary="labels of 50 latents by the local model, judged against truth: nano, width 2048, k 32, 5 seeds; an hour on a laptop",
    generator="nano",
    layer=5,
    width=2048,
    k=32,
    methods=("topk", "batch_topk"),
    controls=("random", "permuted_decoder", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder", "untrained_generator"),
    baselines=("residual",),
    tasks=("label_precision",),
    corpora=("chorales", "procedural"),
    seeds=(0, 1, 2, 3, 4),
    control_seeds=(0,),
    training_frames=1_048_576,
    clip_seconds=10.24,
    clips={"chorales": 480, "procedural": 800},
    clips_per_track=2,
    labelled=50,
)
