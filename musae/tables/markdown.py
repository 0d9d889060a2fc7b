"""``tables.md``: every table with its interval, null or control."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import TypeVar

from musae.labels import evidence
from musae.tables import judged, origin
from musae.tables.assemble import AXES
from musae.tables.schema import Estimate, LabelScore, Of, Tables

R = TypeVar("R", bound=Of)

HEAD, NONE = "expansion, k", "–"

WIDTH = 130
"""Characters of a line of prose."""

HIGH = f"{evidence.LEVEL} of the {evidence.QUANTILE} quantile of its positive"

DEFINED = {
    "mean > 0": "active on a clip: its mean over time is positive (the paper's aggregation, read literally)",
    "firing clips": f"active on a clip: its mean over time exceeds {HIGH} means",
    "firing frames": f"r is the share of frames whose value exceeds {HIGH} values",
}

VARIED = {
    "lower": "lower bound of r",
    "upper": "upper bound of r",
    "level": "firing level, as a share of the quantile (0: any positive value)",
}


COUNTS = """## Filter counts

Latents whose rate r lies within the filter's bounds, r being the share of clips on which a latent is active."""

POINTS = f"""## Threshold sensitivity

All layers together (each layer: the figure and `tables.json`): latents within the bounds · mean Youden index of the statistical
labels of those among a sample of {judged.SAMPLE} a dictionary, averaged over layers. Where a bound is varied, active is
`mean > 0` and labels are found and judged at the firing level {evidence.LEVEL}; where the level is varied, so is what active
means, and the bounds are the paper's."""

LABELS = f"""## Label scores

Mean Youden index of the statistical labels on held-out pieces, by the rule of the task `label_precision`: up to
{evidence.LATENTS} latents that fire on {evidence.RATES[0]:.1%} to {evidence.RATES[1]:.0%} of the frames, an abstention counted
as 0. Nulls: labels dealt out among latents (shuffled); labels found and judged on annotations permuted between pieces
(permuted)."""

UNLABELLED = """## Label scores

Unscored: no clip is annotated, or no latent qualifies."""

DIFFERENCES = "Paired differences of these scores, on the same pieces (all pairs of layers: `tables.json`):"

ORIGIN = f"""## Layer of origin

Balanced accuracy of classifiers that are to tell from which layer a latent comes, cross-validated over latents; intervals are of
a bootstrap over latents. Columns: correlations with annotated concepts, statistics of activity that have no units, or both. Null:
the same with layers dealt out at random, mean and maximum of {origin.PERMUTATIONS}. The random twin says how much of it is the
stream of the layer. Below chance: those nearest to a latent are of other layers, as where each layer has one latent for a
concept."""

STEERED = """## Steering rates

Of the concepts that could be scored, those that move further than random directions of the same norm (95 %, p < .05 by Holm);
Wilson's interval."""

UNSTEERED = """## Steering rates

None given: run `musae steer` on dictionaries of this sweep, and give its folders with `--steering`."""


def markdown(tables: Tables, figure: bool) -> str:
    """The whole document; `figure`: whether ``curves.png`` lies beside it."""
    parts = [
        _head(tables),
        _dictionaries(tables),
        _counts(tables),
        _points(tables, figure),
        _labels(tables),
        _origins(tables),
        _steered(tables),
    ]
    return _wrapped("\n\n".join(parts)) + "\n"


