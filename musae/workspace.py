"""A suite's run on disk: where its stores, dictionaries and rows lie, and how each is made once.

Everything is found by what it depends on, never by a name alone: stores by generator, layer and tokens; dictionaries by method,
hyper-parameters, seed, store and the code that learns; rows by the dictionary's content hash. So whatever exists is right, and
running the same command again goes on where it stopped.

    <root>/activations/...                      stores (see musae.activations.store)
    <root>/<suite>-v<version>-<code>/dictionaries/<method>-s<seed>-<hash>.safetensors
    <root>/<suite>-v<version>-<code>/results/... rows (see musae.results)

`<code>` is a digest of the sources that decide a score, so that rows of edited code never mix with older ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from musae import registry
from musae.card import GeneratorCard, MethodCard, SuiteCard, TaskCard
from musae.errors import UserError

if TYPE_CHECKING:
    from musae.activations.store import Store
    from musae.activations.tokens import Tokens
    from musae.corpora.track import Clip, Corpus
    from musae.dictionary import FeatureSet, Report
    from musae.generators.generator import Generator
    from musae.scores.heldout import Features, HeldOut

FOLDS = 5
"""Folds of the cross-fitted probes: whole pieces, sizes differing by at most one, fixed by the corpus revision."""

Progress = Callable[[str, int, int], None]
"""Receives (what is being done, how much of it is done, how much there is)."""

SOURCES = ("dictionary.py", "training.py", "workspace.py", "evaluate.py", "kernels", "methods", "scores", "corpora", "generators")
"""Parts of the package that decide a score, beside the tasks."""


@cache
def code_digest() -> str:
    """Eight hex digits over the sources that decide a score."""
    here = Path(__file__).parent
    tasks = registry.folder("tasks")
    files = [f for name in SOURCES for f in ([here / name] if name.endswith(".py") else sorted((here / name).rglob("*.py")))]
    digest = hashlib.sha256()
    for file in [*files, *sorted(tasks.glob("*.py"))]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:8]


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass
class Workspace:
    """The artefacts of one suite under one folder. Every property computes what is missing and keeps it on disk."""

    suite: SuiteCard
    root: Path
    progress: Progress = _silent
    _heldout: dict[str, HeldOut] = field(default_factory=dict, repr=False)

    @property
    def home(self) -> Path:
        """Folder of this suite's dictionaries and rows."""
        return self.root / f"{self.suite.name}-v{self.suite.version}-{code_digest()}"

    @property
    def results(self) -> Path:
        """Folder of this suite's rows."""
        return self.home / "results"

    @cached_property
    def generator(self) -> Generator:
        """The suite's generator."""
        return cast("Generator", registry.load("generators", self.suite.generator).load())

    @property
    def generator_card(self) -> GeneratorCard:
        """The generator's card, without loading it."""
        return cast(GeneratorCard, registry.find("generators", self.suite.generator).card)

    @property
    def frames_per_clip(self) -> int:
        """Frames T of each clip."""
        return int(round(self.suite.clip_seconds * self.generator_card.frame_rate, 6))

    def corpus(self, name: str) -> Corpus:
        """A corpus, loaded once per process."""
        return _corpus(name)

    def clips(self, corpus: str) -> Sequence[Clip]:
        """The held-out clips of a corpus that the suite scores on."""
        from musae.corpora.track import Split

        suite = self.suite
        return self.corpus(corpus).clips(
            Split.HELDOUT, seconds=suite.clip_seconds, per_track=suite.clips_per_track, limit=suite.clips[corpus]
        )

    @cached_property
    def training(self) -> Store:
        """Activations that dictionaries are trained on: the first clips that make `suite.training_frames`."""
        return self._harvest("training activations", self._training_tokens())

    def _training_tokens(self) -> Tokens:
        """Shipped with the generator where it ships enough; otherwise rendered from the corpora's training pieces."""
        from musae.activations.tokens import Tokens, tokenize
        from musae.corpora.track import Split

        wanted = -(-self.suite.training_frames // self.frames_per_clip)
        shipped: Callable[[], Tokens] | None = getattr(registry.load("generators", self.suite.generator), "training_tokens", None)
        if shipped is not None:
            tokens = shipped()
            if len(tokens) >= wanted and tokens.frames == self.frames_per_clip:
                return tokens.take(slice(wanted))
        parts = []
        for name in self.suite.corpora:
            corpus = self.corpus(name)
            share = wanted // len(self.suite.corpora) + (name == self.suite.corpora[0]) * (wanted % len(self.suite.corpora))
            per_track = -(-share // len(corpus.tracks(Split.TRAIN)))
            clips = corpus.clips(Split.TRAIN, seconds=self.suite.clip_seconds, per_track=per_track, limit=share)
            if len(clips) < share:
                raise UserError(
                    f"suite {self.suite.name!r}: training_frames = {self.suite.training_frames} wants {share} training clips of "
                    f"{name!r}, which has {len(clips)}; lower training_frames."
                )
            label = f"tokens of {name} (training)"
            parts.append(tokenize(self.generator, corpus, clips, progress=lambda d, n, label=label: self.progress(label, d, n)))  # type: ignore[misc]
        return Tokens.concat(parts)

    def _harvest(self, what: str, tokens: Tokens) -> Store:
        from musae.activations.harvest import harvest

        layer = self.suite.layer
        report = lambda done, total: self.progress(what, done, total)  # noqa: E731
        return harvest(self.generator, tokens, (layer,), self.root / "activations", progress=report)[layer]

    def heldout_store(self, corpus: str) -> Store:
        """Activations of a corpus's held-out clips."""
        from musae.activations.tokens import tokenize

        report = lambda done, total: self.progress(f"tokens of {corpus}", done, total)  # noqa: E731
        tokens = tokenize(self.generator, self.corpus(corpus), self.clips(corpus), progress=report)
        return self._harvest(f"activations of {corpus}", tokens)

    def heldout(self, corpus: str) -> HeldOut:
        """What tasks see of a corpus; kept in memory once it is read."""
        if corpus not in self._heldout:
            self._heldout[corpus] = self._read_heldout(corpus)
        return self._heldout[corpus]

    def _read_heldout(self, corpus: str) -> HeldOut:
        from musae.scores import spread
        from musae.scores.heldout import HeldOut

        store, clips = self.heldout_store(corpus), self.clips(corpus)
        revision = self.corpus(corpus).revision
        names, groups = np.unique([clip.group for clip in clips], return_inverse=True)
        return HeldOut(
            corpus=corpus,
            corpus_revision=revision,
            clips=clips,
            x=store.array().numpy(),
            codes=store.tokens.codes.astype(np.int64),
            times=store.times().numpy(),
            groups=groups,
            folds=spread.random(revision, "folds").permutation(np.arange(len(names)) % FOLDS)[groups],
            plan=spread.resampling_plan(revision, len(names), self.suite.replicates),
            mean=self.training.mean().numpy(),
            position_means=self.training.position_means().float().numpy(),
            generator=self.generator,
            layer=self.suite.layer,
            probe_frames=self.suite.probe_frames,
        )

    def feature_set(self, method: str, seed: int | None) -> FeatureSet:
        """An unfitted method of the suite's width and sparsity, or a baseline."""
        entry = registry.find("methods", method)
        cls = entry.load().METHOD
        if cast(MethodCard, entry.card).role == "baseline":
            return cast("FeatureSet", cls(columns=self._columns(cls.source)))
        return cast("FeatureSet", cls(width=self.suite.width, k=self.suite.k, seed=seed or 0))

    def _columns(self, source: str) -> int:
        """Columns of what a feature set is given: the stream's width, or that of the codewords visible at a step."""
        import torch

        if source == "stream":
            return self.generator_card.width
        return int(self.generator.visible(torch.zeros(1, self.generator_card.codebooks, 1, dtype=torch.int64)).shape[-1])

    def dictionary_path(self, feature_set: FeatureSet, seed: int | None) -> Path:
        """Where a fitted dictionary lies: its name holds all that it depends on."""
        identity = json.dumps([feature_set.name, feature_set.config(), self.training.identity], sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:10]
        name = feature_set.name.replace("/", "~") + ("" if seed is None else f"-s{seed}")
        return self.home / "dictionaries" / f"{name}-{digest}.safetensors"

    def fit(self, method: str, seed: int | None, reports: Sequence[Report] = ()) -> FeatureSet:
        """A fitted and frozen dictionary, trained unless it lies on disk; a baseline is returned as it is."""
        from musae.dictionary import Dictionary, load

        feature_set = self.feature_set(method, seed)
        if not isinstance(feature_set, Dictionary):
            return feature_set
        path = self.dictionary_path(feature_set, seed)
        if not path.exists():
            feature_set.fit(self.training, folder=path.with_suffix(""), reports=reports).save(path)
        return load(path)


def encode(feature_set: FeatureSet, data: HeldOut) -> Features:
    """The code of a feature set on held-out clips, in chunks of clips."""
    import scipy.sparse
    import torch

    from musae.dictionary import Dictionary, SparseCode
    from musae.scores.heldout import Features

    n, frames = data.x.shape[:2]
    chunks, means = [], []
    for start in range(0, n, 64):
        clips = slice(start, min(n, start + 64))
        x = torch.from_numpy(data.x[clips])
        if feature_set.source == "tokens":
            x = data.generator.visible(torch.from_numpy(data.codes[clips]))
        code = feature_set.encode(x if feature_set.context == "causal" else x.flatten(0, 1))
        if isinstance(code, SparseCode):
            chunk = code.to_scipy()
            average = scipy.sparse.kron(scipy.sparse.eye_array(len(x)), np.full((1, frames), 1 / frames, np.float32), "csr")
            means.append((average @ chunk).toarray())
        else:
            chunk = code.numpy()
            means.append(chunk.reshape(len(x), frames, -1).mean(1, dtype=np.float64))
        chunks.append(chunk)
    stacked = scipy.sparse.vstack(chunks, "csr") if scipy.sparse.issparse(chunks[0]) else np.concatenate(chunks)
    card = cast(MethodCard, registry.find("methods", feature_set.name).card)
    return Features(
        name=card.features,
        code=stacked,
        clip_means=np.concatenate(means).astype(np.float32),
        dictionary=feature_set if isinstance(feature_set, Dictionary) else None,
    )


@cache
def _corpus(name: str) -> Corpus:
    return cast("Corpus", registry.load("corpora", name).load())


def suite_card(name: str) -> SuiteCard:
    """A suite by name, with every name in it checked. Raises UserError that suggests the nearest name."""
    suite = cast(SuiteCard, registry.find("suites", name).card)
    known: Mapping[str, tuple[str, ...]] = {
        "generators": (suite.generator,),
        "methods": (*suite.methods, *suite.baselines),
        "tasks": suite.tasks,
        "corpora": suite.corpora,
    }
    for kind, names in known.items():
        for member in names:
            registry.find(kind, member)
    return suite


def task_card(name: str) -> TaskCard:
    """A task's card."""
    return cast(TaskCard, registry.find("tasks", name).card)
