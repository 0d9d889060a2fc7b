"""The data sets of mirdata that fit the contract: what their loaders' attributes say, how it is known, and what a group is.

Attributes, index keys and split names are those of the loaders of mirdata 1.0 (``mirdata/datasets/*.py``). Where a level of truth
could be argued over, the lower one stands here.

Sets that have chords, keys, beats or instruments and are not here: haydn_op20 has no audio, jtd's stems are separated by machine,
good_sounds, tinysol and egfxset are single notes, filosax writes chords in its own way, orchset names the melody's sections only,
and acousticbrainz_genre, da_tacos, dali and salami annotate other things. Of hainsworth and simac mirdata 1.0.0 has no index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from musae.corpora.instruments import DRUMS
from musae.corpora.track import Truth

Access = Literal["download", "request", "own"]
"""How the audio is had: mirdata downloads it, its owners give it on request, or the user has the recordings."""

Coverage = Literal["whole", "classes", "named"]
"""What instrument labels leave open: nothing (no other family sounds), families of which no class was looked for, or all that is
not named."""

EXACT, ANNOTATED, DERIVED, ESTIMATED = Truth.EXACT, Truth.ANNOTATED, Truth.DERIVED, Truth.ESTIMATED


@dataclass(frozen=True)
class Labels:
    """Where a concept's labels are."""

    attribute: str
    """Of a mirdata track; several, separated by spaces, are joined by spaces. ``beats`` for a tempo: from the beats, where
    they are steady."""
    truth: Truth
    only: tuple[str, str] | None = None
    """An attribute and its value, of the tracks that the labels hold for; all where None."""


@dataclass(frozen=True)
class DataSet:
    """One set."""

    licence: str
    access: Access
    group: str
    """What a group is, in words."""
    labels: Mapping[str, Labels] = field(default_factory=dict)
    """Concept -> its labels."""
    of: tuple[str, ...] = ("track_id",)
    """Attributes that name the group, joined by ``|``, ..."""
    pattern: str = ""
    """... of which this expression's first group is taken, where it matches."""
    split: str = ""
    """Attribute that names the official split; where there is none, a fifth of the groups is held out by a hash."""
    heldout: tuple[str, ...] = ("test", "validation")
    """Official splits that are held out."""
    omitted: tuple[str, ...] = ()
    """Official splits that are not used."""
    audio: str = "audio"
    """The index's key of the audio file."""
    files: tuple[str, ...] = ()
    """The index's keys of the files that labels come from."""
    stems: bool = False
    """A set of multitracks: the mix is heard, and the stems' MIDI says which instruments sound when."""
    remotes: tuple[str, ...] = ()
    """What mirdata is to download, of its ``REMOTES``; all of it where empty."""
    sounds: tuple[str, ...] = ()
    """Families that sound in every track, and no other."""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Class of instruments -> the families that it may be of; none for a voice (General MIDI has a choir, of the ensembles)."""
    coverage: tuple[Coverage, Coverage] = ("whole", "whole")
    """In the training split, and in the held-out one."""


VOICE: tuple[str, ...] = ()

IRMAS = {
    "cel": ("strings",),
    "cla": ("reed",),
    "flu": ("pipe",),
    "gac": ("guitar",),
    "gel": ("guitar",),
    "org": ("organ",),
    "pia": ("piano",),
    "sax": ("reed",),
    "tru": ("brass",),
    "vio": ("strings",),
    "voi": VOICE,
}

MEDLEY_SOLOS = {
    "clarinet": ("reed",),
    "distorted electric guitar": ("guitar",),
    "female singer": VOICE,
    "flute": ("pipe",),
    "piano": ("piano",),
    "tenor saxophone": ("reed",),
    "trumpet": ("brass",),
    "violin": ("strings",),
}

OPENMIC = {
    "accordion": ("organ",),
    "banjo": ("ethnic",),
    "bass": ("bass",),
    "cello": ("strings",),
    "clarinet": ("reed",),
    "cymbals": (DRUMS,),
    "drums": (DRUMS,),
    "flute": ("pipe",),
    "guitar": ("guitar",),
    "mallet_percussion": ("chromatic percussion",),
    "mandolin": ("guitar",),
    "organ": ("organ",),
    "piano": ("piano",),
    "saxophone": ("reed",),
    "synthesizer": ("synth lead", "synth pad"),
    "trombone": ("brass",),
    "trumpet": ("brass",),
    "ukulele": ("guitar",),
    "violin": ("strings",),
    "voice": VOICE,
}
"""Mandolin and ukulele are variations of General MIDI 2's guitars; accordions are among the organs of General MIDI 1."""

