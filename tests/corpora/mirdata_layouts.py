"""Small data sets in the layouts that mirdata's indexes have, with generated audio, for test_mirdata.

Each function writes a set's files below a folder, and gives its index without checksums: ``{"tracks": {id: {key: path}}}``.
Layouts and file formats are those of the samples in mirdata's own tests.
"""

from __future__ import annotations

import csv
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
import soundfile

RATE = 16_000
SECONDS = 4.0
Rows = dict[str, dict[str, Any]]


def sound(root: Path, name: str, pitch: float = 440.0, seconds: float = SECONDS) -> str:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)
    soundfile.write(path, tone, RATE)
    return name


def text(root: Path, name: str, content: str) -> str:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return name


def midi(
    root: Path,
    name: str,
    program: int = 0,
    drums: bool = False,
    notes: tuple[tuple[float, float], ...] = (),
    meter: tuple[int, int] = (4, 4),
) -> str:
    """At 120 quarters a minute."""
    score = pretty_midi.PrettyMIDI(initial_tempo=120)
    score.time_signature_changes.append(pretty_midi.TimeSignature(*meter, 0))
    part = pretty_midi.Instrument(program, is_drum=drums)
    part.notes = [pretty_midi.Note(100, 38 if drums else 60, start, end) for start, end in notes]
    score.instruments.append(part)
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    score.write(str(path))
    return name


def beats(step: float = 0.5, count: int = 8, mark: str = "\t") -> str:
    return "".join(f"{step * i:.3f}{mark}{i % 4 + 1}\n" for i in range(count))


def table(root: Path, name: str, rows: list[dict[str, object]]) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def guitarset(root: Path) -> Rows:
    tracks = {}
    sheet = {
        "annotations": [
            _jams("beat_position", [(i / 2, 0, {"position": i % 4 + 1, "measure": 1}) for i in range(8)]),
            _jams("chord", [(0.0, 2.0, "Eb:maj"), (2.0, 3.0, "Ab:7")]),
            _jams("chord", [(0.0, 2.0, "Eb:maj(9)/5"), (2.0, 3.0, "Ab:7")]),
            _jams("key_mode", [(0.0, 5.0, "Eb:major")]),
        ]
    }
    for player, lead, mode in (
        ("00", "BN1-120-Eb", "comp"),
        ("00", "BN1-120-Eb", "solo"),
        ("01", "BN1-120-Eb", "comp"),
        ("01", "Rock2-120-F", "comp"),
        *(("02", f"Funk{n}-120-A", "comp") for n in range(8)),
    ):
        name = f"{player}_{lead}_{mode}"
        tracks[name] = {
            "audio_hex_cln": f"audio_hex-pickup_debleeded/{name}_hex_cln.wav",  # not downloaded
            "audio_hex": f"audio_hex-pickup_original/{name}_hex.wav",
            "audio_mic": sound(root, f"audio_mono-mic/{name}_mic.wav", 300 + 10 * len(tracks)),
            "audio_mix": f"audio_mono-pickup_mix/{name}_mix.wav",
            "jams": text(root, f"annotation/{name}.jams", json.dumps(sheet)),
        }
    return {"tracks": tracks}


def _jams(namespace: str, data: list[tuple[float, float, object]]) -> dict[str, object]:
    return {"namespace": namespace, "data": [{"time": t, "duration": d, "value": v, "confidence": 1} for t, d, v in data]}


def _edm(root: Path, titles: dict[str, str], keys: str) -> Rows:
    tracks = {}
    for number, (title, key) in enumerate(titles.items()):
        meta: dict[str, object] = {"artists": [{"name": "x"}], "bpm": 128, "genres": [], "sub_genres": []}
        tracks[str(number)] = {
            "audio": sound(root, f"audio/{title}.mp3", 300 + 20 * number),
            "meta": text(root, f"meta/{title}.json", json.dumps(meta)) if number else None,
            "key": text(root, f"{keys}/{title}.txt", key),
        }
    return {"tracks": tracks}


def giantsteps_key(root: Path) -> Rows:
    titles = {
        "10089 Jason Sparks - Close My Eyes feat. J. Little (Original Mix)": "D major\n",
        "108844 Jason Sparks, Si Begg - Gangsters (Si Begg Remix)": "Bb minor",
        "1038248 Geck-O, Sinith - Full Force (Full Mix)": "unreadable key",
    }
    return _edm(root, titles, "keys_gs+")


