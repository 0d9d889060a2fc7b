"""What a steering experiment found: a JSON file, and the table that is printed of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from musae.files import atomic_path
from musae.results import Provenance

Condition = Literal["steered", "reversed", "clamped", "ablated", "random", "random searched", "inactive", "probe"]
"""What was done: alpha; -alpha; the latent set to alpha beta; the latent set to 0; random directions of the same norm; the
random direction that was best in development; at the same norm, atoms of latents that never fire (or least often), and the
supervised probe's."""

VERDICTS = ("effect", "spoilt", "no effect")

SHOWN: tuple[Condition, ...] = ("steered", "reversed", "random", "probe")
"""Conditions whose quality is printed; that of all is in the JSON."""


class Strict(BaseModel):
    """No unknown fields; unchangeable."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Shift(Strict):
    """A mean over pieces with its 95 % interval and one-sided p-value, in the units of the concept's ear."""

    value: float
    low: float
    high: float
    p: float
    pieces: int


class Row(Strict):
    """One condition, on fresh continuations."""

    condition: Condition
    directions: int = 1
    """Directions that the row is the mean of."""
    shift: Shift | None
    """Against the unsteered continuations of the same prompts and seeds; None where nothing could be measured."""
    standardised: float | None
    """The shift in standard deviations of the unsteered clips."""
    off_target: float
    """Mean absolute standardised shift of everything else that is measured."""
    loss: float
    """Nats a token of the continuation that the unsteered generator loses more than on unsteered ones."""
    similarity: float
    """Mean correlation of the log-mel spectrogram with that of the unsteered continuation."""
    tonality: float
    """Mean share of the power in tonal peaks."""
    beyond: dict[str, float]
    """Share of the continuations beyond each bound of `musae.steering.quality`, mean over directions."""
    kept: bool
    """Whether none of these shares exceeds the budget."""

    @property
    def worst(self) -> float:
        """The largest share beyond a bound."""
        return max(self.beyond.values())


class Quality(Strict):
    """What steered continuations are held against."""

    bounds: dict[str, float]
    """Of each measure of `musae.steering.quality`."""
    beyond: dict[str, float]
    """Share of unsteered continuations of the fresh prompts, with another seed, that lie beyond each."""


class PaperRule(Strict):
    """The success rule of Singh et al., on fresh continuations (`musae.steering.paper_rule`)."""

    strength: float
    """That alpha = 1 is, in the units of `Found.strength`."""
    success: float
    """Share of the continuations that are more like the exemplars at alpha = 1 than at 0; `random`: of random directions."""
    random: float
    gain: Shift
    """Of the mean CLAP similarity to the exemplars."""
    beyond_random: Shift
    """The gain less that of random directions of the same norm."""


class Found(Strict):
    """One concept."""

    concept: str
    unscored: str | None = None
    """Why nothing was measured."""
    latents: tuple[int, ...] = ()
    alpha: float | None = None
    """In units of beta: ``x' = x + alpha beta W_dec[j]`` (of several latents, the sum over them)."""
    beta: tuple[float, ...] = ()
    """Largest activation of each latent on the reference frames."""
    strength: float | None = None
    """Norm of what is added, in units of the stream's root mean square distance from its mean."""
    kept_in_development: bool = True
    """Whether any candidate kept its quality in development; if not, the least spoilt was taken."""
    tried: int = 0
    """Latents times strengths in development."""
    rows: tuple[Row, ...] = ()
    beyond_random: Shift | None = None
    """Steered less the mean of the random directions; pieces and directions are resampled."""
    p_holm: float | None = None
    """Its p-value, corrected over the concepts."""
    beyond_searched: Shift | None = None
    """Steered less the random direction that had the same search in development."""
    rank: int | None = None
    """Of the random directions, how many shift at least as much."""

    paper_rule: PaperRule | None = None
    """Where a CLAP checkpoint was given."""

    @property
    def verdict(self) -> str:
        """In a word or two: ``effect`` if it moved and kept its quality, ``spoilt`` if it moved and did not."""
        steered = self.row("steered")
        if self.unscored or self.beyond_random is None or steered is None:
            return "unscored"
        moved = steered.shift is not None and steered.shift.low > 0
        if not (moved and self.beyond_random.low > 0 and self.p_holm is not None and self.p_holm < 0.05):
            return "no effect"
        return "effect" if steered.kept else "spoilt"

    def row(self, condition: Condition) -> Row | None:
        """The row of a condition, where there is one."""
        return next((row for row in self.rows if row.condition == condition), None)


