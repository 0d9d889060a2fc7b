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
from musae.tables.schema import Estimate, Of, Tables

KINDS = ["trained", "random"]

TITLES = {"lower": "lower bound of r", "upper": "upper bound of r", "level": "firing level"}


def draw(tables: Tables, folder: Path) -> list[Path]:
    """Write ``curves.svg`` and ``curves.png``. Raises UserError where Altair or vl-convert is not installed."""
    try:
        alt, convert = (importlib.import_module(name) for name in ("altair", "vl_convert"))
    except ImportError as error:
        raise UserError(f"curves are drawn with Altair and vl-convert ({error}); pip install 'musae[plots]'.") from error
    spec = figure(alt, tables).to_json()
    drawn = {"svg": convert.vegalite_to_svg(spec).encode(), "png": convert.vegalite_to_png(spec, scale=1.5)}
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
        .resolve_scale(color="independent", strokeDash="shared")
        .configure_axis(labelFontSize=9, titleFontSize=10, grid=True, gridOpacity=0.4)
        .configure_title(fontSize=11, anchor="start")
        .configure_view(stroke="#ddd")
        .configure_legend(labelFontSize=9, titleFontSize=10)
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
    chance = alt.Chart(alt.Data(values=[{"value": 1 / max(1, len(tables.layers))}])).mark_rule(color="#888", strokeDash=[1, 3])
    panels = [
        _lines(alt, counts, "layer:O", "latents that pass the filter", "setting", log=True),
        _lines(alt, labels, "layer:O", "mean Youden index of labels", "setting"),
        _lines(alt, origins, "layer:O", "layer told right by the MLP", "setting") + chance.encode(y="value:Q"),
    ]
    titles = ("Filter counts (mean > 0)", "Label scores", "Layer of origin (dotted: chance)")
    shown = [panel.properties(width=250, height=170, title=title) for panel, title in zip(panels, titles, strict=True)]
    return alt.hconcat(*shown, spacing=30).resolve_scale(color="shared", strokeDash="shared")


def _curves(alt: Any, tables: Tables, axis: str, truth: str) -> Any:
    """Counts above, label scores below; a column for each setting, a line for each layer."""
    rows = [p for p in tables.points if p.axis == axis and p.truth == truth and p.layer is not None]
    rule = alt.Chart(alt.Data(values=[{"at": _paper(tables, axis)}])).mark_rule(color="#888", strokeDash=[1, 3]).encode(x="at:Q")
    lines = []
    for measure, title in (("count", "latents within"), ("youden", "mean Youden")):
        panels = []
        for setting in dict.fromkeys(row.setting for row in rows):
            mine = [
                _of(row) | {"at": row.at} | (_interval(row.youden) if measure == "youden" else {"value": row.count})
                for row in rows
                if row.setting == setting
            ]
            panel = _lines(alt, mine, "at:Q", title, "layer", log=measure == "count", x_title=TITLES[axis], x_log=axis != "level")
            panels.append((panel + rule).properties(width=185, height=105, title=setting.title if measure == "count" else ""))
        lines.append(alt.hconcat(*panels, spacing=14).resolve_scale(y="shared"))
    return alt.vconcat(*lines, spacing=4).resolve_scale(color="shared", strokeDash="shared")


def _lines(
    alt: Any,
    values: Sequence[dict[str, object]],
    x: str,
    title: str,
    color: str,
    *,
    log: bool = False,
    x_title: str = "layer",
    x_log: bool = False,
) -> Any:
    """Lines with their bands; counts on a scale that is linear about 0, since some are."""
    name, kind = x.split(":")
    across = alt.X(f"{name}:{kind}", title=x_title)
    if x_log:
        across = alt.X(f"{name}:Q", title=x_title, scale=alt.Scale(type="symlog", constant=0.01))
    scale = alt.Scale(type="symlog", constant=3) if log else alt.Scale(zero=True)
    palette = alt.Scale(scheme="viridis") if color == "layer" else alt.Scale(scheme="dark2")
    shade = alt.Color(
        f"{color}:{'O' if color == 'layer' else 'N'}", scale=palette, title="expansion, k" if color == "setting" else "layer"
    )
    dash = alt.StrokeDash("kind:N", scale=alt.Scale(domain=KINDS, range=[[1, 0], [4, 3]]), title="dictionary")
    base = alt.Chart(alt.Data(values=list(values))).encode(x=across, color=shade)
    line = base.mark_line(point=alt.OverlayMarkDef(size=12), strokeWidth=1.4).encode(
        y=alt.Y("value:Q", title=title, scale=scale), strokeDash=dash
    )
    if not any("low" in value for value in values):
        return line
    band = base.mark_area(opacity=0.12).encode(y=alt.Y("low:Q", title=title), y2="high:Q", detail="kind:N")
    return band + line


def _paper(tables: Tables, axis: str) -> float:
    return {"lower": tables.band[0], "upper": tables.band[1], "level": 0.0}[axis]


def _of(row: Of) -> dict[str, object]:
    return {"setting": row.setting.title, "kind": row.kind, "layer": row.layer}


def _interval(of: Estimate) -> dict[str, object]:
    if of.value is None:
        return {}
    return {"value": of.value} | ({} if of.low is None else {"low": of.low, "high": of.high})
