"""From a session to files: the tables as a whole, written as JSON, Markdown and a figure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from musae.errors import UserError
from musae.files import atomic_path
from musae.provenance import device
from musae.results import provenance
from musae.tables import activity, assemble, curves, steered
from musae.tables.markdown import markdown
from musae.tables.measure import Measured
from musae.tables.schema import Line, Tables
from musae.tables.session import KINDS, Session


def make(session: Session, commands: tuple[str, ...], steering: Sequence[Path] = (), begun: float | None = None) -> Tables:
    """Measure what is missing and put it into tables. `commands`: what to say made them; `begun`: by `time.monotonic`."""
    begun = time.monotonic() if begun is None else begun
    training, streams = session.training, session.streams
    workspace = training.workspace
    d, generator = workspace.generator_card.width, f"{workspace.generator_card.name}@{workspace.generator.revision}"
    settings = {session.hashes[member]: assemble.setting(member, d) for member in session.present}
    steers = steered.read(steering, generator, settings)  # bad folders are found before anything is computed
    found = session.run()
    columns = assemble.profiles(found, d)
    classified = session.origins(assemble.learnable(columns))
    corpus = workspace.corpus(streams.corpus)
    first = next(iter(found.values()))
    missing = [member for member in training.members if member not in session.present]
    return Tables(
        sweep=training.sweep.name,
        commands=commands,
        generator=generator,
        corpus=f"{corpus.card.name}@{corpus.revision}",
        clips=int(first.rows[0]),
        pieces=first.pieces,
        clip_seconds=workspace.suite.clip_seconds,
        probe_frames=int(first.rows[1]),
        training_frames=workspace.suite.training_frames - training.sweep.aside * workspace.frames_per_clip,
        layers=streams.layers,
        band=activity.BAND,
        lines=tuple(_lines(session, found, d)),
        counts=tuple(assemble.counts(found, d)),
        points=tuple(assemble.points(found, d)),
        labels=tuple(assemble.labels(found, d)),
        differences=tuple(assemble.differences(found, d)),
        origins=tuple(assemble.origins(columns, classified)),
        steered=tuple(steers),
        notes=tuple(f"{member.name}: not trained; {commands[0]}" for member in missing),
        provenance=provenance(device=device(), threads=1, seconds=time.monotonic() - begun),
    )


def _lines(session: Session, found: dict[assemble.Key, Measured], d: int) -> list[Line]:
    lines = []
    for member in session.training.members:
        for kind in KINDS:
            one = found.get((member, kind))
            trained = kind == "trained"
            if one is None and not trained:
                continue
            lines.append(
                Line(
                    setting=assemble.setting(member, d),
                    kind=kind,
                    layer=member.layer,
                    dictionary=session.hashes.get(member, "") if trained else "",
                    file=session.training.paths[member].name if trained else "",
                    l0=one.l0 if one else None,
                    silent=one.silent if one else None,
                    missing="" if one else "not trained",
                )
            )
    return lines


def write(tables: Tables, folder: Path) -> tuple[list[Path], str]:
    """Write ``tables.json``, ``tables.md`` and, where it can be drawn, the figure; returns the files, and why there is none."""
    files, undrawn = [tables.write(folder / "tables.json"), folder / "tables.md"], ""
    try:
        files += curves.draw(tables, folder)
    except UserError as error:
        undrawn = str(error)
    with atomic_path(files[1]) as temporary:
        temporary.write_text(markdown(tables, figure=not undrawn), encoding="utf-8")
    return files, undrawn


def summary(tables: Tables) -> str:
    """A few lines for the terminal: counts and label scores, trained beside random."""
    out = [
        f"{tables.sweep}, {tables.generator}, {tables.clips:,} clips of {tables.corpus}; latents within the filter, mean Youden:"
    ]
    for line in tables.lines:
        if line.missing:
            continue
        key = (line.setting, line.kind, line.layer)
        count = next(c.count.value for c in tables.counts if (c.setting, c.kind, c.layer) == key)
        judged = [x.youden for x in tables.labels if (x.setting, x.kind, x.layer) == key]
        scored = ", ".join(f"{y.value:.3f} [{y.low:.3f}, {y.high:.3f}]" for y in judged if y.value is not None) or "unscored"
        out.append(f"  {line.setting.title:>10}  layer {line.layer:>2}  {line.kind:<8} {count:>7,.0f}  {scored}")
    return "\n".join(out)
