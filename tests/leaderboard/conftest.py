"""Rows made by hand, and a whole made-up suite, for the tests of rows and tables."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest

from musae.results import Cell, Measure, Provenance, RowFile

PROVENANCE = Provenance(
    commit="0123abc4567",
    device="AMD EPYC",
    cores=2,
    threads=1,
    packages={"numpy": "2.4"},
    seconds=1.5,
    created=datetime(2026, 1, 2, tzinfo=UTC),
)


def cell(**changes: object) -> Cell:
    """A cell of trained topk; its hash follows from method and seed."""
    fields: dict[str, object] = {
        "suite": "quick",
        "suite_version": 1,
        "generator": "nano",
        "generator_revision": "r1",
        "layer": 4,
        "method": "topk",
        "role": "method",
        "seed": 0,
        "width": 2048,
        "k": 32,
        "training_frames": 1000,
        "corpus": "chorales",
        "corpus_revision": "c1",
        "task": "reconstruction",
        "task_version": 1,
    }
    fields |= changes
    fields.setdefault("dictionary", hashlib.sha256(f"{fields['method']}{fields['seed']}".encode()).hexdigest()[:16])
    return Cell.model_validate(fields)


def main(metric: str = "fvu", value: float | None = 0.5, direction: str = "lower", **more: object) -> Measure:
    """A main score with a narrow interval, or an unscored one."""
    interval = {} if value is None else {"low": value - 0.01, "high": value + 0.01}
    return Measure.model_validate(
        {"metric": metric, "value": value, "main": True, "direction": direction, "pieces": 50, **interval, **more}
    )


@pytest.fixture
def make() -> Callable[..., RowFile]:
    """A file with one main score: value, spread of its replicates, and changes to the cell."""

    def file(
        value: float | None = 0.5,
        *others: Measure,
        replicates: np.ndarray | None = None,
        measure: dict[str, object] | None = None,
        created: datetime = PROVENANCE.created,
        **changes: object,
    ) -> RowFile:
        score = main(value=value, **(measure or {}))
        if value is not None and replicates is None:
            replicates = value + 0.001 * np.random.default_rng(0).standard_normal(200)
        beside = {} if replicates is None else {score.tag: replicates.astype(np.float32)}
        provenance = PROVENANCE.model_copy(update={"created": created})
        return RowFile(cell(**changes), provenance, (score, *others), beside)

    return file


SUITE = {
    "reconstruction": [("fvu", "lower", ""), ("loss_recovered", "higher", "")],
    "sparsity": [("l0", "none", ""), ("survivors", "higher", "")],
    "chords": [("wcsr_root", "higher", "exact"), ("f1_root", "higher", "exact"), ("wcsr_majmin", "higher", "annotated")],
    "key": [("weighted", "higher", "exact"), ("f1_key", "higher", "exact")],
    "tempo": [("log_r2", "higher", "exact"), ("acc1", "higher", "exact")],
    "instrument": [("map_macro", "higher", "exact"), ("roc_auc", "higher", "exact")],
}
"""Task -> (metric, direction, truth) of its main scores, as in the suite `quick`."""

SKILL = {"topk": 0.45, "pca": 0.35, "random": 0.25, "residual": 0.5, "codec_step": 0.3, "codec_means": 0.45}
ROLE = {"random": "control", "residual": "baseline", "codec_step": "baseline", "codec_means": "baseline"}


@pytest.fixture
def suite() -> Callable[..., list[RowFile]]:
    """The files of a made-up run of `quick`: two corpora, six tasks, `skills` gives a method its level."""

    def files(skills: dict[str, float] = SKILL, draw: int = 0) -> list[RowFile]:
        made = []
        for corpus in ("chorales", "procedural"):
            for task, scores in SUITE.items():
                pieces = np.random.default_rng([draw, len(task)]).standard_normal(200)
                for method, skill in skills.items():
                    sized = method in ("topk", "random", "pca") or method.startswith("m")
                    if not sized and task in ("reconstruction", "sparsity"):
                        continue
                    for seed in (0, 1, 2) if sized and method != "pca" else (None,):
                        where = cell(
                            corpus=corpus, task=task, method=method, seed=seed, role=ROLE.get(method, "method"),
                            width=2048 if sized else None, k=32 if sized else None,
                        )  # fmt: skip
                        made.append(_cell_file(where, scores, skill, pieces, draw))
        return made

    return files


def _cell_file(where: Cell, scores: list[tuple[str, str, str]], skill: float, pieces: np.ndarray, draw: int) -> RowFile:
    rng = np.random.default_rng([draw, *where.model_dump_json(exclude={"title"}).encode()])
    measures, replicates = [], {}
    for metric, direction, truth in scores:
        probed = truth and not metric.startswith("f1")
        for k in (5, 20, None) if probed else (None,):
            level = {"l0": 32.0, "survivors": 1000 * skill}.get(metric, skill if direction == "higher" else 1 - skill)
            level += 0.004 * rng.standard_normal() * (metric != "l0") + (0.05 if k is None else k / 500) * bool(probed)
            if metric == "wcsr_majmin" and where.corpus == "procedural":
                continue
            if metric == "f1_key" and where.corpus == "chorales":
                score = main(metric, None, direction, truth=truth, probe_k=k, unscored="one key in fewer than 10 clips")
                measures.append(score)
                continue
            draws = level + (metric != "l0") * (0.006 * pieces + 0.004 * rng.standard_normal(200))
            score = main(
                metric, level, direction, truth=truth, probe_k=k, low=float(draws.min()), high=float(draws.max()), pieces=100
            )
            measures.append(score)
            replicates[score.tag] = draws.astype(np.float32)
            if truth:
                for control, value in (("chance", 0.083), ("permuted_labels", 0.09 + 0.01 * float(rng.random()))):
                    measures.append(Measure(metric=metric, value=value, truth=truth, probe_k=k, control=control, pieces=100))
            measures.append(
                Measure(metric=metric, value=level, truth=truth, probe_k=k, label="C:maj | no. 1", direction=direction)
            )
    return RowFile(where, PROVENANCE, tuple(measures), replicates)