def beatport_key(root: Path) -> Rows:
    titles = {
        "100066 Lindstrom - Monsteer (Original Mix)": "D minor",
        "1017875 JT Donaldson - UCFWM (Original Mix)": "Unknown",
        "1019315 Guido Sava - Fever (Original Mix)": "F minor|C minor",
    }
    return _edm(root, titles, "keys")


def ballroom(root: Path) -> Rows:
    tracks = {}
    for name, genre, bpm, gap in (
        ("Media-105901", "Waltz", 120, 0.5),
        ("Albums-Latin_Jam-01", "Samba", 120, 0.5),
        ("Albums-Latin_Jam-02", "Samba", 60, 0.5),
    ):
        tracks[name] = {
            "audio": sound(root, f"B_1.0/audio/{genre}/{name}.wav"),
            "beats": text(root, f"B_1.0/annotations/beats/{name}.beats", beats(gap, 10, " ")),
            "tempo": text(root, f"B_1.0/annotations/tempo/{name}.bpm", f"{bpm}\n"),
        }
    return {"tracks": tracks}


def groove_midi(root: Path) -> Rows:
    tracks, rows = {}, []
    for drummer, session, number, style, split in (
        ("drummer1", "eval_session", 1, "funk/groove1", "test"),
        ("drummer5", "eval_session", 1, "funk/groove1", "test"),
        ("drummer1", "session1", 7, "rock", "train"),
        ("drummer1", "session1", 8, "rock", "validation"),
        ("drummer1", "session1", 9, "rock", "train"),
    ):
        count, unit = meter = (6, 8) if number == 9 else (4, 4)
        name = f"{drummer}/{session}/{number}"
        stem = f"{drummer}/{session}/{number}_{style.replace('/', '-')}_120_beat_{count}-{unit}"
        tracks[name] = {
            "midi": midi(root, f"{stem}.mid", drums=True, notes=((0, 0.1), (4.5, 4.6)), meter=meter),
            "audio": sound(root, f"{stem}.wav") if number != 8 else None,
        }
        rows.append(
            {
                "drummer": drummer,
                "session": f"{drummer}/{session}",
                "id": name,
                "style": style,
                "bpm": 120,
                "beat_type": "beat",
                "time_signature": f"{count}-{unit}",
                "midi_filename": f"{stem}.mid",
                "audio_filename": f"{stem}.wav",
                "duration": SECONDS,
                "split": split,
            }
        )
    table(root, "info.csv", rows)
    return {"tracks": tracks}


def irmas(root: Path) -> Rows:
    tracks: dict[str, dict[str, str]] = {}
    for name, file in (("0189__1", "cla/[cla][cla]0189__1.wav"), ("0020__2", "voi/031__[voi][nod][cla]0020__2.wav")):
        where = sound(root, f"IRMAS-TrainingData/{file}")
        tracks[name] = {"audio": where, "annotation": where}
    for number, excerpt in enumerate(("02 - And The Body Will Die-8", "02 - And The Body Will Die-9"), start=1):
        stem = f"IRMAS-TestingData-Part1/Part1/{excerpt}"
        tracks[str(number)] = {"audio": sound(root, f"{stem}.wav"), "annotation": text(root, f"{stem}.txt", "gel\t\nvoi\t\n")}
    return {"tracks": tracks}


def medley_solos_db(root: Path) -> Rows:
    tracks, rows = {}, []
    for number, (subset, instrument, song) in enumerate(
        (("training", "piano", 3), ("validation", "female singer", 4), ("test", "tenor saxophone", 5), ("test", "violin", 6))
    ):
        name = f"d07b1fc0-567d-52c2-fef4-239f31c9d40{number}"
        tracks[name] = {"audio": sound(root, f"audio/Medley-solos-DB_{subset}-3_{name}.wav", seconds=2.97)}
        rows.append({"subset": subset, "instrument": instrument, "instrument_id": number, "song_id": song, "uuid4": name})
    table(root, "annotation/Medley-solos-DB_metadata.csv", rows)
    return {"tracks": tracks}


