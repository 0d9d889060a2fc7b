"""From a workspace and a dictionary to an experiment: ears, prompts, reference frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from musae import accuracy, registry
from musae.corpora.track import Clip, Corpus, Split
from musae.dictionary import Dictionary
from musae.errors import UserError
from musae.labelled import LabelledStore
from musae.steering import concepts as targets
from musae.steering import ears as measures
from musae.steering import lessons, quality, reference, register, timbre
from musae.steering.concepts import Concept
from musae.steering.continuations import Continuations, Prompts
from musae.steering.ears import Ear
from musae.steering.experiment import Design, Experiment
from musae.workspace import Workspace

ESTIMATORS = {"key": "essentia_key", "root": "essentia_chords", "tempo": "essentia_rhythm"}


@dataclass(frozen=True, eq=False)
class Ears:
    """The ears that there are, and what is known of all of them."""

    known: Mapping[str, Ear]
    remarks: Mapping[str, str]
    """Kind -> how well it hears, or why it does not."""
    quality: Ear


@dataclass(frozen=True)
class Lengths:
    """Seconds of a prompt, and of its continuation. nano knows clips of 10.24 s; tempo needs 5 s."""

    prompt: float = 2.56
    continuation: float = 5.12


def listen(workspace: Workspace, corpus: Corpus, seconds: float) -> Ears:
    """The ears of a suite's generator; instruments, register and quality are learnt from clips of a corpus."""
    known, remarks = dict[str, Ear](), dict[str, str]()
    given = lessons.give(corpus, workspace.generator, seconds=seconds, progress=workspace.progress)
    try:
        families = timbre.learn(given)
        known["instrument"], remarks["instrument"] = measures.instrument(families), _said(families)
    except UserError as error:
        remarks["instrument"] = f"not heard: {error}"
    try:
        pitches = register.learn(given)
        known["register"], remarks["register"] = measures.register(pitches), _said_of_pitch(pitches)
    except UserError as error:
        remarks["register"] = f"not heard: {error}"
    for kind, make in (("key", measures.key), ("root", measures.root), ("tempo", measures.tempo)):
        try:
            known[kind] = make()
        except UserError as error:
            remarks[kind] = f"not heard: {error}"
            continue
        name = ESTIMATORS[kind]
        tool = registry.make("estimators", name)
        remarks[kind] = "; ".join(accuracy.lines(name, tool.card, tool.revision, tool.card.concepts[:1]))
    return Ears({kind: known[kind] for kind in targets.KINDS if kind in known}, remarks, quality.ear(given))


def _said(learnt: timbre.Timbre) -> str:
    parts = []
    for kind, found in learnt.accuracy.items():
        each = ", ".join(f"{family} {accuracy.short(value)}" for family, value in found.items() if family != "mean")
        parts.append(f"AUROC on held-out clips, {kind}: mean {accuracy.short(found.get('mean'))} ({each})")
    return "; ".join(parts)


def _said_of_pitch(learnt: register.Register) -> str:
    each = (
        f"{kind}: r {accuracy.short(correlation)}, mean absolute error {error:.1f} semitones"
        for kind, (correlation, error) in learnt.accuracy.items()
    )
    return f"mean pitch against exact notes of held-out clips, {'; '.join(each)}; always guessing the mean {learnt.guess:.1f}"


def concepts(ears: Ears, names: Sequence[str]) -> list[Concept]:
    """The concepts asked for. Raises UserError for one that nothing here can hear."""
    for name in names:
        kind = name.split(" ")[0]
        if kind in ears.remarks and kind not in ears.known:
            raise UserError(f"--concept {name!r}: {ears.remarks[kind]}")
    return targets.choose(list(ears.known.values()), names)


def prompts(corpus: Corpus, workspace: Workspace, seconds: float, count: int) -> tuple[Prompts, Prompts]:
    """Beginnings of held-out clips of `count` pieces for development, and of `count` others; one of each piece.

    Raises UserError where there are too few pieces.
    """
    clips = corpus.clips(Split.HELDOUT, seconds=seconds)
    first = {clip.group: clip for clip in reversed(clips)}
    names = np.random.default_rng(0).permutation(np.array(sorted(first)))[: 2 * count]
    if len(names) < 2 * count:
        raise UserError(
            f"{corpus.card.name}: --prompts {count} wants {2 * count} held-out pieces, and there are {len(names)}; ask for fewer."
        )
    found: list[Clip] = [first[str(name)] for name in names]
    audio = np.stack(list(corpus.audio(found, workspace.generator.card.rate)))
    codes = workspace.generator.encode(torch.from_numpy(audio))
    pieces = tuple(map(str, names))
    return Prompts(codes[:count], pieces[:count]), Prompts(codes[count:], pieces[count:])


def training(workspace: Workspace) -> LabelledStore:
    """The frames that candidates are drawn from, with their labels."""
    return LabelledStore(workspace.training(), {name: workspace.corpus(ours) for name, ours in workspace.corpus_names.items()})


def experiment(
    workspace: Workspace,
    corpus: Corpus,
    store: LabelledStore,
    dictionary: Dictionary,
    ears: Ears,
    asked: Sequence[Concept],
    folder: Path,
    *,
    design: Design,
    lengths: Lengths,
    count: int,
) -> Experiment:
    """An experiment on `count` prompts for development and as many fresh ones; what it computes is kept in `folder`."""
    generator, suite = workspace.generator, workspace.suite
    development, fresh = prompts(corpus, workspace, lengths.prompt, count)
    say = partial(workspace.progress, "labels of training frames")
    say(0, 1)
    frames = reference.gather(store, generator, asked, ears.known, folder)
    say(1, 1)
    return Experiment(
        dictionary=dictionary,
        reference=frames,
        latents=reference.latents(dictionary, frames),
        probes=reference.probe_directions(frames),
        ears=ears.known,
        quality=ears.quality,
        continuations=Continuations(generator, suite.layer, round(lengths.continuation * generator.card.frame_rate), folder),
        development=development,
        fresh=fresh,
        design=design,
        progress=workspace.progress,
    )
