"""Pre-training of `nano`, reproducible from a seed and resumable in pieces: ``musae pretrain nano --help``.

Stages, each cached under the output folder: tracks -> features (`musae.generators.nano.data`), codec, codes, weights, export.
`musae.generators.nano.train` is the training loop, with its settings.
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, TracebackType

import numpy as np
import torch

from musae import provenance, registry
from musae.activations.tokens import Tokens
from musae.corpora.track import Corpus, Split
from musae.files import atomic_path
from musae.generators.nano import codec as codecs
from musae.generators.nano import data, model
from musae.generators.nano.codec import Codec
from musae.generators.nano.data import Tracks
from musae.generators.nano.train import CLIP, Settings, evaluate, fit, rounded

PACKAGE = Path(__file__).parent
LICENCE = "weights and codec: CC0-1.0 (code: Apache-2.0)"
DATA = (
    "trained only on audio rendered from seeded procedural music and public-domain chorales by J. S. Bach (music21's corpus) "
    "with the General MIDI soundfont TimGM6mb (GPL-2, not contained)"
)


class Budget:
    """Says when to stop: after some minutes, or at SIGTERM or SIGINT while it is entered (in the main thread)."""

    def __init__(self, minutes: float | None) -> None:
        self.end = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self.stopped = False

    def __call__(self) -> bool:
        return self.stopped or time.monotonic() >= self.end

    def __enter__(self) -> Budget:
        self.before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True


def pretrain(
    out: Path,
    settings: Settings,
    *,
    stop: Callable[[], bool] = lambda: False,
    destination: Path = PACKAGE,
    load_corpus: Callable[[str], Corpus] = lambda name: registry.load("corpora", name).load(),
    say: Callable[[str], None] = print,
) -> bool:
    """Go on from whatever `out` holds until training is complete, then `export` to `destination`; True when that is done.

    `stop` is asked between chunks and steps; when it says so, a checkpoint is written and False returned.
    Raises UserError when `out` was begun with other settings or another codec, or the loss is not finite.
    """
    corpora = {name: load_corpus(name) for name in settings.hours}
    codec, train, heldout = prepare(out, settings, corpora, stop=stop, say=say) or (None, {}, {})
    if codec is None or not fit(out, settings, train, heldout, codec.revision, stop=stop, say=say):
        return False
    export(out, settings, corpora, codec, train, heldout, destination, say=say)
    return True


def prepare(
    out: Path, settings: Settings, corpora: Mapping[str, Corpus], *, stop: Callable[[], bool], say: Callable[[str], None]
) -> tuple[Codec, dict[str, Tracks], dict[str, Tracks]] | None:
    """Render, fit the codec, encode -> codec, training tracks and held-out tracks by corpus; None when stopped midway."""
    files: dict[tuple[str, Split], list[Path]] = {}
    for split, limits in ((Split.HELDOUT, dict.fromkeys(corpora, settings.heldout_hours)), (Split.TRAIN, settings.hours)):
        for name, corpus in corpora.items():
            found = data.analyse(corpus, split, limits[name], out / "features", seed=settings.seed, stop=stop, say=say)
            if found is None:
                return None
            files[name, split] = found
    path = out / codec_name(settings, {name: corpus.revision for name, corpus in corpora.items()})
    if not path.is_file():
        share = settings.codec_frames // len(corpora)
        rows = torch.cat([data.sample(files[name, Split.TRAIN], share, settings.seed) for name in corpora])
        say(f"fitting the codec on {len(rows):,} frames")
        codecs.fit(
            rows,
            codewords=settings.codewords,
            seed=settings.seed,
            report=lambda j, rest: say(f"codebook {j + 1}: {rest:.3f} of the variance left"),
        ).save(path)
    codec = Codec.load(path)
    say("encoding")
    train, heldout = (
        {name: data.encode(files[name, split], codec) for name in corpora} for split in (Split.TRAIN, Split.HELDOUT)
    )
    return codec, train, heldout


def codec_name(settings: Settings, revisions: Mapping[str, str]) -> str:
    """The file of the codec in an output folder: its name holds all that the codec depends on. `revisions`: of the corpora."""
    what = [dict(revisions), dict(settings.hours), settings.codec_frames, settings.codewords, settings.seed, codecs.ANALYSIS]
    return f"codec-{hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:10]}.safetensors"


def export(
    out: Path,
    settings: Settings,
    corpora: Mapping[str, Corpus],
    codec: Codec,
    train: Mapping[str, Tracks],
    heldout: Mapping[str, Tracks],
    destination: Path,
    *,
    clips: int = 4300,
    say: Callable[[str], None] = print,
) -> None:
    """Write what ships, from the last checkpoint: ``model`` and ``codec.safetensors``, ``training_codes.npz``, ``card.json``.

    The codes are of `clips` random crops of training tracks, as many of each corpus and in random order, so that their first so
    many are a fair sample: what dictionaries are trained on by default.
    """
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    network = model.build(codewords=settings.codewords, seed=settings.seed, **settings.shape)
    network.load_state_dict(state["weights"], strict=False)
    model.save(network, destination / "model.safetensors")
    codec.save(destination / "codec.safetensors")
    network = model.load(destination / "model.safetensors", codewords=settings.codewords, **settings.shape)
    network.set_attn_implementation("eager")
    losses = {}
    for name, part in heldout.items():
        counted = data.baselines(train[name], part, CLIP, settings.codewords)
        losses[name] = {"model": rounded(evaluate(network, part))} | {
            kind: rounded(torch.tensor(nats)) for kind, nats in counted.items()
        }
        for kind, nats in losses[name].items():
            say(f"held-out {name} {kind:8s} {nats}")
    share = clips // len(train)
    crops = [crops_of(name, corpora[name].revision, part, share, settings.seed, codec.revision) for name, part in train.items()]
    order = np.random.default_rng(settings.seed).permutation(share * len(train))
    Tokens.concat(crops).take(order).save_packed(destination / "training_codes.npz")
    card = {
        "architecture": {
            "class": "transformers.MusicgenForCausalLM",
            **settings.shape,
            "weights": sum(w.numel() for w in model.weights(network).values()),
        },
        "data": DATA,
        "hours": {name: round(len(part.codes) * codecs.HOP / codecs.RATE / 3600, 2) for name, part in train.items()},
        "pieces": {name: len(set(part.groups)) for name, part in train.items()},
        "heldout_hours": {name: round(len(part.codes) * codecs.HOP / codecs.RATE / 3600, 2) for name, part in heldout.items()},
        "corpus_revisions": {name: corpus.revision for name, corpus in corpora.items()},
        "nats_per_codebook_heldout": losses,
        "loss_convention": f"windows of {CLIP} frames from their beginning; the bigram's prior is tuned on the held-out windows",
        "steps": state["step"],
        "of_steps": settings.steps,
        "frames": state["step"] * settings.batch * CLIP,
        "training": {name: value for name, value in settings.fixed().items() if name != "shape"},
        "training_minutes": round(state["seconds"] / 60, 1),
        "machine": f"{provenance.processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "licence": LICENCE,
    }
    with atomic_path(destination / "card.json") as temporary:
        temporary.write_text(json.dumps(card, indent=2) + "\n")
    say(f"exported to {destination}")


def crops_of(name: str, revision: str, tracks: Tracks, count: int, seed: int, codec: str) -> Tokens:
    """`count` random crops of `CLIP` frames as tokens: the tracks in turn, each at a random start."""
    generator = torch.Generator().manual_seed(seed)
    long = (tracks.lengths >= CLIP).nonzero()[:, 0]
    order = torch.cat([long[torch.randperm(len(long), generator=generator)] for _ in range(-(-count // len(long)))])[:count]
    offset = (torch.rand(count, generator=generator) * (tracks.lengths[order] - CLIP + 1)).long()
    starts = offset.numpy() * codecs.HOP / codecs.RATE
    ids = [tracks.ids[i] for i in order.tolist()]
    return Tokens(
        codes=tracks.cut(tracks.bounds[order] + offset, CLIP).numpy().astype(np.uint16),
        clips=np.array([f"{track}@{round(start * 1000):08d}" for track, start in zip(ids, starts, strict=True)]),
        tracks=np.array(ids),
        groups=np.array([tracks.groups[i] for i in order.tolist()]),
        starts=starts,
        corpus=np.zeros(count, np.uint8),
        corpora=(name,),
        revisions=(revision,),
        generator="nano",
        codec=codec,
    )
