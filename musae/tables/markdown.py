"""``tables.md``: every table with its interval, null or control."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from musae.labels import evidence
from musae.tables import judged, origin
from musae.tables.assemble import AXES
from musae.tables.schema import Estimate, Kind, Of, Tables

R = TypeVar("R", bound=Of)

DEFINED = {
    "mean > 0": "active on a clip: its mean over time is positive (the paper's aggregation, read literally)",
    "firing clips": f"active on a clip: its mean over time exceeds {evidence.LEVEL} of the {evidence.QUANTILE} quantile of its positive means",
    "firing frames": f"r is the share of frames whose value exceeds {evidence.LEVEL} of the {evidence.QUANTILE} quantile of its positive values",
}

VARIED = {
    "lower": "lower bound of r",
    "upper": "upper bound of r",
    "level": "firing level, as a share of the quantile (0: any positive value)",
}


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
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(tables: Tables) -> str:
    made = tables.provenance
    state = (
        f"commit {made.commit[:10]}{' with uncommitted changes' if made.dirty else ''}" if made.commit else "an installed package"
    )
    low, high = tables.band
    lines = [
        f"# Tables of the sweep `{tables.sweep}`: {tables.generator}",
        "",
        "Written by `musae tables`; how each number is made, and how it differs from the paper's (arXiv 2505.18186): `musae/tables/README.md`.",
        "",
        "```sh",
        *tables.commands,
        "```",
        "",
        f"- dictionaries: {len({(line.setting, line.layer) for line in tables.lines if not line.missing})} of {_of(tables)}, trained on "
        f"{tables.training_frames:,} frames; each beside a random twin (the same size, random directions, TopK)",
        f"- held-out clips: {tables.clips:,} of {tables.clip_seconds:g} s from {tables.pieces:,} pieces of {tables.corpus}; what is read "
        f"at frames is read at {tables.probe_frames:,} of them",
        f"- made at {state}, {made.created:%Y-%m-%d}, on {made.device}; {made.seconds:,.0f} s of it in the last run",
        f"- brackets are 95 % intervals, of a bootstrap over pieces unless said otherwise; the filter keeps {low:g} <= r <= {high:g}",
        *(f"- **missing**: {note}" for note in tables.notes),
    ]
    return "\n".join(lines)


def _of(tables: Tables) -> int:
    return sum(line.kind == "trained" for line in tables.lines)


def _dictionaries(tables: Tables) -> str:
    lines = [line for line in tables.lines if not line.missing]

    def cell(line: object) -> str:
        found = next(one for one in lines if one is line)
        return f"{found.l0:.1f} · {found.silent:,}"

    return "## Dictionaries\n\nActive latents a frame (L0) · latents that never fire, on the held-out clips.\n\n" + _grid(
        tables, lines, cell
    )


def _counts(tables: Tables) -> str:
    parts = [
        "## Filter counts\n\nLatents whose rate r lies within the filter's bounds, r being the share of clips on which a latent is active."
    ]
    for definition, words in DEFINED.items():
        rows = [row for row in tables.counts if row.definition == definition]
        parts.append(f"**{definition}**: {words}.\n\n" + _grid(tables, rows, lambda row: _whole(row.count)))
    return "\n\n".join(parts)


def _points(tables: Tables, figure: bool) -> str:
    parts = [
        "## Threshold sensitivity\n\nAll layers together (each layer: `tables.json`, and the figure): latents within the bounds · mean Youden "
        f"index of the statistical labels of those among a sample of {judged.SAMPLE} a dictionary, averaged over layers. Where a bound "
        f"is varied, active is `mean > 0` and labels are found and judged at the firing level {evidence.LEVEL}; where the level is "
        "varied, so is what active means, and the bounds are the paper's." + ("\n\n![curves](curves.png)" if figure else "")
    ]
    truths = dict.fromkeys(point.truth for point in tables.points)
    for truth in truths:
        for axis, places in AXES.items():
            rows = [p for p in tables.points if p.axis == axis and p.truth == truth and p.layer is None]
            lines = [_row(["expansion, k", "", *(f"{at:g}" for at in places)]), _rule(2, len(places))]
            for setting, kind in dict.fromkeys((row.setting, row.kind) for row in rows):
                cells = [
                    f"{p.count:,} · {_decimal(p.youden)}"
                    for at in places
                    for p in rows
                    if (p.setting, p.kind, p.at) == (setting, kind, at)
                ]
                lines.append(_row([setting.title, kind, *cells]))
            title = VARIED[axis] + (f", {truth} truth" if len(truths) > 1 else "")
            parts.append(f"**{title}**\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _labels(tables: Tables) -> str:
    if not tables.labels:
        return "## Label scores\n\nUnscored: no clip is annotated, or no latent qualifies."
    low, high = evidence.RATES
    parts = [
        f"## Label scores\n\nMean Youden index of the statistical labels on held-out pieces, by the rule of the task `label_precision`: up to "
        f"{evidence.LATENTS} latents that fire on {low:.1%} to {high:.0%} of the frames, an abstention counted as 0. Nulls: labels dealt out "
        "among latents (shuffled); labels found and judged on annotations permuted between pieces (permuted)."
    ]
    for truth in dict.fromkeys(row.truth for row in tables.labels):
        rows = [row for row in tables.labels if row.truth == truth]
        layers = tables.layers
        lines = [_row(["expansion, k", "", *(f"layer {layer}" for layer in layers)]), _rule(2, len(layers))]
        for setting in dict.fromkeys(row.setting for row in rows):
            for kind in _kinds(row for row in rows if row.setting == setting):
                mine = {row.layer: row for row in rows if (row.setting, row.kind) == (setting, kind)}
                shown: list[tuple[str, list[str]]] = [
                    (kind, [_decimal(mine[x].youden) if x in mine else "–" for x in layers]),
                    (
                        f"{kind}: labelled of latents (eligible)",
                        [
                            f"{mine[x].labelled:.0%} of {mine[x].latents} ({mine[x].eligible:,})" if x in mine else "–"
                            for x in layers
                        ],
                    ),
                    (f"{kind}, shuffled", [_decimal(mine[x].shuffled) if x in mine else "–" for x in layers]),
                    (f"{kind}, permuted", [_decimal(mine[x].permuted) if x in mine else "–" for x in layers]),
                ]
                lines += [_row([setting.title, what, *cells]) for what, cells in shown]
        parts.append(f"**{truth} truth**\n\n" + "\n".join(lines))
        parts.append(_differences(tables, truth))
    return "\n\n".join(parts)


def _differences(tables: Tables, truth: str) -> str:
    """Trained less random at each layer, each layer less the one before, and the deepest less the shallowest."""
    rows = [row for row in tables.differences if row.truth == truth]
    layers = tables.layers
    steps = [*zip(layers[1:], layers, strict=False)] + ([(layers[-1], layers[0])] if len(layers) > 2 else [])
    heads = [f"trained − random, {layer}" for layer in layers] + [f"layer {b} − {a}" for b, a in steps]
    lines = [_row(["expansion, k", *heads]), _rule(1, len(heads))]
    for setting in dict.fromkeys(row.setting for row in rows):
        mine = {(r.layer, r.less_layer, r.less_kind): _signed(r.youden) for r in rows if r.setting == setting}
        cells = [mine.get((layer, layer, "random"), "–") for layer in layers]
        cells += [mine.get((b, a, "trained"), "–") for b, a in steps]
        lines.append(_row([setting.title, *cells]))
    return "Paired differences of these scores, on the same pieces (all pairs of layers: `tables.json`):\n\n" + "\n".join(lines)


def _origins(tables: Tables) -> str:
    if not tables.origins:
        return ""
    rows, models = tables.origins, origin.MODELS
    heads = [
        "expansion, k",
        "",
        "columns",
        "latents a layer",
        "chance",
        *models,
        *(f"{model}, layers permuted" for model in models),
    ]
    lines = [_row(heads), _rule(3, len(heads) - 3)]
    for key in dict.fromkeys((row.setting, row.kind, row.features) for row in rows):
        mine = {row.model: row for row in rows if (row.setting, row.kind, row.features) == key}
        first = mine[models[0]]
        cells = [str(first.latents or "–"), f"{first.chance:.1%}"]
        cells += [_percent(mine[model].accuracy) for model in models]
        cells += [_null(mine[model].permuted) for model in models]
        lines.append(_row([key[0].title, key[1], key[2], *cells]))
    why = sorted({row.accuracy.unscored for row in rows if row.accuracy.unscored})
    said = "".join(f"\n\nUnscored where {reason}." for reason in why)
    return (
        "## Layer of origin\n\nBalanced accuracy of classifiers that are to tell from which layer a latent comes, cross-validated over latents; "
        "intervals are of a bootstrap over latents. Columns: correlations with annotated concepts, statistics of activity that have no units, "
        f"or both. Null: the same with layers dealt out at random, mean and maximum of {origin.PERMUTATIONS}. The random twin says how much of "
        "it is the stream of the layer.\n\n" + "\n".join(lines) + said
    )


def _steered(tables: Tables) -> str:
    if not tables.steered:
        return "## Steering rates\n\nNone given: run `musae steer` on dictionaries of this sweep, and give its folders with `--steering`."
    heads = [
        "layer",
        "dictionary",
        "expansion, k",
        "concepts scored",
        "unscored",
        "with an effect",
        "share",
        "also beyond a searched direction",
    ]
    lines = [_row(heads), _rule(3, len(heads) - 3)]
    for row in tables.steered:
        name = row.setting.title if row.setting else "not of this sweep"
        cells = [str(row.scored), str(row.unscored), str(row.effect), _percent(row.share), str(row.beyond_searched)]
        lines.append(_row([str(row.layer), f"{row.method} {row.dictionary}", name, *cells]))
    return (
        "## Steering rates\n\nOf the concepts that could be scored, those that move further than random directions of the same norm (95 %, "
        "p < .05 by Holm); Wilson's interval.\n\n" + "\n".join(lines)
    )


def _grid(tables: Tables, rows: Sequence[R], cell: Callable[[R], str]) -> str:
    """A line for each setting and kind, a column for each layer."""
    lines = [_row(["expansion, k", "", *(f"layer {layer}" for layer in tables.layers)]), _rule(2, len(tables.layers))]
    for setting, kind in dict.fromkeys((row.setting, row.kind) for row in rows):
        mine = {row.layer: cell(row) for row in rows if (row.setting, row.kind) == (setting, kind)}
        lines.append(_row([setting.title, kind, *(mine.get(layer, "–") for layer in tables.layers)]))
    return "\n".join(lines)


def _kinds(rows: Iterable[Of]) -> list[Kind]:
    return list(dict.fromkeys(row.kind for row in rows))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(texts: int, numbers: int) -> str:
    return _row(["---"] * texts + ["--:"] * numbers)


def _formatted(of: Estimate, spec: str) -> str:
    if of.value is None:
        return "–"
    interval = "" if of.low is None or of.high is None else f" [{of.low:{spec}}, {of.high:{spec}}]"
    return f"{of.value:{spec}}{interval}"


def _whole(of: Estimate) -> str:
    return _formatted(of, ",.0f")


def _decimal(of: Estimate) -> str:
    return _formatted(of, ".3f")


def _signed(of: Estimate) -> str:
    return _formatted(of, "+.3f")


def _percent(of: Estimate) -> str:
    return _formatted(of, ".1%")


def _null(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.1%}, {max(values):.1%}" if values else ""
