"""Clips as tokens: the codes that a generator's codec gives, with where each clip comes from.

A `Tokens` holds clips of equal length, from one corpus or several. `tokenize` renders and encodes clips and keeps the codes in a
content-addressed cache, in pieces, so that an interrupted run continues where it stopped. `Tokens.save_packed` writes one small
file (``training_codes.npz`` of the embedded generator is one; the activation store keeps one beside its shards) and
`Tokens.load_packed` reads it:

    tokens = Tokens.concat([tokenize(codec, chorales, clips_a), tokenize(codec, procedural, clips_b)])
    tokens.save_packed(path)
    tokens = Tokens.load_packed(path)

Codes are ``[n, K, T]``, undelayed, as in `musae.generators.generator`. Anything with `card`, `revision` and `encode` can
tokenize; where it also has `codec_revision` (ten hex digits of the codec alone), codes are tied to that, so that a generator that
is trained further on the same codec keeps its tokens.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musae.card import GeneratorCard
from musae.corpora.track import Clip, Corpus
from musae.errors import UserError
from musae.files import atomic_path, cache_root, place

FORMAT = 1
"""Version of the packed file."""

Progress = Callable[[int, int], None]
"""Called with (clips done, clips in all)."""

_UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)
"""What numpy raises for a file that is truncated, altered (each member has a CRC-32) or something else altogether."""


class Codec(Protocol):
    """What `tokenize` needs of a generator."""

    card: GeneratorCard

    @property
    def revision(self) -> str:
        """Ten hex digits of the weights' and codec's checksum."""

    def encode(self, audio: Tensor) -> Tensor:
        """Audio ``[n, samples]`` at `card.rate` -> codes ``[n, K, T]``."""


def codec_revision(generator: Codec) -> str:
    """What codes depend on: the generator's `codec_revision` where it has one, else its `revision`."""
    return str(getattr(generator, "codec_revision", generator.revision))