def _head(tables: Tables) -> str:
    made = tables.provenance
    state = (
        f"commit {made.commit[:10]}{' with uncommitted changes' if made.dirty else ''}" if made.commit else "an installed package"
    )
    low, high = tables.band
    there = sum(line.kind == "trained" and not line.missing for line in tables.lines)
    every = sum(line.kind == "trained" for line in tables.lines)
    lines = [
        f"# Tables of the sweep `{tables.sweep}`: {tables.generator}",
        "",
        "Written by `musae tables`. How each number is made, and how it differs from the paper's (arXiv 2505.18186): "
        "`musae/tables/README.md`.",
        "",
        "```sh",
        *tables.commands,
        "```",
        "",
        f"- dictionaries: {there} of {every}, trained on {tables.training_frames:,} frames; each beside a random twin (the same "
        "size, random directions, TopK)",
        f"- held-out clips: {tables.clips:,} of {tables.clip_seconds:g} s from {tables.pieces:,} pieces of {tables.corpus}; what "
        f"is read at frames is read at {tables.probe_frames:,} of them",
        f"- made at {state}, {made.created:%Y-%m-%d}, on {made.device}; the last run took {made.seconds:,.0f} s",
        "- brackets are 95 % intervals, of a bootstrap over pieces unless said otherwise; the filter keeps latents with "
        f"{low:g} <= r <= {high:g}",
        *(f"- **missing**: {note}" for note in tables.notes),
    ]
    return "\n".join(lines)


def _dictionaries(tables: Tables) -> str:
    lines = [line for line in tables.lines if not line.missing]
    said = "## Dictionaries\n\nActive latents a frame (L0) · latents that never fire, on the held-out clips."
    return said + "\n\n" + _grid(tables, lines, lambda line: f"{line.l0:.1f} · {line.silent:,}")


def _counts(tables: Tables) -> str:
    parts = [COUNTS]
    for definition, words in DEFINED.items():
        rows = [row for row in tables.counts if row.definition == definition]
        parts.append(f"**{definition}**: {words}.\n\n" + _grid(tables, rows, lambda row: _formatted(row.count, ",.0f")))
    return "\n\n".join(parts)