def openmic2018(root: Path) -> Rows:
    tracks, rows = {}, []
    names = {"000046_3840": "Nicky Cook", "000135_483840": "Abominog", "000139_119040": "Abominog"}
    for name, artist in names.items():
        tracks[name] = {
            "audio": sound(root, f"audio/{name[:3]}/{name}.ogg"),
            "vggish": text(root, f"vggish/{name[:3]}/{name}.json", "{}"),
        }
        genres = "[{'genre_id': '45', 'genre_title': 'Loud-Rock'}]"
        rows.append({"track_id": 1, "artist_name": artist, "track_genres": genres, "sample_key": name, "start_time": 3.84})
    table(root, "openmic-2018-metadata.csv", rows)
    text(root, "partitions/split01_train.csv", "000046_3840\n000135_483840\n")
    text(root, "partitions/split01_test.csv", "000139_119040\n")
    labels = [
        ("000046_3840", "clarinet", 0.17),
        ("000046_3840", "saxophone", 0.0),
        ("000046_3840", "guitar", 0.9),
        ("000046_3840", "flute", 0.5),
        ("000135_483840", "synthesizer", 1.0),
        ("000135_483840", "cello", 0.1),
        ("000139_119040", "banjo", 0.0),
        ("000139_119040", "violin", 0.0),
        ("000139_119040", "cello", 0.0),
        ("000139_119040", "synthesizer", 0.2),
    ]
    table(
        root,
        "openmic-2018-aggregated-labels.csv",
        [{"sample_key": key, "instrument": name, "relevance": value, "num_responses": 3} for key, name, value in labels],
    )
    return {"tracks": tracks}


def slakh(root: Path, top: str = "slakh2100_flac_redux", splits: bool = True) -> Rows:
    tracks: dict[str, Any] = {}
    mixes: dict[str, Any] = {}
    for mix, split in (("Track00001", "train"), ("Track01876", "test"), ("Track00049", "omitted")):
        folder = f"{top}/{split}/{mix}" if splits else f"{top}/{mix}"
        parts = {"S00": (0, False, ((0.0, 1.0),)), "S01": (128, True, ((2.0, 2.1),)), "S02": (126, False, ((0.0, 3.0),))}
        lines = "".join(
            f"  {stem}:\n    inst_class: x\n    is_drum: {str(drums).lower()}\n    program_num: {program}\n"
            for stem, (program, drums, _) in parts.items()
        )
        metadata = text(root, f"{folder}/metadata.yaml", f"UUID: {mix}\nstems:\n{lines}")
        for stem, (program, drums, notes) in parts.items():
            tracks[f"{mix}-{stem}"] = {
                "audio": f"{folder}/stems/{stem}.flac" if stem != "S02" else None,  # a sound effect: not rendered
                "midi": midi(root, f"{folder}/MIDI/{stem}.mid", program % 128, drums, notes),
                "metadata": metadata,
            }
        mixes[mix] = {
            "tracks": [f"{mix}-{stem}" for stem in parts],
            "mix": sound(root, f"{folder}/mix.flac"),
            "midi": midi(root, f"{folder}/all_src.mid"),
            "metadata": metadata,
        }
    return {"tracks": tracks, "multitracks": mixes}


def maestro(root: Path) -> Rows:
    tracks, rows = {}, []
    for stem, title, split in (
        ("2018/MIDI-Unprocessed_Chamber3_MID--AUDIO_10_R3_2018_wav--1", "Sonata Op. 1", "train"),
        ("2008/MIDI-Unprocessed_03_R2_2008_01-03_ORIG_MID--AUDIO_03_R2_2008_wav--2", "Sonata  op. 1", "train"),
        ("2017/MIDI-Unprocessed_051_PIANO051_MID--AUDIO-split_07-06-17_Piano-e_2-03_wav--0", "Sonata in E", "test"),
    ):
        tracks[stem] = {"midi": f"{stem}.midi", "audio": sound(root, f"{stem}.wav")}
        rows.append(
            {
                "canonical_composer": "Alban Berg",
                "canonical_title": title,
                "split": split,
                "year": int(stem[:4]),
                "midi_filename": f"{stem}.midi",
                "audio_filename": f"{stem}.wav",
                "duration": SECONDS,
            }
        )
    text(root, "maestro-v2.0.0.json", json.dumps(rows))
    return {"tracks": tracks, "metadata": {"maestro-v2.0.0": "maestro-v2.0.0.json"}}


