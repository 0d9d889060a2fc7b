"""`musae steer`: what a dictionary's latents cause in the music that is generated."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.cli import options
from musae.files import runs_root

if TYPE_CHECKING:
    from musae.card import SuiteCard
    from musae.clap import Clap


@click.command("steer")
@click.argument("dictionary")
@click.option(
    "--concept",
    "concepts",
    multiple=True,
    metavar="NAME",
    help="As 'instrument organ', or a kind: instrument, register,"
    " key, root, tempo. May be repeated.  [default: all families and registers, fast and slow, a few keys and roots]",
)
@click.option(
    "--latent",
    "latents",
    multiple=True,
    type=click.IntRange(0),
    help="Steer this latent instead of choosing one; repeated, these together.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where WAVs, sheet and scores go.")
@click.option(
    "--prompts",
    type=click.IntRange(2),
    default=16,
    show_default=True,
    help="Held-out pieces to develop on, and as many fresh ones to report on.",
)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Continuations of each fresh prompt.")
@click.option(
    "--strength",
    "strengths",
    multiple=True,
    type=click.FloatRange(0, min_open=True),
    default=(0.2, 0.4),
    show_default=True,
    help="Norm of what is added, in units of the stream's spread, to choose among. May be repeated.",
)
@click.option("--candidates", type=click.IntRange(1), default=3, show_default=True, help="Latents tried for each concept.")
@click.option("--random", type=click.IntRange(2), default=8, show_default=True, help="Random directions to compare with.")
@click.option(
    "--budget",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Share of steered continuations that may be worse than 95% of unsteered ones in tonality, distance from the corpus, loss"
    " or likeness.",
)
@click.option("--seconds", type=click.FloatRange(1), default=5.12, show_default=True, help="Of each continuation.")
@click.option("--prompt-seconds", type=click.FloatRange(0.1), default=2.56, show_default=True, help="Of each prompt.")
@click.option("--wavs", type=click.IntRange(1), default=2, show_default=True, help="Prompts of which WAVs are written.")
@click.option(
    "--prompts-from",
    "source",
    default=None,
    metavar="CORPUS",
    help="Whose held-out clips are continued, and instruments learnt.  [default: the suite's last corpus]",
)
@click.option(
    "--clap",
    type=click.Path(path_type=Path),
    default=None,
    help="A CLAP checkpoint's folder, as transformers saves it: reports the paper's success rule too.",
)
@options.suite
@options.root
def command(
    dictionary: str,
    concepts: tuple[str, ...],
    latents: tuple[int, ...],
    out: Path,
    prompts: int,
    seeds: int,
    strengths: tuple[float, ...],
    candidates: int,
    random: int,
    budget: float,
    seconds: float,
    prompt_seconds: float,
    wavs: int,
    source: str | None,
    clap: Path | None,
    suite: SuiteCard,
    root: Path | None,
) -> None:
    """Steer generation along a dictionary's latents, and measure what is heard.

    For each concept, latents that go with it on training frames are added to the stream at several strengths while prompts are
    continued. The best in development is reported on fresh prompts: its shift against the same continuations unsteered, beside
    random directions of the same norm, latents that never fire and a supervised probe. Nothing that judges has seen an
    activation.

    DICTIONARY is whatever `musae score` takes. The layer is the one that it was trained on, where it says so. Prompts are
    held-out clips. Interrupted, run the same command again: what was generated and heard is kept in OUT.

    \b
    Examples:
      musae steer runs/.../topk-s0.safetensors --out steered
      musae steer mine.safetensors --concept register --concept 'instrument organ' --out steered
      musae steer mine.safetensors --latent 17 --latent 301 --concept 'key C major' --out steered
    """
    from musae.cli.progress import progress
    from musae.evaluation import check_stream
    from musae.formats.recognise import describe, load
    from musae.provenance import processor
    from musae.results import provenance
    from musae.steering import paper_rule, report, session, sheet
    from musae.steering.experiment import Design
    from musae.workspace import Workspace, one_thread

    began = time.monotonic()
    likeness = _clap(clap)
    loaded = load(dictionary)
    click.echo(describe(loaded) + "\n")
    design = Design(tuple(sorted(strengths)), candidates, random, seeds=seeds, budget=budget, latents=latents)
    with progress() as show, one_thread():
        workspace = Workspace(options.with_layer_of(suite, loaded), root if root is not None else runs_root(), show)
        check_stream(workspace, loaded, dictionary)
        corpus = workspace.corpus(source or workspace.suite.corpora[-1])
        ears = session.listen(workspace, corpus, seconds)
        asked = session.concepts(ears, concepts)
        store = session.training(workspace)
        experiment = session.experiment(
            workspace,
            corpus,
            store,
            loaded,
            ears,
            asked,
            out,
            design=design,
            lengths=session.Lengths(prompt_seconds, seconds),
            count=prompts,
        )
        found = experiment.run(asked)
        if likeness is not None:
            found = paper_rule.judge(experiment, found, store, likeness)
        files = sheet.write(experiment, asked, found, out, wavs)
    result = report.Report(
        dictionary=loaded.content_hash,
        method=loaded.name,
        generator=f"{workspace.generator_card.name}@{workspace.generator.revision}",
        layer=workspace.suite.layer,
        corpus=f"{corpus.card.name}@{corpus.revision}",
        prompt_seconds=prompt_seconds,
        seconds=seconds,
        development=prompts,
        fresh=prompts,
        seeds=seeds,
        budget=budget,
        quality=experiment.unsteered(),
        ears=dict(ears.remarks),
        clap=None if likeness is None else likeness.revision,
        concepts=tuple(found),
        provenance=provenance(device=processor(), threads=1, seconds=time.monotonic() - began),
    )
    written = result.write(out / "scores.json")
    for kind, remark in ears.remarks.items():
        click.echo(f"{kind}: {remark}")
    click.echo("\n" + report.table(result))
    click.echo(f"\n{written}; {len(files)} files beside it: WAVs, and sheet.png")


def _clap(folder: Path | None) -> Clap | None:
    if folder is None:
        return None
    from musae.clap import Clap

    return Clap.load(folder)
