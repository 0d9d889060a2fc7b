"""The success rule of Singh et al. (arXiv 2505.18186), where a CLAP checkpoint is given.

Steering a latent succeeds on a prompt if the continuation at alpha = 1 is more like the latent's exemplars than that at
alpha = 0, by CLAP. The paper reports the share of its features that succeed on one prompt; here it is the share of fresh prompts,
for each concept's latents, beside that of random directions of the same norm. The rule judges latents by what they fire on, so it
says nothing of the concept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from musae.activations.store import Store
from musae.dictionary import Dictionary
from musae.generators.generator import Generator
from musae.steering import effects
from musae.steering.continuations import UNSTEERED, Intervention
from musae.steering.ears import Ear
from musae.steering.experiment import Experiment, shift_of
from musae.steering.report import Found, PaperRule

EXEMPLARS = 10
"""Clips in which a latent is most active: the paper's."""

CLIPS = 512
"""Training clips among which they are looked for."""

RANDOM = 4
"""Random directions of the same norm."""


class Clap(Protocol):
    """What is asked of `musae.clap.Clap`."""

    @property
    def revision(self) -> str:
        """Changes with the weights."""

    def audio(self, waves: Sequence[NDArray[np.float32]], rate: int) -> NDArray[np.float32]:
        """Unit vectors ``[n, d]`` of clips."""


def judge(experiment: Experiment, found: Sequence[Found], store: Store, clap: Clap) -> list[Found]:
    """The results with the rule's verdict on each that is scored."""
    generator, rate = experiment.continuations.generator, experiment.continuations.generator.card.rate
    ear = Ear("clap", (), lambda audio, rate: clap.audio([audio], rate)[0].astype(np.float64), clap.revision)
    sets = list(dict.fromkeys(one.latents for one in found if one.beyond_random is not None))
    clips = exemplars(experiment.dictionary, store, sets, experiment.latents.largest)
    rules: dict[tuple[int, ...], PaperRule] = {}
    for i, (latents, chosen) in enumerate(zip(sets, clips, strict=True)):
        experiment.progress("CLAP", i, len(sets))
        likened = clap.audio(_decoded(generator, store, chosen), rate).mean(0).astype(np.float64)
        rules[latents] = _rule(experiment, latents, likened, ear)
    experiment.progress("CLAP", len(sets), len(sets))
    return [one.model_copy(update={"paper_rule": rules.get(one.latents)}) for one in found]


def exemplars(
    dictionary: Dictionary, store: Store, sets: Sequence[tuple[int, ...]], largest: NDArray[np.float64]
) -> list[NDArray[np.int64]]:
    """Clips ``[EXEMPLARS]`` in which each set of latents peaks highest, as a share of their largest activations, best first."""
    clips = np.sort(np.random.default_rng(0).choice(len(store.tokens), min(CLIPS, len(store.tokens)), replace=False))
    peaks = []
    for part in store.clips(clips):
        frames = part.flatten(0, 1) if dictionary.context == "frame" else part
        code = dictionary.encode(frames).dense().view(len(part), part.shape[1], -1)
        each = [(code[:, :, list(some)] / torch.tensor(largest[list(some)], dtype=code.dtype)).sum(2).amax(1) for some in sets]
        peaks.append(torch.stack(each, dim=1))
    order = torch.cat(peaks).argsort(dim=0, descending=True, stable=True).numpy()
    return [clips[order[:EXEMPLARS, i]] for i in range(len(sets))]


def _decoded(generator: Generator, store: Store, clips: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    return [generator.decode(store.tokens.tensor([i]))[0].numpy() for i in clips]


def _rule(experiment: Experiment, latents: tuple[int, ...], likened: NDArray[np.float64], ear: Ear) -> PaperRule:
    vector = experiment.direction(latents)
    others = experiment.random(RANDOM, "null")

    def likeness(what: Intervention) -> NDArray[np.float64]:
        """Mean cosine with the exemplars ``[seeds, n]``."""
        heard = [experiment.continuations.heard(experiment.fresh, what, seed, [ear])["clap"] for seed in experiment.seeds]
        found: NDArray[np.float64] = np.stack(heard) @ likened
        return found

    plain, steered = likeness(UNSTEERED), likeness(experiment.adds(vector))
    random = np.stack([likeness(experiment.adds(other * vector.norm())) for other in others])
    gains = np.stack([effects.shift(one, plain, 1) for one in random])
    return PaperRule(
        strength=float(vector.norm()) / experiment.reference.spread,
        success=float((steered > plain).mean()),
        random=float((random > plain).mean()),
        gain=shift_of(effects.effect(effects.shift(steered, plain, 1))),
        beyond_random=shift_of(effects.beyond(effects.shift(steered, plain, 1), gains)),
    )