def _points(tables: Tables, figure: bool) -> str:
    parts = [POINTS, *(["![curves](curves.png)"] if figure else [])]
    truths = dict.fromkeys(point.truth for point in tables.points)
    for truth in truths:
        for axis, places in AXES.items():
            rows = [p for p in tables.points if p.axis == axis and p.truth == truth and p.layer is None]
            lines = [_row([HEAD, "", *(f"{at:g}" for at in places)]), _rule(2, len(places))]
            for setting, kind in dict.fromkeys((row.setting, row.kind) for row in rows):
                mine = {p.at: p for p in rows if (p.setting, p.kind) == (setting, kind)}
                cells = [f"{mine[at].count:,} · {_formatted(mine[at].youden, '.3f')}" for at in places]
                lines.append(_row([setting.title, kind, *cells]))
            title = VARIED[axis] + (f", {truth} truth" if len(truths) > 1 else "")
            parts.append(f"**{title}**\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _labels(tables: Tables) -> str:
    parts = [LABELS if tables.labels else UNLABELLED]
    for truth in dict.fromkeys(row.truth for row in tables.labels):
        rows = [row for row in tables.labels if row.truth == truth]
        lines = [_row([HEAD, "", *(f"layer {layer}" for layer in tables.layers)]), _rule(2, len(tables.layers))]
        for setting, kind in dict.fromkeys((row.setting, row.kind) for row in rows):
            mine = {row.layer: row for row in rows if (row.setting, row.kind) == (setting, kind)}
            for what, cell in SHOWN.items():
                cells = [cell(mine[layer]) if layer in mine else NONE for layer in tables.layers]
                lines.append(_row([setting.title, f"{kind}{what}", *cells]))
        parts += [f"**{truth} truth**\n\n" + "\n".join(lines), _differences(tables, truth)]
    return "\n\n".join(parts)


def _differences(tables: Tables, truth: str) -> str:
    """Trained less random at each layer, each layer less the one before, and the deepest less the shallowest."""
    rows, layers = [row for row in tables.differences if row.truth == truth], tables.layers
    steps = [*zip(layers[1:], layers, strict=False)] + ([(layers[-1], layers[0])] if len(layers) > 2 else [])
    heads = [f"trained − random, {layer}" for layer in layers] + [f"layer {b} − {a}" for b, a in steps]
    lines = [_row([HEAD, *heads]), _rule(1, len(heads))]
    for setting in dict.fromkeys(row.setting for row in rows):
        mine = {(r.layer, r.less_layer, r.less_kind): _formatted(r.youden, "+.3f") for r in rows if r.setting == setting}
        cells = [mine.get((layer, layer, "random"), NONE) for layer in layers]
        cells += [mine.get((b, a, "trained"), NONE) for b, a in steps]
        lines.append(_row([setting.title, *cells]))
    return DIFFERENCES + "\n\n" + "\n".join(lines)


def _origins(tables: Tables) -> str:
    rows, models = tables.origins, origin.MODELS
    heads = [HEAD, "", "columns", "latents a layer", "chance", *models, *(f"{model}, layers permuted" for model in models)]
    lines = [_row(heads), _rule(3, len(heads) - 3)]
    for setting, kind, features in dict.fromkeys((row.setting, row.kind, row.features) for row in rows):
        mine = {row.model: row for row in rows if (row.setting, row.kind, row.features) == (setting, kind, features)}
        first = mine[models[0]]
        cells = [str(first.latents or NONE), f"{first.chance:.1%}"]
        cells += [_formatted(mine[model].accuracy, ".1%") for model in models]
        cells += [_null(mine[model].permuted) for model in models]
        lines.append(_row([setting.title, kind, features, *cells]))
    why = sorted({row.accuracy.unscored for row in rows if row.accuracy.unscored})
    return "\n\n".join([ORIGIN, "\n".join(lines), *(f"Unscored where there is nothing: {reason}." for reason in why)])


def _steered(tables: Tables) -> str:
    if not tables.steered:
        return UNSTEERED
    heads = ["layer", "dictionary", HEAD, "scored", "unscored", "with an effect", "share", "also beyond a searched direction"]
    lines = [_row(heads), _rule(3, len(heads) - 3)]
    for row in tables.steered:
        name = row.setting.title if row.setting else "not of this sweep"
        cells = [str(row.scored), str(row.unscored), str(row.effect), _formatted(row.share, ".1%"), str(row.beyond_searched)]
        lines.append(_row([str(row.layer), f"{row.method} {row.dictionary}", name, *cells]))
    return STEERED + "\n\n" + "\n".join(lines)


def _grid(tables: Tables, rows: Sequence[R], cell: Callable[[R], str]) -> str:
    """A line for each setting and kind, a column for each layer."""
    lines = [_row([HEAD, "", *(f"layer {layer}" for layer in tables.layers)]), _rule(2, len(tables.layers))]
    for setting, kind in dict.fromkeys((row.setting, row.kind) for row in rows):
        mine = {row.layer: cell(row) for row in rows if (row.setting, row.kind) == (setting, kind)}
        lines.append(_row([setting.title, kind, *(mine.get(layer, NONE) for layer in tables.layers)]))
    return "\n".join(lines)


def _wrapped(text: str) -> str:
    """Paragraphs of prose at `WIDTH` characters; headings, tables, lists and listings as they are."""
    parts = text.split("\n\n")
    return "\n\n".join(part if part.startswith(("#", "|", "!", "```", "- ")) else textwrap.fill(part, WIDTH) for part in parts)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(texts: int, numbers: int) -> str:
    return _row(["---"] * texts + ["--:"] * numbers)


def _formatted(of: Estimate, spec: str) -> str:
    if of.value is None:
        return NONE
    interval = "" if of.low is None or of.high is None else f" [{of.low:{spec}}, {of.high:{spec}}]"
    return f"{of.value:{spec}}{interval}"


def _null(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.1%}, {max(values):.1%}" if values else ""


SHOWN: dict[str, Callable[[LabelScore], str]] = {
    "": lambda row: _formatted(row.youden, ".3f"),
    ", shuffled": lambda row: _formatted(row.shuffled, ".3f"),
    ", permuted": lambda row: _formatted(row.permuted, ".3f"),
    ": labelled of latents (eligible)": lambda row: f"{row.labelled:.0%} of {row.latents} ({row.eligible:,})",
}
"""Lines of the table of label scores."""
