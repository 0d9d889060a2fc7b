"""A suite's run on disk: where its stores, dictionaries and rows lie, and how each is made once.

Everything is found by what it depends on, never by a name alone: stores by generator, layer and tokens; dictionaries by method,
hyper-parameters, seed, store and the code that learns; rows by the dictionary's content hash. So whatever exists is right, and
running the same command again goes on where it stopped.

    <root>/activations/...                        stores (see musae.activations.store)
    <root>/<suite>-v<version>-<digest>/
        dictionaries/<method>-s<seed>-<hash>.safetensors
        results/...                               rows of the suite's methods (see musae.results)
        scored/...                                rows of other dictionaries, by `musae score`

`<digest>` is of the suite, the generator's weights and the sources that decide a score, so that rows of edited code never mix
with older ones. Other methods and tasks are not part of it: adding one leaves the rows of a suite as they are.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from musae import registry
from musae.card import CorpusCard, GeneratorCard, MethodCard, Stream, SuiteCard, TaskCard
from musae.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from musae.activations import harvest, tokens
    from musae.activations.store import Store
    from musae.activations.tokens import Tokens
    from musae.corpora.track import Clip, Corpus
    from musae.dictionary import FeatureSet, Report
    from musae.generators.generator import Generator
    from musae.scores.heldout import Features, HeldOut

UNTRAINED_SEED = 0
"""Of the generator with random weights: one for all seeds of a dictionary, since its streams are harvested, too."""

FOLDS = 5
"""Folds of the cross-fitted probes: whole pieces, sizes differing by at most one, fixed by the corpus revision."""

CHUNK = 64
"""Clips that are encoded at once: bounds memory, changes nothing else."""

Progress = Callable[[str, int, int], None]
"""Receives (what is being done, how much of it is done, how much there is)."""

SOURCES = ("kernels", "scores", "corpora", "generators", "activations")
"""Folders that decide a score, beside the modules of this one and the suite's members and tasks."""

LABELLING = ("labels", "explainers", "providers", "estimators")
"""Folders that decide the score of a task that labels latents."""

ASIDE = ("testing", "conformance", "cost", "metrics_log", "provenance", "errors", "streaming", "sweep")
"""Beginnings of the names of modules in this folder that decide none."""


def digest(suite: SuiteCard) -> str:
    """Eight hex digits over a suite, the shipped weights and the sources that decide its scores."""
    here = Path(__file__).parent
    files = sorted(file for file in here.glob("*.py") if not file.name.startswith(ASIDE))
    folders = SOURCES + LABELLING * any(task_card(task).labels for task in suite.tasks)
    files += [file for name in folders for file in sorted((here / name).rglob("*.*"))]
    members = {"methods": suite.members, "tasks": suite.tasks}
    found = hashlib.sha256(suite.model_dump_json().encode())
    for file in files:
        if file.suffix in (".py", ".safetensors", ".npz", ".txt"):
            found.update(file.name.encode() + b"\0" + file.read_bytes())
    for kind, names in members.items():
        for name in names:
            found.update(f"{kind} {name}\0".encode() + source_of(kind, name))
    return found.hexdigest()[:8]


def source_of(kind: str, name: str) -> bytes:
    """The source of a registered module, and of those beside it that it builds on."""
    first = registry.find(kind, name).module
    beside, waiting, found = first.rpartition(".")[0] + ".", [first], dict[str, bytes]()
    while waiting:
        module = waiting.pop()
        spec = importlib.util.find_spec(module)
        found[module] = Path(spec.origin).read_bytes() if spec and spec.origin else b""
        imports = [node for node in ast.walk(ast.parse(found[module])) if isinstance(node, ast.ImportFrom)]
        named = [node.module or "" for node in imports] + [
            f"{node.module}.{name.name}" for node in imports for name in node.names
        ]
        waiting += [other for other in named if other.startswith(beside) and other not in found and _is_module(other)]
    return b"\0".join(found[module] for module in sorted(found))


