"""Dictionaries x corpora x tasks x seeds -> rows, in cells that are computed once.

A `Job` is the unit of work that an engine runs: fit one dictionary, or score one feature set on one corpus (all tasks at once,
since they share its code). A job that lies on disk is done: it is idempotent, and so is every engine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from musae import registry
from musae.card import SuiteCard
from musae.errors import UserError
from musae.files import runs_root
from musae.kernels.dispatch import choose
from musae.provenance import device
from musae.results import Cell, Row, RowFile, path_of, provenance, read, write
from musae.workspace import Workspace, corpus_name, encode, method_card, one_thread, suite_card, task_card

if TYPE_CHECKING:
    from musae.dictionary import Dictionary, FeatureSet, Report


@dataclass(frozen=True)
class Job:
    """Fit a dictionary (`corpus` is None) or score a feature set on a corpus."""

    method: str
    seed: int | None
    corpus: str | None = None

    @property
    def name(self) -> str:
        """For people: ``fit topk seed 1``, ``score pca on chorales``."""
        seed = "" if self.seed is None else f" seed {self.seed}"
        return f"score {self.method}{seed} on {self.corpus}" if self.corpus else f"fit {self.method}{seed}"

    @property
    def needs(self) -> Job | None:
        """The job that must be done before this one."""
        return Job(self.method, self.seed) if self.corpus else None


def jobs(suite: SuiteCard) -> list[Job]:
    """All jobs of a suite: the fits first, then the scores."""
    fits, scores = [], []
    for method in suite.members:
        card = method_card(method)
        for seed in suite.seeds_of(method) if card.seeded else (None,):
            if card.role != "baseline":
                fits.append(Job(method, seed))
            scores += [Job(method, seed, corpus) for corpus in suite.corpora]
    return fits + scores


def prepare(workspace: Workspace) -> None:
    """Harvest what the jobs read: the training activations and those of the held-out clips, of each stream in use."""
    for stream in sorted({method_card(name).stream for name in workspace.suite.members}):
        workspace.training(stream)
        for corpus in workspace.suite.corpora:
            workspace.heldout_store(corpus, stream)


def is_done(workspace: Workspace, job: Job) -> bool:
    """Whether everything that a job makes lies on disk."""
    feature_set = workspace.feature_set(job.method, job.seed)
    fitted = method_card(job.method).role == "baseline" or workspace.dictionary_path(feature_set, job.seed).exists()
    if job.corpus is None or not fitted:
        return fitted and job.corpus is None
    frozen = workspace.fit(job.method, job.seed)
    cells = [_cell(workspace, frozen, job.seed, job.corpus, task) for task in workspace.suite.tasks]
    return all((workspace.results / path_of(cell)).exists() for cell in cells)


def do(workspace: Workspace, job: Job, reports: Sequence[Report] = ()) -> None:
    """Do a job; what lies on disk is not computed again."""
    feature_set = workspace.fit(job.method, job.seed, reports)
    if job.corpus is not None:
        score(workspace, feature_set, job.seed, job.corpus)


def score(
    workspace: Workspace, feature_set: FeatureSet, seed: int | None, corpus: str, results: Path | None = None
) -> list[RowFile]:
    """Rows of a frozen feature set on one corpus, one file a task under `results`; only tasks without a file are computed.

    Raises UserError for a dictionary that was trained on another generator or layer, or whose atoms are not of its width.
    """
    import torch

    check_stream(workspace, feature_set, f"this {feature_set.name} dictionary")
    results, stream = results or workspace.results, method_card(feature_set.name).stream
    source = "" if stream == "trained" else f"{workspace.generator_card.name}@{workspace.generator_of(stream).revision}"
    files: list[RowFile] = []
    features = data = None
    for task in workspace.suite.tasks:
        cell = _cell(workspace, feature_set, seed, corpus, task)
        path = results / path_of(cell)
        if path.exists():
            files.append(read(path))
            continue
        with one_thread():
            if data is None:
                data = workspace.heldout(corpus, stream)
                features = encode(feature_set, data)
            begun = time.perf_counter()
            scores = registry.load("tasks", task).score(features, data)
            kernels, _ = choose(torch.device("cpu"), torch.float32)
            seconds = time.perf_counter() - begun
            where = f"{device()}, {kernels} kernels"
            made = provenance(device=where, threads=torch.get_num_threads(), seconds=seconds, stream=source)
        file = RowFile.of(cell, made, task_card(task), scores)
        write(results, file)
        files.append(file)
    return files


def evaluate(dictionary: Dictionary | FeatureSet, suite: str = "quick", root: Path | str | None = None) -> list[Row]:
    """Score a frozen dictionary (or any feature set) with a suite's tasks on its corpora; what the command line does.

    Args:
        dictionary: fitted; its residual stream is the suite's generator at the suite's layer.
        suite: name of a suite (`musae list suites`).
        root: where artefacts and rows are kept; default ``runs/``. Rows that lie there are read, not computed again.

    Returns all rows. Raises UserError for an unknown suite, or a dictionary whose atoms are not of the stream's width.
    """
    workspace = Workspace(suite_card(suite), Path(root) if root is not None else runs_root())
    seed = getattr(dictionary, "seed", None)
    files = [file for corpus in workspace.suite.corpora for file in score(workspace, dictionary, seed, corpus, workspace.scored)]
    return [row for file in files for row in file.rows]


def check_stream(workspace: Workspace, feature_set: FeatureSet, what: str) -> None:
    """Raise UserError for a dictionary of another stream than the suite's; `what` to call it: its file, where that is known."""
    if feature_set.source == "stream" and feature_set.inputs != workspace.generator_card.width:
        raise UserError(
            f"{what} reads {feature_set.inputs} dimensions, and the stream of {workspace.suite.generator} has "
            f"{workspace.generator_card.width}; give a dictionary of this generator."
        )
    trained = getattr(feature_set, "trained", {})
    generator = workspace.generator_of(method_card(feature_set.name).stream)
    stream = {"generator": f"{workspace.generator_card.name}@{generator.revision}", "layer": workspace.suite.layer}
    for name, expected in stream.items():
        if trained.get(name, expected) != expected:
            raise UserError(
                f"{what} was trained on {name} {trained[name]}, and suite {workspace.suite.name!r} "
                f"scores {name} {expected}; score it with a suite of that {name}, or train it anew."
            )


def _cell(workspace: Workspace, feature_set: FeatureSet, seed: int | None, corpus: str, task: str) -> Cell:
    suite = workspace.suite
    card = method_card(feature_set.name)
    trained = getattr(feature_set, "trained", {})
    latents = card.features == "latents"
    return Cell(
        suite=suite.name,
        suite_version=suite.version,
        generator=workspace.generator.card.name,
        generator_revision=workspace.generator.revision,
        layer=suite.layer,
        method=feature_set.name,
        role=card.role,
        features=card.features,  # type: ignore[arg-type]
        dictionary=feature_set.content_hash,
        seed=seed if card.seeded else None,
        width=feature_set.width if latents else None,
        configurations=card.configurations,
        k=_sparsity(feature_set),
        training_frames=int(trained.get("frames", 0)),
        corpus=corpus_name(corpus),
        corpus_revision=workspace.corpus(corpus).revision,
        task=task,
        task_version=task_card(task).version,
        title=trained.get("title", ""),
    )


def _sparsity(feature_set: FeatureSet) -> int | None:
    """The L0 that a feature set is held to. Nothing is held by a mean of all latents, or where there is no k."""
    k, nothing = getattr(feature_set, "k", None), getattr(feature_set, "budget", "frame") == "mean"
    return None if nothing and k == feature_set.width else k
