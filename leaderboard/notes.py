"""The words around a board: what it is of, the legend, and what a reader must know beside the numbers."""

from __future__ import annotations

from collections.abc import Iterator

from musae.leaderboard.standing import Board, Column, CorpusBoard

OFF = 0.1
"""Relative distance of a measured L0 from k that is worth a note."""

LEGEND = (
    (
        "1  2=",
        "rank among methods of one width and L0, = where it is shared; methods are separated when the 95 % bootstrap interval "
        "over pieces of their paired difference excludes 0 and its sign is the same for every seed, otherwise they tie",
    ),
    ("±", "95 %: bootstrap over pieces and t-interval over seeds, added in quadrature"),
    ("↑ ↓", "the better way; scores without an arrow describe and are not ranked"),
    ("▲ ≈", "a control, baseline, supervised ceiling, reference or null that beats the best method, or is not separated from it"),
    ("supervised", "has learnt from labels, which no method has seen: a ceiling, never ranked among them"),
    (
        "reference",
        "another way to do the same, measured beside each method: the best that any reaches; a ceiling chooses by the truth",
    ),
    ("null", "scores without skill: the best that any method reaches"),
)
"""(sign, meaning)."""


def about(board: Board) -> str:
    """One line that says what the board is of."""
    columns = {column for corpus in board.corpora for column in corpus.columns if corpus.ranked(column)}
    sizes = sorted({column.group for column in columns if column.group})
    frames = {column.training_frames for column in columns if column.training_frames}
    seeds = {seed for corpus in board.corpora for own in _seeds(corpus).values() for seed in own}
    parts = [
        f"{board.suite} v{board.suite_version}",
        f"{board.generator}@{board.generator_revision}, layer {board.layer}",
        *(f"width {width:,}, L0 {k:g}" for width, k in sizes),
        *(f"{count:,} training frames" for count in frames if len(frames) == 1),
        "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds",
        "commit " + ", ".join(board.commits),
    ]
    return " · ".join(parts)


def notes(board: Board) -> list[str]:
    """Unscored cells with their reasons, missing seeds, uncommitted changes, rows left out; alike ones in one line."""
    lines = [*_unscored(board), *_other_streams(board), *_off_budget(board), *_missing_seeds(board)]
    if any(commit.endswith("+") for commit in board.commits):
        lines.append("+ scored from a checkout with uncommitted changes")
    reasons: dict[str, list[str]] = {}
    for left in board.left_out:
        reasons.setdefault(left.reason, []).append(left.path)
    for reason, paths in sorted(reasons.items()):
        lines.append(f"left out, {reason}: {paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else ""))
    return lines


def _unscored(board: Board) -> Iterator[str]:
    """One line for every reason and the methods that it is given for."""
    found: dict[tuple[str, tuple[str, ...]], dict[str, dict[str, None]]] = {}
    for corpus in board.corpora:
        for line in corpus.lines:
            reasons: dict[str, list[str]] = {}
            for column, standing in line.standings.items():
                if standing.unscored and not column.beside:
                    reasons.setdefault(standing.unscored, []).append(column.name)
            for reason, names in reasons.items():
                where = found.setdefault((reason, tuple(names)), {"corpora": {}, "scores": {}})
                where["corpora"][corpus.corpus] = None
                where["scores"][f"{line.task} {line.name}"] = None
    for (reason, methods), where in found.items():
        yield f"unscored: {', '.join(methods)} on {', '.join(where['scores'])} ({', '.join(where['corpora'])}): {reason}"


def _other_streams(board: Board) -> Iterator[str]:
    """One line for every method that was scored on the stream of another generator."""
    standings = ((c, s) for corpus in board.corpora for line in corpus.lines for c, s in line.standings.items() if s.stream)
    for name, stream in dict.fromkeys((column.name, standing.stream) for column, standing in standings):
        yield f"{name}: of the stream of {stream}; scores that read no labels are about that stream, and stand beside the ranks"


def _off_budget(board: Board) -> Iterator[str]:
    """One line for every method whose measured L0 is far from the k that it is ranked under."""
    for corpus in board.corpora:
        for column, standing in ((c, s) for line in corpus.lines if line.metric == "l0" for c, s in line.standings.items()):
            held, found = column.k, standing.interval
            if corpus.ranked(column) and held and found and abs(found.value / held - 1) > OFF:
                yield f"{column.name} is ranked under L0 {held:g}, and has {found.value:.1f} on {corpus.corpus}"


def _missing_seeds(board: Board) -> Iterator[str]:
    """One line for those that have the same seeds of all that occur on a corpus."""
    found: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
    for corpus in board.corpora:
        seeds = _seeds(corpus)
        every = set().union(*seeds.values())
        for column, own in seeds.items():
            if own != every:
                has, of = (", ".join(map(str, sorted(numbers))) for numbers in (own, every))
                where = found.setdefault((has, of), {"names": {}, "corpora": {}})
                where["names"][column.name] = None
                where["corpora"][corpus.corpus] = None
    for (has, of), where in found.items():
        yield f"only seeds {has} of {of}: {', '.join(where['names'])} ({', '.join(where['corpora'])})"


def _seeds(corpus: CorpusBoard) -> dict[Column, set[int]]:
    """The seeds that each column has on all lines that it has values on."""
    found: dict[Column, set[int]] = {}
    for line in corpus.lines:
        for column, standing in line.standings.items():
            own = {seed for seed in standing.seeds if seed is not None}
            if own:
                found[column] = found.get(column, own) & own
    return found
