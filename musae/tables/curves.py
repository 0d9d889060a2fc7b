"""The figure: counts, label scores and layer-of-origin accuracy by layer, and the threshold-sensitivity curves.

Colour is the layer in the curves and the setting in the panels by layer; solid is trained, dashed its random twin. Bands are 95 %
intervals. Rendered by Altair through vl-convert: no browser, no network.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musae.errors import UserError
from musae.files import atomic_path
from musae.tables.assemble import AXES, Axis
from musae.tables.schema import Estimate, Of, Tables

KINDS = ["trained", "random"]

TITLES: dict[Axis, str] = {"lower": "lower bound of r", "upper": "upper bound of r", "level": "firing level"}


def draw(tables: Tables, folder: Path) -> list[Path]:
    """Write ``curves.svg`` and ``curves.png``. Raises UserError where Altair or vl-convert is not installed."""
    try:
        alt, convert = (importlib.import_module(name) for name in ("altair", "vl_convert"))
    except ImportError as error:
        raise UserError(f"curves are drawn with Altair and vl-convert ({error}); pip install 'musae[plots]'.") from error
    spec = figure(alt, tables).to_json()
    svg = convert.vegalite_to_svg(spec)
    drawn = {"svg": svg.encode(), "png": convert.svg_to_png(svg, scale=1.0)}
    files = []
    for suffix, content in drawn.items():
        files.append(folder / f"curves.{suffix}")
        with atomic_path(files[-1]) as temporary:
            temporary.write_bytes(content)
    return files


def figure(alt: Any, tables: Tables) -> Any:
    """The chart; `alt`: the module altair."""
    parts = [_by_layer(alt, tables)]
    for truth in dict.fromkeys(point.truth for point in tables.points):
        parts += [_curves(alt, tables, axis, truth) for axis in TITLES]
    return (
        alt.vconcat(*parts, spacing=26)
        .resolve_scale(color="independent", strokeDash="independent")
        .configure_axis(labelFontSize=9, titleFontSize=10, gridOpacity=0.4)
        .configure_axisY(minExtent=34)
        .configure_title(fontSize=11, anchor="start")
        .configure_view(stroke="#ddd")
        .configure_legend(labelFontSize=9, titleFontSize=10, symbolOpacity=1, symbolType="stroke", symbolStrokeWidth=2)
    )


def _by_layer(alt: Any, tables: Tables) -> Any:
    """Three panels with the layer on the x axis: counts, label scores, layer-of-origin accuracy of each layer's latents."""
    counts = [_of(row) | _interval(row.count) for row in tables.counts if row.definition == "mean > 0"]
    labels = [_of(row) | _interval(row.youden) for row in tables.labels]
    origins = [
        {"setting": row.setting.title, "kind": row.kind, "layer": layer, "value": value}
        for row in tables.origins
        if row.features == "all" and row.model == "mlp"
        for layer, value in zip(row.layers, row.by_layer, strict=False)
    ]
    across = alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0))
    chance = alt.Chart(alt.Data(values=[{"value": 1 / max(1, len(tables.layers))}])).mark_rule(color="#888", strokeDash=[1, 3])
    panels = {
        "Filter counts (mean > 0)": _lines(alt, counts, across, _counted(alt, "latents that pass the filter"), "setting"),
        "Label scores": _lines(alt, labels, across, _plain(alt, "mean Youden index of labels"), "setting"),
        "Layer of origin (dotted: chance)": _lines(alt, origins, across, _plain(alt, "share told right by the MLP"), "setting")
        + chance.encode(y="value:Q"),
    }
    shown = [panel.properties(width=250, height=170, title=title) for title, panel in panels.items()]
    return alt.hconcat(*shown, spacing=26)


def _curves(alt: Any, tables: Tables, axis: Axis, truth: str) -> Any:
    """Counts above, label scores below; a column for each setting, a line for each layer. Dotted: the paper's filter."""
    rows = [p for p in tables.points if p.axis == axis and p.truth == truth and p.layer is not None]
    here = {"lower": tables.band[0], "upper": tables.band[1], "level": 0.0}[axis]
    rule = alt.Chart(alt.Data(values=[{"at": here}])).mark_rule(color="#888", strokeDash=[1, 3]).encode(x="at:Q")
    shape = {} if axis == "level" else {"type": "symlog", "constant": 0.01}
    scale = alt.Scale(domain=[0, max(AXES[axis])], **shape)
    across = alt.X("at:Q", title=TITLES[axis], scale=scale, axis=alt.Axis(values=list(AXES[axis]), format=".3~g", labelAngle=-45))
    lines = []
    for measure, up in (("count", _counted(alt, "latents within")), ("youden", _plain(alt, "mean Youden"))):
        panels = []
        for setting in dict.fromkeys(row.setting for row in rows):
            mine = [
                _of(row) | {"at": row.at} | (_interval(row.youden) if measure == "youden" else {"value": row.count})
                for row in rows
                if row.setting == setting
            ]
            title = f"expansion, k: {setting.title}" if measure == "count" else ""
            panel = _lines(alt, [one for one in mine if "value" in one], across, up, "layer") + rule
            panels.append(panel.properties(width=190, height=105, title=title))
        lines.append(alt.hconcat(*panels, spacing=10).resolve_scale(y="shared"))
    return alt.vconcat(*lines, spacing=4)


def _lines(alt: Any, values: Sequence[dict[str, object]], across: Any, up: Any, color: str) -> Any:
    """Lines with their bands, where values have one."""
    layer = color == "layer"
    palette = alt.Scale(scheme="viridis" if layer else "dark2")
    shade = alt.Color(f"{color}:{'O' if layer else 'N'}", scale=palette, title="layer" if layer else "expansion, k")
    dash = alt.StrokeDash("kind:N", scale=alt.Scale(domain=KINDS, range=[[1, 0], [4, 3]]), title="dictionary")
    base = alt.Chart(alt.Data(values=list(values))).encode(x=across, color=shade)
    lines = base.mark_line(strokeWidth=1.4).encode(y=up, strokeDash=dash)
    points = base.mark_circle(size=14, opacity=1).encode(y=up)
    bands = [value for value in values if "low" in value]
    if not bands:
        return lines + points
    return base.mark_area(opacity=0.12).encode(y="low:Q", y2="high:Q", detail="kind:N") + lines + points


def _plain(alt: Any, title: str) -> Any:
    return alt.Y("value:Q", title=title, scale=alt.Scale(zero=True))


def _counted(alt: Any, title: str) -> Any:
    """A scale that is logarithmic but for small counts: some are 0."""
    ticks = alt.Axis(values=[0, 10, 100, 1000, 10_000, 100_000], format=",d")
    return alt.Y("value:Q", title=title, scale=alt.Scale(type="symlog", constant=3), axis=ticks)


def _of(row: Of) -> dict[str, object]:
    return {"setting": row.setting.title, "kind": row.kind, "layer": row.layer}


def _interval(of: Estimate) -> dict[str, object]:
    if of.value is None:
        return {}
    return {"value": of.value} | ({} if of.low is None else {"low": of.low, "high": of.high})