class Report(Strict):
    """A whole experiment."""

    format: Literal[2] = 2
    dictionary: str
    """Content hash; `method` is its method."""
    method: str
    generator: str
    layer: int
    corpus: str
    """Of the prompts, and of the clips that ears learnt from; name@revision."""
    prompt_seconds: float
    seconds: float
    """Of each continuation."""
    development: int
    """Prompts, one of each piece; `fresh` likewise, of other pieces."""
    fresh: int
    seeds: int
    """Continuations of each fresh prompt."""
    budget: float
    """Share of steered continuations that may lie beyond a bound of quality."""
    quality: Quality
    ears: dict[str, str]
    """Kind -> how well it hears, or why it does not."""
    clap: str | None = None
    """Revision of the checkpoint that `PaperRule` was judged with."""
    concepts: tuple[Found, ...] = Field(min_length=1)
    provenance: Provenance

    def write(self, path: Path) -> Path:
        """Write the JSON, atomically."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return path


def ordered(concepts: Sequence[Found]) -> list[Found]:
    """Those that are scored: effects first, then by p-value."""
    scored = [found for found in concepts if found.verdict != "unscored"]
    return sorted(scored, key=lambda f: (VERDICTS.index(f.verdict), f.p_holm or 0.0, f.concept))


def table(report: Report) -> str:
    """The concepts, one a line, best first; then their quality, and what is unscored, and why."""
    head = ("concept", "latent", "alpha", "steered", "95 %", "in SD", "reversed", "random", "beyond random", "p Holm", "searched",
            "probe", "off", "verdict")  # fmt: skip
    scored = ordered(report.concepts)
    out = [*_aligned([head, *(_line(found) for found in scored)]), "", *_qualities(report, scored), ""]
    good, spoilt = (sum(f.verdict == verdict for f in scored) for verdict in ("effect", "spoilt"))
    out.append(
        f"{good} of {len(scored)} concepts move further than random directions of the same norm (95 %, p < .05 by Holm) and keep "
        f"the quality of the music; {spoilt} move further and do not keep it."
    )
    more = sum(f.verdict == "effect" and f.beyond_searched is not None and f.beyond_searched.low > 0 for f in scored)
    out.append(
        f"{more} of these {good} also move further than a random direction that was searched for as the latents were (95 %)."
    )
    out += _paper_rule(report.concepts)
    out += [f"unscored: {f.concept}: {f.unscored}" for f in report.concepts if f.verdict == "unscored"]
    return "\n".join(out)


def _line(found: Found) -> tuple[str, ...]:
    steered, beyond = found.row("steered"), found.beyond_random
    assert steered is not None
    assert beyond is not None
    return (
        found.concept,
        "+".join(map(str, found.latents)),
        f"{found.alpha:.2f}" if found.alpha is not None else "",
        _signed(steered.shift.value if steered.shift else None),
        f"[{_signed(steered.shift.low)}, {_signed(steered.shift.high)}]" if steered.shift else "",
        _signed(steered.standardised),
        _of(found, "reversed"),
        _of(found, "random"),
        f"{_signed(beyond.value)} [{_signed(beyond.low)}, {_signed(beyond.high)}]",
        f"{found.p_holm:.4f}" if found.p_holm is not None else "",
        _of(found, "random searched"),
        _of(found, "probe"),
        f"{steered.off_target:.2f}",
        found.verdict,
    )


def _qualities(report: Report, concepts: Sequence[Found]) -> list[str]:
    """Loss, similarity, tonality and the worst share beyond a bound of each concept's conditions."""
    bounds = report.quality.bounds
    said = ", ".join(f"{name} {bound:.2f} ({report.quality.beyond[name]:.2f})" for name, bound in bounds.items())
    head = ("quality", *(f"{name}: loss  sim  ton  beyond" for name in SHOWN))
    lines = [head]
    for found in concepts:
        rows = [found.row(name) for name in SHOWN]
        lines.append((found.concept, *("-" if row is None else _quality(row) for row in rows)))
    return [
        *_aligned(lines),
        f"bounds of quality (and the share of unsteered continuations of the fresh prompts beyond them): {said};",
        f"beyond: the worst share beyond a bound, kept up to {report.budget:.2f}.",
    ]


def _paper_rule(concepts: Sequence[Found]) -> list[str]:
    """A line for each set of latents that the rule was asked of."""
    rules = {found.latents: found.paper_rule for found in concepts if found.paper_rule is not None}
    lines = [("latent", "strength", "success", "random", "gain", "beyond random")]
    for latents, rule in rules.items():
        one, beyond = rule.gain, rule.beyond_random
        lines.append(
            (
                "+".join(map(str, latents)),
                f"{rule.strength:.2f}",
                f"{rule.success:.2f}",
                f"{rule.random:.2f}",
                f"{_signed(one.value)} [{_signed(one.low)}, {_signed(one.high)}]",
                f"{_signed(beyond.value)} [{_signed(beyond.low)}, {_signed(beyond.high)}]",
            )
        )
    return (
        ["", "CLAP similarity to the latent's exemplars, alpha 1 against 0 (arXiv 2505.18186):", *_aligned(lines)]
        if rules
        else []
    )


def _quality(row: Row) -> str:
    worst = max(row.beyond, key=row.beyond.__getitem__)
    what = "" if row.kept else f" {worst}"
    return f"{row.loss:+.2f}  {row.similarity:.2f}  {row.tonality:.2f}  {row.worst:.2f}{what}"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _of(found: Found, condition: Condition) -> str:
    row = found.row(condition)
    return _signed(row.shift.value if row is not None and row.shift is not None else None)


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
