"""What a board is: for every corpus one line a main score, one column a method, with intervals, ranks and ties.

- A *line* is (task, metric, level of truth, latents per class that the probe reads); levels of truth are never mixed.
- A *column* is a method with its sizes, seed-averaged; or a null (chance, permuted labels, ...), measured beside every method, of
  which the board shows the best that any method reaches.
- A *rank group* is the methods and controls of one width and one L0. The rank of a method is 1 + the number of methods in its
  group that are separated above it (`musae.leaderboard.compare`): methods of one rank tie. What has no width or no L0, stands
  alone in its group, or has learnt from labels (role ``supervised``: a ceiling), is shown beside, unranked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from musae.card import Direction
from musae.leaderboard.collect import LeftOut
from musae.leaderboard.compare import Interval

ROLES = ("method", "supervised", "control", "baseline", "reference", "null")
"""The order of columns within a group."""

Mark = Literal["", "beats", "ties"]


@dataclass(frozen=True)
class Column:
    """A method with its sizes, or a reference or null."""

    name: str
    role: str
    """One of `ROLES`; a ``reference`` (another way to do the same, as a ceiling) is measured beside each method, as a null is."""
    width: int | None = None
    k: float | None = None
    training_frames: int = 0
    configurations: int = 1

    @property
    def beside(self) -> bool:
        """Whether it is no feature set but a measure taken beside each: a null or a reference."""
        return self.role in ("reference", "null")

    @property
    def group(self) -> tuple[int, float] | None:
        """Width and L0: ranks hold within one group only. None for what has no such sizes, and for what has seen labels."""
        return None if self.width is None or self.k is None or self.role == "supervised" else (self.width, self.k)


@dataclass(frozen=True)
class Standing:
    """What one column shows on one line."""

    interval: Interval | None = None
    unscored: str = ""
    """Why there is no value, where the column was scored at all."""
    seeds: tuple[int | None, ...] = ()
    stream: str = ""
    """Whose residual stream was encoded, where it is not the board's generator's. Scores that read no labels are then about that
    stream, and are not compared with the others."""
    rank: int | None = None
    tied: bool = False
    """Whether another method of the group has the same rank."""
    mark: Mark = ""
    """For a control, baseline, supervised ceiling, reference or null: it beats the best method, or it ties with it."""


@dataclass(frozen=True)
class Line:
    """One main score on one corpus."""

    task: str
    version: int
    metric: str
    probe_k: int | None
    name: str
    """The metric with its ``k=5``, or ``k=all`` where the same metric also has limited probes."""
    truth: str
    direction: Direction
    pieces: int
    standings: dict[Column, Standing]
    above: frozenset[tuple[Column, Column]]
    """Pairs (better, worse) that are separated."""

    def order(self, a: Column, b: Column) -> int | None:
        """+1 when `a` is separated above `b` (is better), -1 when below, 0 for a tie; None where that cannot be told."""
        if self.direction == "none" or self.standings[a].interval is None or self.standings[b].interval is None:
            return None
        return int((a, b) in self.above) - int((b, a) in self.above)


@dataclass(frozen=True)
class CorpusBoard:
    """All lines of one corpus."""

    corpus: str
    revision: str
    columns: tuple[Column, ...]
    """In groups: by width and L0, then what is unranked, then references and nulls."""
    groups: frozenset[tuple[int, float]]
    """The rank groups, i.e. those with at least two columns."""
    lines: tuple[Line, ...]

    def ranked(self, column: Column) -> bool:
        """Whether the column belongs to a rank group."""
        return column.group in self.groups


@dataclass(frozen=True)
class Board:
    """One suite's table; built by `musae.leaderboard.board`."""

    suite: str
    suite_version: int
    generator: str
    generator_revision: str
    layer: int
    commits: tuple[str, ...]
    """Commits that the rows were scored at, abbreviated; ``+`` behind one that had uncommitted changes."""
    corpora: tuple[CorpusBoard, ...]
    left_out: tuple[LeftOut, ...]