def gtzan_genre(root: Path) -> Rows:
    tracks: dict[str, dict[str, str | None]] = {}
    for name, line in (("country.00000", beats()), ("hiphop.00000", "0.1\n0.6\n1.1\n"), ("jazz.00003", "")):
        labels = f"gtzan_{name.replace('.', '_')}"
        tracks[name] = {
            "audio": sound(root, f"gtzan_genre/genres/{name.split('.')[0]}/{name}.wav"),
            "beats": text(root, f"gtzan_tempo_beat-main/beats/{labels}.beats", line) if line else None,
            "tempo": text(root, f"gtzan_tempo_beat-main/tempo/{labels}.bpm", "120.0\n") if line else None,
        }
    return {"tracks": tracks}


def beatles(root: Path) -> Rows:
    album = "01_-_Please_Please_Me"
    tracks: dict[str, dict[str, str | None]] = {}
    for number, song in (("0111", "11_-_Do_You_Want_To_Know_A_Secret"), ("10212", "CD2_-_12_-_Revolution_9")):
        where = f"The Beatles/{album}/{song}"
        chords = "0.000000 1.500000 N\n1.500000 2.600000 E:min\n2.599990 3.000000 E:min/b3\n3.0 9.5 B:7\n"
        keys = "0.000\t1.500\tSilence\n1.500\t3.000\tKey\tE\n3.000\t9.500\tKey\tA:mixolydian\n"
        first = song.startswith("11")
        tracks[number] = {
            "audio": sound(root, f"audio/{album}/{song}.wav"),
            "beat": text(root, f"annotations/beat/{where}.txt", beats(0.4, 9)) if first else None,
            "chords": text(root, f"annotations/chordlab/{where}.lab", chords),
            "keys": text(root, f"annotations/keylab/{where}.lab", keys) if first else None,
            "sections": f"annotations/seglab/{where}.lab",
        }
    return {"tracks": tracks}


def fma_keys(root: Path) -> Rows:
    names = {"10": "C# Major", "141": "A minor"}
    table(root, "fma_keys_metadata.csv", [{"track_id": n, "spotify_uri": "", "key_and_mode": k} for n, k in names.items()])
    tracks = {name: {"audio": sound(root, f"000/{name:>06}.mp3")} for name in names}
    return {"tracks": tracks, "metadata": {"fma_keys_metadata": "fma_keys_metadata.csv"}}


def candombe(root: Path) -> Rows:
    tracks = {}
    for name in ("csic.1995_ansina1_01", "csic.1995_ansina1_02"):
        lines = "".join(f"{0.45 * i:.2f},{i // 4 + 1}.{i % 4 + 1}\n" for i in range(8))
        tracks[name] = {
            "audio": sound(root, f"candombe_audio/{name}.flac"),
            "beats": text(root, f"candombe_annotations/with_bar_number/{name}.csv", lines),
        }
    return {"tracks": tracks}


def giantsteps_tempo(root: Path) -> Rows:
    top, tracks = "giantsteps-tempo-dataset-0b7d47ba8cae59d3535a02e3db69e2cf6d0af5bb", {}
    for name, second in (("28952", 0.25), ("3041381", 0.75)):
        data = [{"time": 0.0, "duration": 120.0, "value": 137.0, "confidence": 1 - second}]
        data += [{"time": 0.0, "duration": 120.0, "value": 68.5, "confidence": second}]
        sheet = json.dumps({"annotations": [{"namespace": "tempo", "data": data}]})
        tracks[name] = {
            "audio": sound(root, f"audio/{name}.LOFI.mp3"),
            "annotation_v1": text(root, f"{top}/annotations/jams/{name}.LOFI.jams", sheet),
            "annotation_v2": text(root, f"{top}/annotations_v2/jams/{name}.LOFI.jams", sheet),
        }
    return {"tracks": tracks}


def queen(root: Path) -> Rows:
    where = "Queen/Greatest Hits I/01 Bohemian Rhapsody"
    files = {
        "audio": sound(root, "audio/Greatest Hits I/01 Bohemian Rhapsody.flac"),
        "chords": text(root, f"annotations/chordlab/{where}.lab", "0.0\t1.0\tN\n1.0\t4.0\tBb:maj6\n"),
        "keys": text(root, f"annotations/keylab/{where}.lab", "0.0\t4.0\tKey\tBb\n"),
        "sections": f"annotations/seglab/{where}.lab",
    }
    return {"tracks": {"0": files}}


