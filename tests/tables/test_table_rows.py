"""From measurements to rows, Markdown and the figure; steering reports; what is kept on disk; the command's bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from musae.cli import main
from musae.errors import UserError
from musae.results import provenance
from musae.steering.report import Found, Quality, Report, Row, Shift
from musae.sweep import Member
from musae.sweep_training import SweepTraining
from musae.tables import activity, assemble, curves, document, measure, steered
from musae.tables.markdown import markdown
from musae.tables.schema import Line, Tables
from musae.tables.session import Session
from musae.testing_tasks import piece_features, planted_features, synthetic_heldout

MADE = {"device": "test", "threads": 1, "seconds": 0.0}


@pytest.fixture(scope="module")
def found():
    """Two layers: planted latents below, noise above; twins that know the piece only."""
    data = synthetic_heldout(pieces=60)
    planted, noise = measure.measure(planted_features(data), data), measure.measure(piece_features(data, 2), data)
    low, high = (Member("topk", 37, 4, layer, 0) for layer in (1, 2))
    return {(low, "trained"): planted, (low, "random"): noise, (high, "trained"): noise, (high, "random"): noise}


@pytest.fixture(scope="module")
def tables(found):
    columns = assemble.profiles(found, 37)
    return Tables(
        sweep="small",
        commands=("musae sweep small", "musae tables small"),
        generator="nano@0123456789",
        corpus="synthetic@0",
        clips=80,
        pieces=40,
        clip_seconds=3.2,
        probe_frames=2560,
        training_frames=1024,
        layers=(1, 2, 3),
        band=activity.BAND,
        lines=tuple(
            Line(setting=assemble.setting(m, 37), kind=kind, layer=m.layer, dictionary="", file="", l0=one.l0, silent=one.silent)
            for (m, kind), one in found.items()
        ),
        counts=tuple(assemble.counts(found, 37)),
        points=tuple(assemble.points(found, 37)),
        labels=tuple(assemble.labels(found, 37)),
        differences=tuple(assemble.differences(found, 37)),
        origins=tuple(assemble.origins(columns, {})),
        steered=(),
        notes=("topk-w37-k4-L3-s0: not trained; musae sweep small",),
        provenance=provenance(**MADE),
    )


def test_rows_agree_with_what_was_measured(found, tables):
    labels = {(row.layer, row.kind): row for row in tables.labels if row.truth == "exact"}
    planted, noise = labels[1, "trained"], labels[2, "trained"]
    assert planted.youden.low > 0.1 > noise.youden.high
    assert abs(planted.shuffled.value) < 0.1
    steps = {(row.layer, row.less_layer, row.less_kind): row.youden for row in tables.differences if row.truth == "exact"}
    assert steps.keys() == {(1, 1, "random"), (2, 2, "random"), (2, 1, "trained")}
    assert steps[2, 1, "trained"].value == pytest.approx(noise.youden.value - planted.youden.value)
    assert steps[2, 1, "trained"].high < 0 < steps[1, 1, "random"].low
    for point in tables.points:
        if point.axis == "upper" and point.at == activity.BAND[1] and point.layer == 1:
            counted = next(c for c in tables.counts if (c.layer, c.kind) == (1, point.kind))
            assert point.count == counted.count.value
    both = [p for p in tables.points if (p.axis, p.at, p.kind, p.truth) == ("upper", 1.0, "trained", "exact")]
    assert next(p.count for p in both if p.layer is None) == sum(p.count for p in both if p.layer is not None)


def test_too_few_latents_are_no_classifier(found):
    columns = assemble.profiles(found, 37)
    assert assemble.learnable(columns)
    few = {key: {layer: (x[:5], n[:5]) for layer, (x, n) in one.items()} for key, one in columns.items()}
    assert not assemble.learnable(few)
    assert all(row.accuracy.unscored for row in assemble.origins(few, {}))


def test_markdown_says_what_made_it_and_what_is_missing(tables):
    text = markdown(tables, figure=False)
    assert "musae sweep small\nmusae tables small" in text
    assert "**missing**: topk-w37-k4-L3-s0" in text
    assert "curves.png" not in text
    assert all(heading in text for heading in ("Filter counts", "Threshold", "Label scores", "Layer of origin", "Steering rates"))
    rows = [line for line in text.splitlines() if line.startswith("| 1, 4 | trained | ")]
    assert all(line.count("|") == rows[0].count("|") for line in rows[:4])


def test_files_are_written_and_read_again(tmp_path: Path, tables):
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    tables = tables.model_copy(update={"points": tables.points[:60]})
    files, undrawn = document.write(tables, tmp_path)
    assert not undrawn
    assert [file.name for file in files] == ["tables.json", "tables.md", "curves.svg", "curves.png"]
    assert Tables.model_validate_json(files[0].read_text()) == tables
    assert files[3].read_bytes().startswith(b"\x89PNG")


def test_without_altair_there_are_tables(tmp_path: Path, tables, monkeypatch):
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(curves.importlib, "import_module", missing)
    files, undrawn = document.write(tables, tmp_path)
    assert "pip install 'musae[plots]'" in undrawn
    assert [file.name for file in files] == ["tables.json", "tables.md"]


def report(**changes) -> Report:
    shift = Shift(value=1.0, low=0.5, high=1.5, p=0.001, pieces=9)
    quality = {"tonality": 0.5, "beyond": {"tonality": 0.0}, "kept": True}
    row = Row(condition="steered", shift=shift, standardised=1.0, off_target=0.1, loss=0.1, similarity=0.9, **quality)
    effect = Found(concept="organ", rows=(row,), beyond_random=shift, p_holm=0.01)
    none = effect.model_copy(update={"concept": "piano", "p_holm": 0.5})
    unheard = Found(concept="tempo fast", unscored="no ear")
    made = {"dictionary": "0" * 12, "method": "topk", "generator": "nano@0123456789", "layer": 3, "corpus": "procedural@0"}
    sizes = {"prompt_seconds": 1.0, "seconds": 1.0, "development": 2, "fresh": 2, "seeds": 1, "budget": 1.0, "ears": {}}
    concepts = (effect, none, unheard)
    sizes["quality"] = Quality(bounds={"tonality": 0.3}, beyond={"tonality": 0.0})
    return Report(**made | changes, **sizes, concepts=concepts, provenance=provenance(**MADE))


def test_steering_rates(tmp_path: Path):
    report().write(tmp_path / "deep" / "scores.json")
    report(layer=1).write(tmp_path / "shallow" / "scores.json")
    rows = steered.read([tmp_path / "deep", tmp_path / "shallow"], "nano@0123456789", {})
    assert [row.layer for row in rows] == [1, 3]
    assert (rows[0].scored, rows[0].unscored, rows[0].effect) == (2, 1, 1)
    assert rows[0].share.value == 0.5
    with pytest.raises(UserError, match="other@1"):
        steered.read([tmp_path / "deep"], "other@1", {})
    with pytest.raises(UserError, match="musae steer --out"):
        steered.read([tmp_path / "none"], "nano@0123456789", {})
    (tmp_path / "deep" / "scores.json").write_text('{"format": 1}')
    with pytest.raises(UserError, match=r"scores\.json: format"):
        steered.read([tmp_path / "deep"], "nano@0123456789", {})


def test_wilsons_interval():
    """Of 1 in 10: Wilson (1927), as Brown, Cai and DasGupta (2001) compute it."""
    found = steered.wilson(1, 10)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.0179, 0.4042), abs=1e-4)
    assert steered.wilson(0, 0).unscored


def session(tmp_path: Path, present: tuple[int, ...], seen: list[int]) -> Session:
    """Dictionaries at layers 1 and 2, of which some are there, on synthetic clips; `seen`: layers that were read."""
    paths = {Member("topk", 37, 4, layer, 0): tmp_path / f"L{layer}.safetensors" for layer in (1, 2)}
    for member, path in paths.items():
        if member.layer in present:
            path.touch()
    corpus = SimpleNamespace(card=SimpleNamespace(name="synthetic"), revision="0")
    generator = SimpleNamespace(revision="0")
    card = SimpleNamespace(name="nano", width=37)
    workspace = SimpleNamespace(root=tmp_path, corpus=lambda name: corpus, generator=generator, generator_card=card)
    training = SimpleNamespace(
        paths=paths,
        members=paths,
        sweep=SimpleNamespace(name="small"),
        home=tmp_path,
        workspace=workspace,
        show=lambda *a: None,
    )

    def data(layer: int):
        seen.append(layer)
        return replace(synthetic_heldout(pieces=20), layer=layer)

    stores = {layer: SimpleNamespace(identity=f"store{layer}") for layer in (1, 2)}
    streams = SimpleNamespace(corpus="synthetic", layers=(1, 2), data=data, stores=stores, centres=stores)
    made = Session(training, streams)  # type: ignore[arg-type]
    made.dictionary = lambda member: SimpleNamespace(content_hash=str(member.layer))  # type: ignore
    return made


def test_what_was_measured_is_not_measured_again(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("musae.tables.session.encode", lambda dictionary, data: planted_features(data))
    seen: list[int] = []
    first = session(tmp_path, (1,), seen).run()
    assert [(member.layer, kind) for member, kind in first] == [(1, "trained"), (1, "random")]
    assert len(seen) == 1
    again = session(tmp_path, (1, 2), seen).run()
    assert len(seen) == 2  # layer 2 alone
    assert len(again) == 4
    for key, one in first.items():
        np.testing.assert_array_equal(again[key].active, one.active)


def test_classifiers_are_kept(tmp_path: Path, monkeypatch):
    made = session(tmp_path, (1, 2), [])
    rng = np.random.default_rng(0)
    key = assemble.Profiles(assemble.setting(Member("topk", 37, 4, 1, 0), 37), "trained", "statistics")
    columns = {key: {layer: (rng.normal(layer, 1, (30, 3)), np.arange(30)) for layer in (1, 2)}}
    first = made.origins(columns)
    monkeypatch.setattr("musae.tables.origin.classify", None)
    assert made.origins(columns).keys() == first.keys()


def test_no_dictionaries_is_one_sentence(tmp_path: Path):
    with pytest.raises(UserError, match=r"none of its 2 dictionaries is under .*; train them first: musae sweep small"):
        session(tmp_path, (), []).check("musae sweep small")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["papr"], "did you mean 'paper'"),
        (["paper", "--clips-from", "proceduralx"], "procedural"),
        (["paper", "--layer", "2", "--k", "32"], "train them first: musae sweep paper --k 32 --layer 2"),
    ],
)
def test_bad_input(tmp_path: Path, monkeypatch, arguments: list[str], says: str):
    monkeypatch.setattr(SweepTraining, "paths", {Member("topk", 1024, 32, 2, 0): tmp_path / "none"})  # no generator is loaded
    result = CliRunner().invoke(main, ["tables", *arguments], env={"MUSAE_RUNS": str(tmp_path)})
    assert result.exit_code == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert says in errors[0]
