"""A folder of recordings: labels from CSV and JAMS, bad files and bad labels, on files that the tests write."""

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from musae import registry
from musae.cli import main
from musae.corpora import folder, procedural, sound
from musae.corpora.export import export
from musae.corpora.track import Clip, Span, Split, Truth
from musae.errors import UserError
from musae.testing_corpora import check_corpus


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSAE_CACHE", str(tmp_path_factory.mktemp("cache")))


def tone(seconds: float, rate: int = 16_000, channels: int = 1, pitch: float = 440.0) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    one = (0.3 * np.sin(2 * np.pi * pitch * t)).astype(np.float32)
    return one if channels == 1 else np.stack([one] * channels, 1)


def write(path: Path, audio: np.ndarray, rate: int = 16_000, **options: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, **options)


def sheet(root: Path, rows: Sequence[dict[str, str]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (root / "annotations.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


def reasons(corpus: folder.FolderCorpus) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file, reason in corpus.left_out:
        found.setdefault(file, []).append(reason)
    return found


def both(corpus: folder.FolderCorpus) -> dict[str, object]:
    return {track.source: track for split in Split for track in corpus.tracks(split)}


def test_an_exported_corpus_is_read_back_as_it_was(tmp_path: Path) -> None:
    """WAV and JAMS of ten rendered pieces: a few seconds."""
    made = procedural.load()
    for split in Split:
        export(made, tmp_path / "some", split, limit=5, rate=16_000)
    corpus = folder.load(str(tmp_path / "some"))
    assert not corpus.left_out
    for split in Split:
        read = {track.id.removesuffix(".wav"): track for track in corpus.tracks(split)}
        for track in made.tracks(split)[:5]:
            again = read[track.id]
            assert (again.group, again.licence) == (track.group, track.licence)
            a, b = track.annotations, again.annotations
            assert (b.tempo, b.instruments, dict(b.truth)) == (pytest.approx(a.tempo, abs=1e-3), a.instruments, dict(a.truth))
            assert [s.label for s in b.chords] == [s.label for s in a.chords]
            assert [s.label for s in b.keys] == [s.label for s in a.keys]
            assert np.allclose([s.start for s in b.chords], [s.start for s in a.chords], atol=1e-4)
            assert np.allclose(b.beats, a.beats, atol=1e-4)
            assert b.beat_positions == a.beat_positions
    module = SimpleNamespace(CARD=folder.card(str(tmp_path / "some")), load=lambda: folder.load(str(tmp_path / "some")))
    check_corpus(module)  # type: ignore[arg-type]
    track = made.tracks(Split.TRAIN)[0]
    clip = next(t for t in corpus.tracks(Split.TRAIN) if t.id == f"{track.id}.wav")
    rendered = next(iter(made.audio([Clip(track, 0.0, track.duration)], 16_000)))
    heard = next(iter(corpus.audio([Clip(clip, 2.0, 1.0)], 16_000)))
    assert np.abs(heard - rendered[32_000:48_000]).max() < 1e-4  # 16 bits


def test_labels_of_the_sheet(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone(4))
    write(tmp_path / "deep" / "b c.flac", tone(4))
    (tmp_path / "chords.lab").write_text("0 2 C:maj\n2 4.0 A:min7/b3\n")
    (tmp_path / "beats.txt").write_text("# by hand\n0.5 1\n1.0 2\n1.5 1\n")
    sheet(
        tmp_path,
        [
            {"file": "a.wav", "group": "tune", "split": "heldout", "licence": "CC0-1.0", "key": "F# minor", "tempo": "96.5"},
            {
                "file": "deep/b c.flac",
                "chords": "chords.lab",
                "beats": "beats.txt",
                "instruments": "piano; bass",
                "truth": "derived",
            },
        ],
    )
    corpus = folder.load(str(tmp_path))
    assert not corpus.left_out
    tracks = both(corpus)
    a, b = tracks["a.wav"], tracks["deep/b c.flac"]
    assert (a.id, a.group, a.split, a.licence) == ("a.wav", "tune", Split.HELDOUT, "CC0-1.0")
    assert a.annotations.keys == (Span(0.0, 4.0, "F# minor"),)
    assert a.annotations.tempo == 96.5
    assert a.annotations.truth == {"key": Truth.ANNOTATED, "tempo": Truth.ANNOTATED}
    assert b.annotations.chords == (Span(0, 2, "C:maj"), Span(2, 4, "A:min7/b3"))
    assert (b.annotations.beats, b.annotations.beat_positions) == ((0.5, 1.0, 1.5), (1, 2, 1))
    assert b.annotations.instruments == {"piano", "bass"}
    assert set(b.annotations.truth.values()) == {Truth.DERIVED}
    assert b.licence == "not stated"


def test_beats_whose_place_in_the_bar_is_not_known(tmp_path: Path) -> None:
    """They are read, cropped, exported and read back without positions; of some beats alone, positions are no use."""
    root = tmp_path / "some"
    write(root / "a.wav", tone(4))
    write(root / "b.wav", tone(4))
    (root / "a.txt").write_text("0.5\n1.0\n3.5\n")
    (root / "b.txt").write_text("0.5 1\n1.0\n")
    sheet(root, [{"file": name, "beats": beats, "split": "train"} for name, beats in (("a.wav", "a.txt"), ("b.wav", "b.txt"))])
    corpus = folder.load(str(root))
    [left_out] = corpus.left_out
    assert left_out == ("b.wav", "beats left out: 1 of 2 beats have a position in the bar; give all of them one, or none")
    track = both(corpus)["a.wav"]
    assert (track.annotations.beats, track.annotations.beat_positions) == ((0.5, 1.0, 3.5), ())
    clip = Clip(track, 0.75, 3.0).annotations
    assert (clip.beats, clip.beat_positions) == ((0.25, 2.75), ())
    export(corpus, tmp_path / "out", Split.TRAIN, limit=1, rate=16_000)
    again = both(folder.load(str(tmp_path / "out")))["a.wav.wav"]
    assert again.annotations == track.annotations


def test_bad_audio_is_left_out_with_its_reason(tmp_path: Path) -> None:
    write(tmp_path / "good.wav", tone(2))
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is no audio\n" * 50)
    write(tmp_path / "silent.wav", np.zeros(16_000, np.float32))
    write(tmp_path / "one.wav", np.array([0.5], np.float32))
    write(tmp_path / "nan.wav", np.full(8_000, np.nan, np.float32), subtype="FLOAT")
    write(tmp_path / "clipped.wav", np.clip(5 * tone(2), -1, 1))
    write(tmp_path / "eight.wav", tone(2, channels=8))
    write(tmp_path / "low.wav", tone(2, 8_000), 8_000)
    write(tmp_path / "high.wav", tone(2, 192_000), 192_000)
    write(tmp_path / "cut.flac", tone(2))
    data = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    (tmp_path / "notes.txt").write_text("not looked at")
    corpus = folder.load(str(tmp_path))
    found = reasons(corpus)
    assert found["empty.wav"] == ["empty file"]
    assert "libsndfile" in found["text.wav"][0]
    assert found["silent.wav"] == ["silent: no sample above -60 dBFS"]
    assert found["one.wav"] == ["1 samples, 0.0001 s: shorter than 0.1 s"]
    assert found["nan.wav"] == ["NaN or infinite samples"]
    assert "clipped" in found["clipped.wav"][0]
    assert found["eight.wav"] == ["used, but its 8 channels are averaged"]
    assert found["low.wav"] == ["used, but sampled at 8000 Hz: it has nothing above 4 kHz"]
    assert not {"good.wav", "high.wav", "notes.txt"} & set(found)
    used = set(both(corpus))
    assert used >= {"good.wav", "clipped.wav", "eight.wav", "low.wav", "high.wav"}
    assert not used & {"empty.wav", "text.wav", "silent.wav", "one.wav", "nan.wav"}
    for track in both(corpus).values():
        [audio] = corpus.audio([Clip(track, 0.25, 1.0)], 32_000)
        assert audio.shape == (32_000,)
        if track.source in ("good.wav", "eight.wav", "low.wav", "high.wav"):
            expected = 0.3 * np.sin(2 * np.pi * 440 * (np.arange(32_000) / 32_000 + 0.25))
            assert np.abs(audio - expected).max() < 2e-3, track.source


def test_bad_labels_are_left_out_with_their_reason(tmp_path: Path) -> None:
    for name in "abcdefg":
        write(tmp_path / f"{name}.wav", tone(3))
    (tmp_path / "long.lab").write_text("0 2 C:maj\n2 9 G:7\n9 12 C:maj\n")
    (tmp_path / "strange.lab").write_text("0 1 C:maj\n1 2 Hdur\n")
    (tmp_path / "over.lab").write_text("0 2 C:maj\n1 3 G:maj\n")
    (tmp_path / "g.jams").write_text("{ no json")
    sheet(
        tmp_path,
        [
            {"file": "a.wav", "chords": "long.lab"},
            {"file": "b.wav", "chords": "strange.lab", "key": "C major"},
            {"file": "c.wav", "chords": "over.lab"},
            {"file": "d.wav", "chords": "../../etc/passwd", "tempo": "fast"},
            {"file": "e.wav", "key": "H dur", "tempo": "-3"},
            {"file": "f.wav", "instruments": "piano;kazoo", "beats": "nowhere.txt"},
            {"file": "missing.wav", "key": "C major"},
        ],
    )
    corpus = folder.load(str(tmp_path))
    found, tracks = reasons(corpus), both(corpus)
    assert len(tracks) == 7
    assert found["a.wav"] == ["chords go on to 12.00 s, and the audio ends at 3.00 s: they are cut"]
    assert tracks["a.wav"].annotations.chords == (Span(0, 2, "C:maj"), Span(2, 3.0, "G:7"))
    assert "'Hdur' is not in Harte syntax" in found["b.wav"][0]
    assert tracks["b.wav"].annotations.truth == {"key": Truth.ANNOTATED}
    assert "overlaps another" in found["c.wav"][0]
    assert any("lies outside the folder" in reason for reason in found["d.wav"])
    assert any("tempo left out" in reason for reason in found["d.wav"])
    assert any("'H dur'" in reason for reason in found["e.wav"])
    assert any("tempo left out: -3.0" in reason for reason in found["e.wav"])
    assert any("'kazoo' is no General MIDI family" in reason for reason in found["f.wav"])
    assert any("beats left out" in reason for reason in found["f.wav"])
    assert "no JAMS file" in found["g.wav"][0]
    assert "no such audio file" in found["missing.wav"][0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,chord\na.wav,C\n", "unknown column 'chord'"),
        ("key\nC major\n", "no column 'file'"),
        ("file,split\na.wav,test\n", r"annotations\.csv:2: split is 'test'"),
        ("file,truth\na.wav,sure\n", r"csv:2: truth is 'sure'"),
        ("file,key\na.wav,C major\na.wav,D major\n", r"csv:3: a\.wav stands on two lines"),
        ("file,key\na.wav,C, major\n", "more values than columns"),
        ("file\n\xff\n", "cannot be read as UTF-8"),
    ],
)
def test_a_sheet_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, says: str) -> None:
    write(tmp_path / "a.wav", tone(1))
    (tmp_path / "annotations.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=says):
        folder.load(str(tmp_path))


def test_folders_without_audio(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        folder.load(str(tmp_path / "none"))
    with pytest.raises(UserError, match="none of 0 audio files can be used"):
        folder.load(str(tmp_path))
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of 1 audio files can be used \(a.wav: empty file\)"):
        folder.load(str(tmp_path))
    with pytest.raises(UserError, match="name a folder"):
        registry.make("corpora", "folder")


def test_the_revision_follows_audio_and_labels_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.wav", tone(1))
    first = folder.load(str(tmp_path)).revision
    looked: list[Path] = []
    real = sound.inspect
    monkeypatch.setattr(sound, "inspect", lambda path: looked.append(path) or real(path))
    assert folder.load(str(tmp_path)).revision == first
    assert not looked, "an unchanged file was inspected again"
    (tmp_path / "readme.txt").write_text("x")
    os.utime(tmp_path / "a.wav")
    assert folder.load(str(tmp_path)).revision == first
    assert looked == [tmp_path.resolve() / "a.wav"]
    sheet(tmp_path, [{"file": "a.wav", "key": "C major", "instruments": "piano;bass;organ"}])
    labelled = folder.load(str(tmp_path)).revision
    assert labelled != first
    program = f"from musae.corpora import folder; print(folder.load({str(tmp_path)!r}).revision)"
    for seed in "01":  # sets print in another order there
        run = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == labelled
    write(tmp_path / "a.wav", tone(1, pitch=441))
    assert folder.load(str(tmp_path)).revision not in (first, labelled)


def test_splits_keep_groups_together_and_hold_out_a_fifth(tmp_path: Path) -> None:
    for number in range(60):
        write(tmp_path / f"{number}.wav", tone(0.2, 8_000), 8_000)
    sheet(tmp_path, [{"file": f"{n}.wav", "group": f"g{n // 2}"} for n in range(60)])
    corpus = folder.load(str(tmp_path))
    train, heldout = ({track.group for track in corpus.tracks(split)} for split in Split)
    assert not train & heldout
    assert len(train | heldout) == 30
    assert 2 <= len(heldout) <= 12


def test_formats_beyond_libsndfile(tmp_path: Path) -> None:
    """AAC in MP4, which ffmpeg reads: within a few per cent of the tone that was written."""
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=32_000, layout="mono")
        audio = tone(2, 32_000)
        for start in range(0, len(audio), 1024):
            frame = av.AudioFrame.from_ndarray(audio[None, start : start + 1024], format="fltp", layout="mono")
            frame.rate, frame.pts = 32_000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    heard = sound.inspect(tmp_path / "a.m4a")
    assert (heard.problem, heard.rate, heard.channels) == ("", 32_000, 1)
    assert heard.seconds == pytest.approx(2, abs=0.1)
    assert np.sqrt(np.mean(sound.read(tmp_path / "a.m4a", 0.5, 1.0, 16_000) ** 2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.03)


def test_a_clip_of_an_mp3_file_is_what_the_whole_file_has_there(tmp_path: Path) -> None:
    """A pure tone fills MP3's bit reservoir: decoded from the middle on, it begins with a quarter of a second of silence."""
    write(tmp_path / "a.mp3", tone(4, pitch=210.0), format="MP3")
    whole, _ = soundfile.read(tmp_path / "a.mp3", dtype="float32")
    for start in (0.25, 0.5, 2.0):
        first = round(start * 16_000)
        assert np.abs(sound.read(tmp_path / "a.mp3", start, 1.0, 16_000) - whole[first : first + 16_000]).max() < 1e-3


def test_doctor_and_harvest(tmp_path: Path) -> None:
    """`musae corpus doctor folder:PATH` and `musae harvest --corpus folder:PATH`, as a user calls them."""
    root = tmp_path / "recordings"
    for number in range(30):
        write(root / f"{number}.wav", tone(2, pitch=200 + 20 * number))
    arguments = ["corpus", "doctor", f"folder:{root}"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "nothing is wrong" in result.output
    (root / "bad.wav").write_bytes(b"")
    result = CliRunner().invoke(main, [*arguments, "--reasons", str(tmp_path / "reasons.csv")])
    assert result.exit_code == 1
    assert "left out: bad.wav: empty file" in result.output
    assert (tmp_path / "reasons.csv").read_text() == "file,reason\nbad.wav,empty file\n"
    harvest = ["harvest", "nano", "--corpus", f"folder:{root}", "--seconds", "1.6", "--clips", "5", "--root", str(tmp_path)]
    result = CliRunner().invoke(main, harvest)
    assert result.exit_code == 0, result.output
    assert "200 frames of width 256" in result.output
    assert "1 remark about files of folder-recordings" in result.output