def billboard(root: Path) -> Rows:
    tracks: dict[str, dict[str, str | None]] = {}
    lines = ["id,chart_date,target_rank,actual_rank,title,artist,peak_rank,weeks_on_chart"]
    for name in ("3", "35"):  # a song that was drawn twice
        lines.append(f"{name},1987-10-31,40,39,I Don't Mind At All,Bourgeois Tagg,38,9")
        folder = f"McGill-Billboard/{int(name):04d}"
        chords = "0.0\t1.0\tN\n1.0\t2.0\tA:sus4(b7)\n2.0\t4.0\tA:1/1\n"
        tracks[name] = {
            "audio": sound(root, f"audio/{name}.flac"),
            **{key: f"{folder}/{key}.txt" for key in ("salami", "bothchroma", "tuning")},
            **{f"lab_{kind}": f"{folder}/{kind}.lab" for kind in ("majmin7", "majmin7inv", "majmin", "majmininv")},
            "lab_full": text(root, f"{folder}/full.lab", chords),
        }
    text(root, "billboard-2.0-index.csv", "\n".join(lines) + "\n")
    return {"tracks": tracks}


def rwc_popular(root: Path) -> Rows:
    lines = "".join(f"{40 * i}\t{40 * i}\t{(384, 48, 96, 144)[i % 4]}\n" for i in range(10))
    files: dict[str, str | None] = {
        "audio": sound(root, "audio/rwc-p-m01/1.wav"),
        "beats": text(root, "annotations/AIST.RWC-MDB-P-2001.BEAT/RM-P001.BEAT.TXT", lines),
        "chords": text(root, "annotations/AIST.RWC-MDB-P-2001.CHORD/RWC_Pop_Chords/N001-M01-T01.lab", "0.0\t4.0\tG#:min7\n"),
        "sections": None,
        "voca_inst": None,
    }
    head = "Piece No.,Cat. Suffix,Tr. No.,Title,Artist (Vocal),Singer Information,Length,Tempo,Instruments,Drum Information\n"
    row = "No. 1,M01,Tr. 01,Eien no replica,Kazuo Nishi,Male,3:29,150,Gt,Drum sequences\n"
    text(root, "metadata-master/rwc-p.csv", head + row)
    return {"tracks": {"RM-P001": files}}


def medleydb_pitch(root: Path) -> Rows:
    tracks, metadata = {}, {}
    for number, instrument in enumerate(("violin", "double bass", "theremin")):
        name = f"AClassicEducation_NightOwl_STEM_{number:02d}"
        tracks[name] = {"audio": sound(root, f"audio/{name}.wav"), "pitch": f"pitch/{name}.csv", "notes_pyin": None}
        metadata[name] = {"instrument": instrument, "artist": "AClassicEducation", "title": "NightOwl", "genre": "Rock"}
    text(root, "medleydb_pitch_metadata.json", json.dumps(metadata))
    return {"tracks": tracks}


def _rhythm(root: Path, folder: str, book: str, sheet: str, columns: int, artist: int) -> Rows:
    tracks = {}
    workbook = importlib.import_module("openpyxl").Workbook()  # mirdata needs it; some tests run without mirdata
    workbook.active.title = sheet
    workbook.active.append([f"column {i}" for i in range(columns)])
    for name in ("1001", "1002"):
        row: list[object] = [1] * columns
        row[0], row[artist] = name, "K V Narayanaswamy"
        workbook.active.append(row)
        tracks[name] = {
            "audio": sound(root, f"{folder}/audio/{name}.wav"),
            "beats": text(root, f"{folder}/annotations/beats/{name}.beats", beats(mark=",")),
            "meter": text(root, f"{folder}/annotations/meter/{name}.meter", "8/4\n"),
        }
    workbook.save(root / folder / book)
    return {"tracks": tracks}


def compmusic_carnatic_rhythm(root: Path) -> Rows:
    return _rhythm(root, "CMR_full_dataset_1.0", "CMRfullDataset.xlsx", "Carnatic", 14, 3)


def compmusic_hindustani_rhythm(root: Path) -> Rows:
    return _rhythm(root, "HMR_1.0", "HMDf.xlsx", "HMDf", 16, 4)


def cuidado(root: Path) -> Rows:
    times = "".join(f"{0.5 * i}\n" for i in range(8))
    return {
        "tracks": {
            "1": {
                "audio": sound(root, "C_1.0/audio/1.wav"),
                "beats": text(root, "C_1.0/annotations/beats/1.beats", times),
                "tempo": text(root, "C_1.0/annotations/tempo/1.bpm", "120\n"),
            }
        }
    }