MEDLEYDB = {
    "alto saxophone": ("reed",),
    "baritone saxophone": ("reed",),
    "bass clarinet": ("reed",),
    "bassoon": ("reed",),
    "cello": ("strings",),
    "clarinet": ("reed",),
    "clean electric guitar": ("guitar",),
    "distorted electric guitar": ("guitar",),
    "dizi": ("pipe",),
    "double bass": ("bass", "strings"),
    "electric bass": ("bass",),
    "female singer": VOICE,
    "flute": ("pipe",),
    "male rapper": VOICE,
    "male singer": VOICE,
    "male speaker": VOICE,
    "oboe": ("reed",),
    "piccolo": ("pipe",),
    "soprano saxophone": ("reed",),
    "tenor saxophone": ("reed",),
    "trombone": ("brass",),
    "trumpet": ("brass",),
    "tuba": ("brass",),
    "viola": ("strings",),
    "violin": ("strings",),
    "vocalists": VOICE,
}

RWC = "RWC Music Database: research only, after a pledge to its owners"
NC_SA_4 = "CC BY-NC-SA 4.0"
UNKNOWN = "not stated"

SETS: Mapping[str, DataSet] = {
    "ballroom": DataSet(
        licence=NC_SA_4,
        access="download",
        group="an album, where it is known; else a recording",
        pattern=r"^(albums-.+)-\d+$",
        labels={"tempo": Labels("tempo", ANNOTATED), "beats": Labels("beats", ANNOTATED)},
        files=("tempo", "beats"),
    ),
    "beatles": DataSet(
        licence=UNKNOWN,
        access="own",
        group="a song",
        of=("title",),
        labels={
            "chords": Labels("chords", ANNOTATED),
            "key": Labels("key", ANNOTATED),
            "tempo": Labels("beats", ANNOTATED),
            "beats": Labels("beats", ANNOTATED),
        },
        files=("chords", "keys", "beat"),
    ),
    "beatport_key": DataSet(
        licence="CC BY-SA 4.0",
        access="download",
        group="the first-named artist",
        of=("title",),
        pattern=r"^\d+ (.+?)(?:,.*)? - ",
        labels={"key": Labels("key", ANNOTATED), "tempo": Labels("tempo", ESTIMATED)},
        files=("key", "meta"),
    ),
    "billboard": DataSet(
        licence="CC0 (annotations)",
        access="own",
        group="a song",
        of=("artist", "title"),
        labels={"chords": Labels("chords_full", ANNOTATED)},
        files=("lab_full",),
        remotes=("metadata", "annotation_lab"),
    ),
    "brid": DataSet(
        licence=NC_SA_4,
        access="download",
        group="a recording",
        labels={"tempo": Labels("tempo", ANNOTATED), "beats": Labels("beats", ANNOTATED)},
        files=("tempo", "beats"),
    ),
    "candombe": DataSet(
        licence="CC BY 4.0",
        access="download",
        group="a session of a group of players",
        pattern=r"^(.+)_\d+$",
        labels={"tempo": Labels("beats", ANNOTATED), "beats": Labels("beats", ANNOTATED)},
        files=("beats",),
    ),
    "compmusic_carnatic_rhythm": DataSet(
        licence=NC_SA_4,
        access="request",
        group="an artist",
        of=("artist",),
        labels={"tempo": Labels("beats", ANNOTATED), "beats": Labels("beats", ANNOTATED)},
        files=("beats",),
    ),
    "compmusic_hindustani_rhythm": DataSet(
        licence=NC_SA_4,
        access="request",
        group="an artist",
        of=("artist",),
        labels={"tempo": Labels("beats", ANNOTATED), "beats": Labels("beats", ANNOTATED)},
        files=("beats",),
    ),
    "cuidado": DataSet(
        licence=NC_SA_4,
        access="own",
        group="a recording",
        labels={"tempo": Labels("tempo", ANNOTATED), "beats": Labels("beats", ANNOTATED)},
        files=("tempo", "beats"),
    ),
    "fma_keys": DataSet(
        licence="CC BY 4.0 (annotations), Creative Commons by the track (audio)",
        access="download",
        group="a recording (artists are not named)",
        labels={"key": Labels("key mode", ANNOTATED)},
    ),
    "giantsteps_key": DataSet(
        licence="CC BY-SA 4.0",
        access="download",
        group="the first-named artist",
        of=("title",),
        pattern=r"^\d+ (.+?)(?:,.*)? - ",
        labels={"key": Labels("key", ANNOTATED), "tempo": Labels("tempo", ESTIMATED)},
        files=("key", "meta"),
    ),
    "giantsteps_tempo": DataSet(
        licence="CC BY-SA 4.0",
        access="own",
        group="a recording (artists are not named)",
        labels={"tempo": Labels("tempo_v2", ANNOTATED)},
        files=("annotation_v2",),
    ),
    "groove_midi": DataSet(
        licence="CC BY 4.0",
        access="download",
        group="a performance; in the evaluation sessions, a groove by all its drummers",
        of=("session", "style", "track_id"),
        pattern=r"eval_session\|(.+)\|",
        split="split",
        labels={"tempo": Labels("tempo", EXACT), "beats": Labels("beats", DERIVED)},
        files=("midi",),
        sounds=(DRUMS,),
    ),
    "gtzan_genre": DataSet(
        licence=UNKNOWN,
        access="download",
        group="an excerpt (its known repetitions are not marked)",
        labels={"tempo": Labels("tempo", ANNOTATED), "beats": Labels("beats", ANNOTATED)},
        files=("tempo", "beats"),
    ),
    "guitarset": DataSet(
        licence="MIT",
        access="download",
        group="a lead sheet, by all six players",
        pattern=r"^\d+_(.+)_(?:comp|solo)$",
        labels={
            "chords": Labels("leadsheet_chords", ANNOTATED, only=("mode", "comp")),
            "key": Labels("key_mode", ANNOTATED),
            "tempo": Labels("tempo", ANNOTATED),
            "beats": Labels("beats", ANNOTATED),
        },
        audio="audio_mic",
        remotes=("annotations", "audio_mic"),
        files=("jams",),
        sounds=("guitar",),
    ),
    "irmas": DataSet(
        licence="CC BY-NC-SA 3.0",
        access="download",
        group="a recording, of which there are up to three excerpts for training and more for testing",
        of=("audio_path",),
        pattern=r"^(?:.*/)?(?:.*\])?(.+?)(?:__|-)\d+\.wav$",
        split="split",
        labels={"instruments": Labels("instrument", ANNOTATED)},
        files=("annotation",),
        classes=IRMAS,
        coverage=("named", "classes"),
    ),
    "maestro": DataSet(
        licence=NC_SA_4,
        access="download",
        group="a composition",
        of=("canonical_composer", "canonical_title"),
        split="split",
        remotes=("all",),
        sounds=("piano",),
    ),
    "medley_solos_db": DataSet(
        licence="CC BY 4.0",
        access="download",
        group="a song",
        of=("song_id",),
        split="subset",
        labels={"instruments": Labels("instrument", ANNOTATED)},
        classes=MEDLEY_SOLOS,
    ),
    "medleydb_pitch": DataSet(
        licence=NC_SA_4,
        access="request",
        group="an artist",
        of=("artist",),
        labels={"instruments": Labels("instrument", ANNOTATED)},
        classes=MEDLEYDB,
    ),
    "openmic2018": DataSet(
        licence="CC BY 4.0 (annotations), Creative Commons or public domain by the track (audio)",
        access="download",
        group="an artist",
        of=("artist",),
        split="split",
        heldout=("split01_test",),
        labels={"instruments": Labels("instruments", ANNOTATED)},
        classes=OPENMIC,
        coverage=("classes", "classes"),
    ),
    "queen": DataSet(
        licence=UNKNOWN,
        access="own",
        group="a song",
        of=("title",),
        labels={"chords": Labels("chords", ANNOTATED), "key": Labels("key", ANNOTATED)},
        files=("chords", "keys"),
    ),
    "rwc_classical": DataSet(
        licence=RWC,
        access="request",
        group="a composer",
        of=("composer",),
        labels={"tempo": Labels("beats", ANNOTATED), "beats": Labels("beats", ANNOTATED)},
        files=("beats",),
    ),
    "rwc_jazz": DataSet(
        licence=RWC,
        access="request",
        group="a piece, by all its ensembles",
        of=("title",),
        pattern=r"^([^(]+)",
        labels={"tempo": Labels("beats", ANNOTATED), "beats": Labels("beats", ANNOTATED)},
        files=("beats",),
    ),
    "rwc_popular": DataSet(
        licence=RWC,
        access="request",
        group="a song",
        of=("title",),
        labels={
            "chords": Labels("chords", ANNOTATED),
            "tempo": Labels("tempo", ANNOTATED),
            "beats": Labels("beats", ANNOTATED),
        },
        files=("chords", "beats"),
    ),
    "slakh": DataSet(
        licence="CC BY 4.0",
        access="download",
        group="a MIDI file of Lakh",
        of=("mtrack_id",),
        split="split",
        omitted=("omitted",),
        labels={"instruments": Labels("notes", EXACT)},
        audio="mix",
        files=("metadata",),
        stems=True,
    ),
    "tonality_classicaldb": DataSet(
        licence=NC_SA_4,
        access="own",
        group="a recording",
        labels={"key": Labels("key", ANNOTATED)},
        files=("key",),
        remotes=("keys",),
    ),
}
