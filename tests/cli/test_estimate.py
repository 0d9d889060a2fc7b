"""`musae estimate` as users call it, on a folder of sines and an estimator that knows them."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from musae import accuracy, registry
from musae.cli import main
from musae.corpora import folder
from musae.corpora.track import Split, Truth

sys.path.insert(0, str(Path(__file__).parents[1] / "estimators"))
import singing


@pytest.fixture(autouse=True)
def ear(tmp_path, monkeypatch):
    """The estimator `ear`; a place of its own for what is published, and for the cache."""
    monkeypatch.setenv("MUSAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(accuracy, "FOLDER", tmp_path / "measured")
    ear, nose = (registry.Entry("estimators", name, "singing", singing.CARD) for name in ("ear", "nose"))
    with registry.provided(ear), registry.provided(nose):
        yield


@pytest.fixture
def recordings(tmp_path):
    """Sines 1 to 6, one of them in a folder below, and one file that is nearly silent."""
    root = tmp_path / "recordings"
    (root / "deep").mkdir(parents=True)
    for index in range(1, 7):
        place = root / "deep" if index == 6 else root
        soundfile.write(place / f"song {index}.wav", singing.sine(index, 3.0, 16_000), 16_000)
    quiet = np.zeros(48_000, np.float32)
    quiet[0] = 0.5  # heard by `folder:`, and gone when it is resampled to 8 kHz
    quiet[1] = -0.5
    soundfile.write(root / "quiet.wav", quiet, 16_000)
    return root


def call(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def keys(root):
    """File -> its key and how it is known, as `folder:` reads them."""
    corpus = folder.load(str(root))
    tracks = [track for split in Split for track in corpus.tracks(split)]
    return {t.source: (t.annotations.keys[0].label, t.annotations.truth["key"]) for t in tracks if t.annotations.keys}


def test_labels_are_read_back_as_estimated(recordings):
    (recordings / "quiet.wav").unlink()
    result = call("estimate", "labels", f"folder:{recordings}", "--by", "ear")
    assert result.exit_code == 0, result.output
    assert "6 files written" in result.output
    assert "estimated: key of 6" in result.output
    assert "ear: its accuracy was never measured" in result.output
    found = keys(recordings)
    assert found["song 1.wav"] == ("C# major", Truth.ESTIMATED)
    assert found["deep/song 6.wav"] == ("F# major", Truth.ESTIMATED)
    sandbox = json.loads((recordings / "song 1.jams").read_text())["sandbox"]
    assert sandbox["estimators"] == {"key": "ear ear-1"}


def test_what_is_there_is_kept_and_added_to(recordings, monkeypatch):
    (recordings / "quiet.wav").unlink()
    assert call("estimate", "labels", f"folder:{recordings}", "--by", "ear").exit_code == 0
    before = (recordings / "song 1.jams").read_bytes()
    again = call("estimate", "labels", f"folder:{recordings}", "--by", "ear")
    assert "0 files written" in again.output
    assert "6 kept" in again.output
    assert (recordings / "song 1.jams").read_bytes() == before
    monkeypatch.setattr(singing.Ear, "revision", "ear-2")
    assert "6 files written" in call("estimate", "labels", f"folder:{recordings}", "--by", "ear").output
    sheet = json.loads((recordings / "song 1.jams").read_text())
    assert sheet["sandbox"]["estimators"] == {"key": "ear ear-2"}
    assert [a["namespace"] for a in sheet["annotations"]] == ["key_mode"]


def test_peoples_labels_are_left_alone(recordings):
    """A JAMS file of another program stays as it is, and the sheet stands above what is estimated."""
    (recordings / "quiet.wav").unlink()
    (recordings / "song 1.jams").write_text('{"annotations": [], "file_metadata": {}, "sandbox": {}}')
    with (recordings / "annotations.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "key"], ["song 2.wav", "E minor"]])
    result = call("estimate", "labels", f"folder:{recordings}", "--by", "ear")
    assert result.exit_code == 1
    assert "left out: song 1.wav: song 1.jams lies beside it" in result.output
    found = keys(recordings)
    assert "song 1.wav" not in found
    assert found["song 2.wav"] == ("E minor", Truth.ANNOTATED)
    assert found["song 3.wav"] == ("Eb major", Truth.ESTIMATED)


def test_what_cannot_be_heard_is_left_out_with_its_reason(recordings, tmp_path):
    class Fussy(singing.Ear):
        def hear(self, audio):
            return super().hear(audio) if audio[4_000:].any() else singing.Annotations()

    (recordings / "text.wav").write_text("this is no audio\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(singing, "Ear", Fussy)
        result = call("estimate", "labels", f"folder:{recordings}", "--by", "ear", "--reasons", tmp_path / "why.csv")
    assert result.exit_code == 1
    assert "6 files written" in result.output
    assert "left out: quiet.wav: ear: " in result.output
    assert "left out: text.wav: " in result.output
    assert "quiet.wav" in (tmp_path / "why.csv").read_text()
    assert not (recordings / "quiet.jams").exists()


def test_labels_elsewhere_and_of_some_tracks(recordings, tmp_path):
    result = call("estimate", "labels", f"folder:{recordings}", "--by", "ear", "--out", tmp_path / "out", "--limit", 1)
    assert result.exit_code in (0, 1), result.output
    assert not list(recordings.rglob("*.jams"))
    assert 1 <= len(list((tmp_path / "out").rglob("*.jams"))) <= 2


def test_measuring_publishing_and_printing(recordings, tmp_path):
    """Against a sheet that is wrong about one of six; then beside a use."""
    (recordings / "quiet.wav").unlink()
    rows = [[f"song {i}.wav", singing.key_of(i if i != 5 else 11), "heldout"] for i in range(1, 6)]
    rows.append(["deep/song 6.wav", singing.key_of(6), "heldout"])
    with (recordings / "annotations.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "key", "split"], *rows])
    out = tmp_path / "ear.json"
    result = call("estimate", "measure", "ear", "--corpus", f"folder:{recordings}", "--publish", "--out", out)
    assert result.exit_code == 0, result.output
    [row] = [row for row in accuracy.read(out).rows if row.metric == "key_accuracy"]
    assert row.value == pytest.approx(4 / 6, abs=1e-4)  # 4 is heard a tritone off
    assert (row.truth, row.seconds, row.pieces) == (Truth.ANNOTATED, None, 6)
    shown = call("estimate", "accuracy", "ear")
    assert "ear, measured with ear-1:" in shown.output
    assert "key: weighted_key " in shown.output
    assert "key_accuracy" not in shown.output
    assert "key: key_accuracy .67 [" in call("estimate", "accuracy", "ear", "--all").output
    used = call("estimate", "labels", f"folder:{recordings}", "--by", "ear")
    assert "ear, key: weighted_key " in used.output
    assert "(annotated, whole tracks, 6 pieces), null " in used.output


def test_accuracy_names_all_estimators_and_needs_none_of_their_packages():
    result = call("estimate", "accuracy")
    assert result.exit_code == 0, result.output
    assert all(name in result.output for name in registry.entries("estimators"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["labels", "procedural", "--by", "eer"], "did you mean 'ear'?"),
        (["labels", "procedurl", "--by", "ear"], "did you mean 'procedural'?"),
        (["labels", "procedural", "--by", "ear"], "say where to with --out"),
        (["accuracy", "essentia_kee"], "did you mean 'essentia_key'?"),
        (["labels", "procedural", "--by", "ear:x"], "takes no argument"),
        (["labels", "procedural", "--by", "ear", "--by", "nose", "--out", "."], "ear and nose both estimate key; name one"),
    ],
)
def test_bad_input_is_one_sentence(arguments, says):
    result = call("estimate", *arguments)
    assert result.exit_code == 2
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert says in line
