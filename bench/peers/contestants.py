"""Who takes part: musae on each of its paths, and each peer in every setting that is tried.

A setting is what a user of the released library can choose without changing it: options of its constructors, the optimiser
where the caller makes it, environment variables. Left out: SAELens's `torch.compile` (tried at the small size on one core of an
EPYC with AVX-512: 3,900 tokens/s against 5,100 without) and its bfloat16 autocast, which is another arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musae.bench.peers.record import STAGES, Stage

HERE = Path(__file__).resolve().parent
HUGE = {"THP_MEM_ALLOC_ENABLE": "1"}
"""Makes PyTorch ask the system for huge pages: fewer page faults in large fresh buffers."""


@dataclass(frozen=True)
class Setting:
    """Options for the contestant's constructor, and environment variables."""

    options: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    stages: tuple[Stage, ...] = STAGES
    """Where it is tried: an optimiser changes nothing about encoding."""


@dataclass(frozen=True)
class Library:
    """A library and the settings in which it is tried; the first one is its default."""

    name: str
    file: Path
    settings: Mapping[str, Setting]
    own: bool = False
    """Whether it is musae, which runs in musae's environment and takes part on every path, not on the fastest."""


_SPARSE = {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False}

_FUSED = {"fused": True}
_TRAINING: tuple[Stage, ...] = ("train",)

PEERS = (
    Library(
        "sparsify",
        HERE / "sparsify_sae.py",
        {
            "default": Setting(),
            "huge pages": Setting(env=HUGE),
            "fused Adam": Setting(_FUSED, stages=_TRAINING),
            "fused Adam, huge pages": Setting(_FUSED, HUGE, _TRAINING),
        },
    ),
    Library(
        "SAELens",
        HERE / "saelens_sae.py",
        {
            "default": Setting(),
            "sparse, no rescaling": Setting(_SPARSE),
            "sparse, no rescaling, huge pages": Setting(_SPARSE, HUGE),
        },
    ),
    Library(
        "dictionary_learning",
        HERE / "dictionary_learning_sae.py",
        {"default": Setting(), "huge pages": Setting(env=HUGE)},
    ),
    Library(
        "overcomplete",
        HERE / "overcomplete_sae.py",
        {
            "default": Setting(),
            "huge pages": Setting(env=HUGE, stages=("encode",)),
            "fused Adam": Setting(_FUSED, stages=_TRAINING),
            "fused Adam, huge pages": Setting(_FUSED, HUGE, _TRAINING),
        },
    ),
)


def musae(device: str) -> Library:
    """musae on the paths that there are for a device."""
    paths = ("portable", "triton" if device == "cuda" else "extension")
    return Library("musae", HERE / "musae_sae.py", {path: Setting({"path": path}) for path in paths}, own=True)