def _is_module(name: str) -> bool:
    """Whether a dotted name is a module rather than something within one."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is no package
        return False


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, in PyTorch and in BLAS: what is learnt and scored does not depend on the number of cores."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


class Engines(Protocol):
    """Where what a suite reads is made, if not in this process (`musae.engines.ray`)."""

    def tokenizer(self, generator: Callable[[], Generator], corpus: Callable[[], Corpus]) -> tokens.Engine:
        """Renders and encodes clips; each worker makes its own generator and corpus."""

    def harvester(self, generator: Callable[[], Generator]) -> harvest.Engine:
        """Computes shards of activations; each worker makes its own generator."""


@dataclass
class Workspace:
    """The artefacts of one suite under one folder. Every property computes what is missing and keeps it on disk."""

    suite: SuiteCard
    root: Path
    progress: Progress = _silent
    engines: Engines | None = None
    """None for this process."""
    _heldout: dict[tuple[str, Stream], HeldOut] = field(default_factory=dict, repr=False)
    _training: dict[Stream, Store] = field(default_factory=dict, repr=False)

    @cached_property
    def home(self) -> Path:
        """Folder of this suite's dictionaries and rows."""
        return self.root / f"{self.suite.name}-v{self.suite.version}-{digest(self.suite)}"

    @property
    def results(self) -> Path:
        """Folder of the rows of this suite's methods."""
        return self.home / "results"

    @property
    def scored(self) -> Path:
        """Folder of the rows of other dictionaries."""
        return self.home / "scored"

    @cached_property
    def generator(self) -> Generator:
        """The suite's generator."""
        return make_generator(self.suite.generator)

    @cached_property
    def untrained_generator(self) -> Generator:
        """The suite's generator with random weights. Raises UserError where it cannot make one."""
        return untrained(self.generator, self.suite.generator)

    def generator_of(self, stream: Stream) -> Generator:
        """The generator whose residual stream it is."""
        return self.generator if stream == "trained" else self.untrained_generator

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

    @cached_property
    def corpus_names(self) -> dict[str, str]:
        """What a corpus calls itself, in tokens and stores -> what the suite calls it (``package/name``, for a plug-in)."""
        return {cast(CorpusCard, registry.find("corpora", name).card).name: name for name in self.suite.corpora}

    def clips(self, corpus: str) -> Sequence[Clip]:
        """The held-out clips of a corpus that the suite scores on."""
        from musae.corpora.track import Split

        suite = self.suite
        return self.corpus(corpus).clips(
            Split.HELDOUT, seconds=suite.clip_seconds, per_track=suite.clips_per_track, limit=suite.clips[corpus]
        )

    def training(self, stream: Stream = "trained") -> Store:
        """Activations that dictionaries are trained on: the first clips that make `suite.training_frames`."""
        from musae import parallel

        if stream not in self._training:
            self._training[stream] = parallel.first_then_all(
                lambda: self._harvest("training activations", self.training_tokens(), stream)
            )
        return self._training[stream]

    @property
    def _training_clips(self) -> int:
        """Clips that make up the training frames."""
        return -(-self.suite.training_frames // self.frames_per_clip)

    def _shipped_tokens(self) -> Tokens | None:
        """The training tokens that come with the generator, of the suite's corpora; None where there are not enough of them."""
        shipped: Callable[[], Tokens] | None = getattr(registry.load("generators", self.suite.generator), "training_tokens", None)
        if shipped is None:
            return None
        tokens = shipped()
        tokens = tokens.take(np.flatnonzero(np.isin(np.array(tokens.corpora)[tokens.corpus], list(self.corpus_names))))
        return tokens if len(tokens) >= self._training_clips and tokens.frames == self.frames_per_clip else None

    def ships_training_tokens(self) -> bool:
        """Whether nothing has to be rendered to train."""
        return self._shipped_tokens() is not None

    def training_tokens(self) -> Tokens:
        """Shipped with the generator where it ships enough; otherwise rendered from the corpora's training pieces."""
        from musae.activations.tokens import Tokens
        from musae.corpora.track import Split

        wanted, tokens = self._training_clips, self._shipped_tokens()
        if tokens is not None:
            self.refuse_heldout(tokens)
            return tokens.take(slice(wanted))
        parts = []
        for name in self.suite.corpora:
            corpus = self.corpus(name)
            share = wanted // len(self.suite.corpora) + (name == self.suite.corpora[0]) * (wanted % len(self.suite.corpora))
            tracks = corpus.tracks(Split.TRAIN)
            if not tracks:
                raise UserError(
                    f"corpus {name!r} has no training tracks; give its pieces the split train, or take another corpus."
                )
            per_track = -(-share // len(tracks))
            clips = corpus.clips(Split.TRAIN, seconds=self.suite.clip_seconds, per_track=per_track, limit=share)
            if len(clips) < share:
                raise UserError(
                    f"suite {self.suite.name!r}: training_frames = {self.suite.training_frames} wants {share} training clips of "
                    f"{name!r}, which has {len(clips)}; lower training_frames."
                )
            parts.append(self._tokenize(name, clips, f"tokens of {name} (training)"))
        return Tokens.concat(parts)

    def _tokenize(self, corpus: str, clips: Sequence[Clip], what: str) -> Tokens:
        from musae.activations import tokens

        engine: tokens.Engine = tokens.here
        if self.engines is not None:
            engine = self.engines.tokenizer(partial(make_generator, self.suite.generator), partial(_corpus, corpus))
        return tokens.tokenize(self.generator, self.corpus(corpus), clips, progress=partial(self.progress, what), engine=engine)

    def refuse_heldout(self, tokens: Tokens) -> None:
        """Raise UserError when training tokens hold a piece that the suite scores on."""
        for index, name in enumerate(tokens.corpora):
            ours = self.corpus_names.get(name)
            clips = self.clips(ours) if ours else ()
            shared = set(tokens.groups[tokens.corpus == index]) & {clip.group for clip in clips}
            if shared:
                raise UserError(
                    f"the training tokens of generator {self.suite.generator!r} hold {len(shared)} held-out pieces of {name!r}, "
                    f"{min(shared)!r} for one; make them from its training split."
                )

    def _harvest(self, what: str, tokens: Tokens, stream: Stream) -> Store:
        from musae.activations import harvest

        layer, folder, source = self.suite.layer, self.root / "activations", self.generator_of(stream)
        report = partial(self.progress, what if stream == "trained" else f"{what} ({stream} generator)")
        engine: harvest.Engine = harvest.here
        if self.engines is not None:
            engine = self.engines.harvester(partial(make_generator, self.suite.generator, stream))
        return harvest.harvest(source, tokens, (layer,), folder, progress=report, engine=engine)[layer]

    def heldout_store(self, corpus: str, stream: Stream = "trained") -> Store:
        """Activations of a corpus's held-out clips."""
        tokens = self._tokenize(corpus, self.clips(corpus), f"tokens of {corpus}")
        return self._harvest(f"activations of {corpus}", tokens, stream)

    def heldout(self, corpus: str, stream: Stream = "trained") -> HeldOut:
        """What tasks see of a corpus; kept in memory once it is read."""
        if (corpus, stream) not in self._heldout:
            self._heldout[corpus, stream] = self._read_heldout(corpus, stream)
        return self._heldout[corpus, stream]

    def _read_heldout(self, corpus: str, stream: Stream) -> HeldOut:
        from musae.scores import spread
        from musae.scores.heldout import HeldOut

        store, training, clips = self.heldout_store(corpus, stream), self.training(stream), self.clips(corpus)
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
            mean=training.mean().numpy(),
            position_means=training.position_means().float().numpy(),
            generator=self.generator_of(stream),
            layer=self.suite.layer,
            probe_frames=self.suite.probe_frames,
            explainer=self.suite.explainer,
            labelled=self.suite.labelled,
        )

    def feature_set(self, method: str, seed: int | None, options: Mapping[str, Any] | None = None) -> FeatureSet:
        """An unfitted method of the suite's width and sparsity and with the constructor's other `options`, or a baseline."""
        cls = registry.load("methods", method).METHOD
        if method_card(method).role == "baseline":
            return cast("FeatureSet", cls(columns=self._columns(cls.source)))
        sizes = {"width": self.suite.width, "k": self.suite.k, "seed": seed or 0}
        return cast("FeatureSet", cls(**sizes | dict(options or {})))

    def _columns(self, source: str) -> int:
        """Columns of what a feature set is given: the stream's width, or that of the codewords visible at a step."""
        import torch

        if source == "stream":
            return self.generator_card.width
        return int(self.generator.visible(torch.zeros(1, self.generator_card.codebooks, 1, dtype=torch.int64)).shape[-1])

    def dictionary_path(self, feature_set: FeatureSet, seed: int | None, store: Store | None = None) -> Path:
        """Where a fitted dictionary lies: its name holds all that it depends on."""
        store = store or self.training(method_card(feature_set.name).stream)
        identity = json.dumps([feature_set.name, feature_set.config(), store.identity], sort_keys=True)
        digest = hashlib.sha256(identity.encode() + source_of("methods", feature_set.name)).hexdigest()[:10]
        name = feature_set.name.replace("/", "~") + ("" if seed is None else f"-s{seed}")
        return self.home / "dictionaries" / f"{name}-{digest}.safetensors"

    def fit(
        self,
        method: str,
        seed: int | None,
        reports: Sequence[Report] = (),
        store: Store | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> FeatureSet:
        """A fitted and frozen dictionary, trained on `store` (default: the suite's own) unless it is on disk.

        A baseline, which learns nothing, is returned as it is; a supervised method is given the labels of the store's clips.
        Several processes (`musae.parallel`) fit it together, and the first one writes. `options`: see `feature_set`.
        """
        from musae import parallel
        from musae.dictionary import Dictionary, load
        from musae.labelled import LabelledStore

        feature_set, card = self.feature_set(method, seed, options), method_card(method)
        if not isinstance(feature_set, Dictionary):
            return feature_set
        source = store or self.training(card.stream)
        if card.role == "supervised":
            source = LabelledStore(source, {name: self.corpus(ours) for name, ours in self.corpus_names.items()})
        path = self.dictionary_path(feature_set, seed, source)
        if not path.exists():
            with one_thread():
                feature_set.fit(source, folder=path.with_suffix(""), reports=reports)
            manifest = source.manifest
            feature_set.trained |= {"generator": f"{manifest.generator}@{manifest.generator_revision}", "layer": manifest.layer}
            if parallel.rank() == 0:
                feature_set.save(path)
        parallel.wait()
        return load(path)


def encode(feature_set: FeatureSet, data: HeldOut) -> Features:
    """The code of a feature set on held-out clips, in chunks; of a dense one, only the rows that probes read are kept."""
    import scipy.sparse
    import torch

    from musae.dictionary import Dictionary, SparseCode
    from musae.scores.heldout import Features

    n, frames = data.x.shape[:2]
    codes: list[Any] = []
    means: list[NDArray[np.float64]] = []
    dense = False
    for start in range(0, n, CHUNK):
        clips = slice(start, min(n, start + CHUNK))
        x = torch.from_numpy(data.x[clips])
        if feature_set.source == "tokens":
            x = data.generator.visible(torch.from_numpy(data.codes[clips]))
        code = feature_set.encode(x if feature_set.context == "causal" else x.flatten(0, 1))
        if isinstance(code, SparseCode):
            rows = code.to_scipy()
            average = scipy.sparse.kron(scipy.sparse.eye_array(len(x)), np.full((1, frames), 1 / frames), "csr")
            means.append((average @ rows).toarray())
        else:
            dense, rows = True, code.numpy()
            means.append(rows.reshape(len(x), frames, -1).mean(1, dtype=np.float64))
            probed = data.probe_rows[(data.probe_rows >= start * frames) & (data.probe_rows < clips.stop * frames)]
            rows = rows[probed - start * frames]
        codes.append(rows)
    return Features(
        name=method_card(feature_set.name).features,
        code=np.concatenate(codes) if dense else scipy.sparse.vstack(codes, "csr"),
        clip_means=np.concatenate(means).astype(np.float32),
        rows=data.probe_rows if dense else None,
        dictionary=feature_set if isinstance(feature_set, Dictionary) else None,
    )


def make_generator(name: str, stream: Stream = "trained") -> Generator:
    """A generator by its name, as it is or with random weights."""
    generator = cast("Generator", registry.make("generators", name))
    return generator if stream == "trained" else untrained(generator, name)


def untrained(generator: Generator, name: str) -> Generator:
    """A generator's twin with random weights. Raises UserError where it cannot make one."""
    make: Callable[[int], Generator] | None = getattr(generator, "untrained", None)
    if make is None:
        raise UserError(
            f"generator {name!r} has no method untrained(seed), which gives it random weights; add one, or leave controls of the "
            f"untrained stream out of the suite."
        )
    return make(UNTRAINED_SEED)


@cache
def _corpus(name: str) -> Corpus:
    return cast("Corpus", registry.make("corpora", name))


def suite_card(name: str, *, generator: str | None = None, layer: int | None = None, corpora: Sequence[str] = ()) -> SuiteCard:
    """A suite by name, with every name in it checked; with another generator, layer or corpora, it has a name that says so.

    Raises UserError that suggests the nearest name, and for a layer that the generator has not.
    """
    suite = cast(SuiteCard, registry.find("suites", name).card)
    found: dict[str, Any] = {}
    said = [suite.name]
    if generator is not None:
        found["generator"] = generator
        said.append(registry.find("generators", generator).card.name)  # type: ignore[union-attr]
    if layer is not None:
        found["layer"] = layer
        said.append(f"layer{layer}")
    if corpora:
        clips = {corpus: suite.clips.get(corpus, max(suite.clips.values())) for corpus in corpora}
        found |= {"corpora": tuple(dict.fromkeys(corpora)), "clips": clips}
        said += [corpus_name(corpus) for corpus in clips]
    if found:
        whole = "+".join(said)
        short = whole if len(whole) <= 80 else f"{whole[:71]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
        suite = suite.model_copy(update=found | {"name": short})
        card = cast(GeneratorCard, registry.find("generators", suite.generator).card)
        if suite.layer > card.layers:
            raise UserError(f"--layer {suite.layer}: generator {card.name!r} has layers 0 to {card.layers}; choose among them.")
    known: Mapping[str, tuple[str, ...]] = {
        "generators": (suite.generator,),
        "methods": suite.members,
        "tasks": suite.tasks,
        "corpora": suite.corpora,
    }
    for kind, names in known.items():
        for member in names:
            registry.find(kind, member)
    return suite


def corpus_name(name: str) -> str:
    """What rows call a corpus: its name, or its card's where the name has an argument (a path, say)."""
    return cast(CorpusCard, registry.find("corpora", name).card).name if ":" in name else name


def method_card(name: str) -> MethodCard:
    """A method's card."""
    return cast(MethodCard, registry.find("methods", name).card)


def task_card(name: str) -> TaskCard:
    """A task's card."""
    return cast(TaskCard, registry.find("tasks", name).card)