@dataclass(frozen=True, eq=False)
class Tokens:
    """Codes of n clips of T frames, and where each comes from."""

    codes: NDArray[np.uint16]
    """``[n, K, T]``, undelayed."""
    clips: NDArray[np.str_]
    """Clip ids ``[n]``, unique within their corpus."""
    tracks: NDArray[np.str_]
    """Track ids ``[n]``."""
    groups: NDArray[np.str_]
    """The piece of each clip ``[n]``: the unit of splits and bootstraps."""
    starts: NDArray[np.float64]
    """Seconds from the track's start ``[n]``."""
    corpus: NDArray[np.uint8]
    """Index into `corpora` ``[n]``."""
    corpora: tuple[str, ...]
    """Names of the corpora."""
    revisions: tuple[str, ...]
    """Revision of each of `corpora`."""
    generator: str
    """Name of the generator whose codec made the codes."""
    codec: str
    """`codec_revision` of that generator."""

    def __post_init__(self) -> None:
        n = len(self.codes)
        shapes = {"codes": self.codes.ndim == 3, "revisions": len(self.revisions) == len(self.corpora)}
        shapes |= {name: getattr(self, name).shape == (n,) for name in ("clips", "tracks", "groups", "starts", "corpus")}
        wrong = [name for name, good in shapes.items() if not good]
        if wrong or (n and int(self.corpus.max()) >= len(self.corpora)):
            raise ValueError(f"fields of Tokens do not fit codes of shape {self.codes.shape}: {wrong or ['corpus']}")

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def frames(self) -> int:
        """T: frames of each clip."""
        return int(self.codes.shape[2])

    @property
    def corpus_revisions(self) -> dict[str, str]:
        """Corpus name -> revision."""
        return dict(zip(self.corpora, self.revisions, strict=True))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the codes and of everything that says where they come from."""
        digest = hashlib.sha256(repr((self.codes.shape, self.corpora, self.revisions, self.generator, self.codec)).encode())
        digest.update(np.ascontiguousarray(self.codes, "<u2").data)
        digest.update(self.corpus.tobytes() + self.starts.astype("<f8").tobytes())
        digest.update("\n".join(itertools.chain(self.clips, self.tracks, self.groups)).encode())
        return digest.hexdigest()

    def tensor(self, rows: slice | Sequence[int] | NDArray[np.integer] = slice(None)) -> Tensor:
        """Codes of some clips as int64 ``[b, K, T]``, as generators take them."""
        return torch.from_numpy(self.codes[rows].astype(np.int64))

    def take(self, rows: slice | Sequence[int] | NDArray[np.integer]) -> Tokens:
        """The clips at `rows`, in that order."""
        kept = {name: getattr(self, name)[rows] for name in ("codes", "clips", "tracks", "groups", "starts", "corpus")}
        return Tokens(**kept, corpora=self.corpora, revisions=self.revisions, generator=self.generator, codec=self.codec)

    @classmethod
    def concat(cls, parts: Sequence[Tokens]) -> Tokens:
        """Several sets of clips as one. Raises UserError when they differ in codec, length, or a corpus's revision."""
        first = parts[0]
        revisions: dict[str, str] = {}
        for part in parts:
            if (part.generator, part.codec) != (first.generator, first.codec):
                raise UserError(
                    f"tokens of {part.generator}@{part.codec} and of {first.generator}@{first.codec} cannot be joined; "
                    f"tokenize both with one codec."
                )
            if part.codes.shape[1:] != first.codes.shape[1:]:
                raise UserError(
                    f"clips of {part.codes.shape[1:]} and of {first.codes.shape[1:]} codebooks x frames cannot be joined; "
                    f"tokenize both with the same clip length."
                )
            for name, revision in part.corpus_revisions.items():
                if revisions.setdefault(name, revision) != revision:
                    raise UserError(f"corpus {name!r} at revisions {revisions[name]} and {revision} cannot be joined; use one.")
        names = list(revisions)
        corpus = [np.array([names.index(name) for name in part.corpora], np.uint8)[part.corpus] for part in parts]
        joined = {
            name: np.concatenate([getattr(p, name) for p in parts]) for name in ("codes", "clips", "tracks", "groups", "starts")
        }
        return cls(
            **joined,
            corpus=np.concatenate(corpus),
            corpora=tuple(names),
            revisions=tuple(revisions.values()),
            generator=first.generator,
            codec=first.codec,
        )

    def save_packed(self, path: Path | str) -> None:
        """Write one compressed ``.npz`` without pickles; equal tokens give equal bytes. A 9-bit code takes about 9 bits."""
        planes = np.moveaxis(np.ascontiguousarray(self.codes, "<u2").view(np.uint8).reshape(*self.codes.shape, 2), -1, 0)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                format=np.int64(FORMAT),
                code_bytes=np.ascontiguousarray(planes),  # low bytes, then high bytes: these compress to nearly nothing
                clips=self.clips,
                tracks=self.tracks,
                groups=self.groups,
                starts=self.starts,
                corpus=self.corpus,
                corpora=np.array(self.corpora),
                revisions=np.array(self.revisions),
                generator=np.array(self.generator),
                codec=np.array(self.codec),
            )

    @classmethod
    def load_packed(cls, path: Path | str) -> Tokens:
        """Read what `save_packed` wrote. Raises UserError that names a missing, corrupt or foreign file."""
        try:
            with place(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if (version := int(arrays.pop("format"))) != FORMAT:
                raise UserError(
                    f"{path}: packed tokens of format {version}, this musae reads format {FORMAT}; make the file again."
                )
            planes = arrays.pop("code_bytes")
            codes = planes[0] | planes[1].astype(np.uint16) << np.uint16(8)
            return cls(
                codes=codes,
                corpora=tuple(map(str, arrays.pop("corpora"))),
                revisions=tuple(map(str, arrays.pop("revisions"))),
                generator=str(arrays.pop("generator")),
                codec=str(arrays.pop("codec")),
                **arrays,
            )
        except (*_UNREADABLE, TypeError) as error:
            raise UserError(f"{path}: not readable as packed tokens ({error}); restore the file or make it again.") from error


@dataclass(frozen=True)
class Piece:
    """Some clips to encode, and the file of the cache that is to hold them: a piece of work that can be done anywhere."""

    clips: Sequence[Clip]
    path: Path
    batch: int

    def tokens(self, generator: Codec, corpus: Corpus, workers: int | None = None) -> Tokens:
        """From the cache, else rendered, encoded and put there. `workers`: processes that render, where the corpus takes it."""
        found = _cached(self.path)
        if found is None:
            found = _encode(generator, corpus, self.clips, self.batch, workers)
            found.save_packed(self.path)
        return found


Engine = Callable[[Codec, Corpus, Sequence[Piece]], Iterator[Tokens]]
"""Does pieces, and yields their tokens in order."""


def here(generator: Codec, corpus: Corpus, pieces: Sequence[Piece]) -> Iterator[Tokens]:
    """The engine that does one piece after the other in this process."""
    return (piece.tokens(generator, corpus) for piece in pieces)


def tokenize(
    generator: Codec,
    corpus: Corpus,
    clips: Sequence[Clip],
    *,
    cache: Path | None = None,
    piece: int = 100,
    batch: int = 10,
    progress: Progress | None = None,
    engine: Engine = here,
) -> Tokens:
    """Render `clips` and encode them; equal requests read the cache.

    The cache holds files of `piece` clips, ``<cache>/<generator>@<codec>/<corpus>@<revision>/<hash of the clips>.npz``, each
    written when it is done: an interrupted run repeats at most one piece (a few seconds of rendering), and a longer list of clips
    that begins like a shorter one reads the shorter one's pieces. A corrupt file is named in a warning and made again.

    Args:
        clips: of equal duration, of `corpus`.
        cache: default ``<cache root>/tokens``.
        batch: clips encoded at once.
        progress: called after each piece.
        engine: where pieces are encoded.

    Raises UserError for clips of different duration, audio that is too short, not finite, or codes above 16 bits.
    """
    if not clips:
        raise UserError(f"no clips of corpus {corpus.card.name!r} to tokenize; ask for at least one.")
    if len({clip.duration for clip in clips}) > 1:
        raise UserError(
            f"clips of corpus {corpus.card.name!r} last {min(c.duration for c in clips)} to {max(c.duration for c in clips)} s; "
            f"tokenize clips of one duration."
        )
    home = cache or cache_root() / "tokens"
    home = home / f"{generator.card.name}@{codec_revision(generator)}" / f"{corpus.card.name}@{corpus.revision}"
    pieces = []
    for start in range(0, len(clips), piece):
        some = clips[start : start + piece]
        identity = "\n".join(f"{clip.id} {clip.duration!r}" for clip in some)
        pieces.append(Piece(some, home / f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}.npz", batch))
    parts, done = [], 0
    for one, tokens in zip(pieces, engine(generator, corpus, pieces), strict=True):
        parts.append(tokens)
        if not one.path.exists():  # made on another machine
            tokens.save_packed(one.path)
        done += len(tokens)
        if progress:
            progress(done, len(clips))
    return Tokens.concat(parts)


def _cached(path: Path) -> Tokens | None:
    if not path.exists():
        return None
    try:
        return Tokens.load_packed(path)
    except UserError as error:
        warnings.warn(f"{error} It is made again now.", stacklevel=4)
        return None


def _encode(generator: Codec, corpus: Corpus, clips: Sequence[Clip], batch: int, workers: int | None) -> Tokens:
    takes = workers is not None and "workers" in inspect.signature(corpus.audio).parameters
    audio = corpus.audio(clips, generator.card.rate, **({"workers": workers} if takes else {}))
    codes = [_codes(generator, clips[i : i + batch], audio) for i in range(0, len(clips), batch)]
    return Tokens(
        codes=np.concatenate(codes),
        clips=np.array([clip.id for clip in clips]),
        tracks=np.array([clip.track.id for clip in clips]),
        groups=np.array([clip.group for clip in clips]),
        starts=np.array([clip.start for clip in clips], np.float64),
        corpus=np.zeros(len(clips), np.uint8),
        corpora=(corpus.card.name,),
        revisions=(corpus.revision,),
        generator=generator.card.name,
        codec=codec_revision(generator),
    )


def _codes(generator: Codec, clips: Sequence[Clip], audio: Iterator[NDArray[np.float32]]) -> NDArray[np.uint16]:
    """Encode the next clips of `audio`: uint16 ``[b, K, T]``."""
    samples = round(clips[0].duration * generator.card.rate)
    batch = np.empty((len(clips), samples), np.float32)
    for row, clip in enumerate(clips):
        one = next(audio, None)
        if one is None or one.shape != (samples,):
            found = "nothing" if one is None else f"an array of shape {one.shape}"
            raise UserError(f"clip {clip.id}: its corpus gave {found} where {samples} samples are due; repair the corpus.")
        if not np.isfinite(one).all():
            raise UserError(f"clip {clip.id}: its audio holds NaN or infinite samples; repair or leave out the track.")
        batch[row] = one
    with torch.inference_mode():
        codes = generator.encode(torch.from_numpy(batch)).cpu().numpy()
    if codes.min(initial=0) < 0 or codes.max(initial=0) > np.iinfo(np.uint16).max:
        raise UserError(f"clip {clips[0].id}: generator {generator.card.name!r} gives codes outside 0..65535, which tokens hold.")
    return codes.astype(np.uint16)
