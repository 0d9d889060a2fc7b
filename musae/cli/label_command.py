"""`musae label`: what a dictionary's latents stand for, in words, and how true that is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musae.cli import options
from musae.files import runs_root

if TYPE_CHECKING:
    from musae.card import SuiteCard
    from musae.labelling.session import Judges
    from musae.providers.budget import Budget

NAMES = ("truth", "detection", "fuzzing", "intruder", "clap")


@click.command("label")
@click.argument("dictionary")
@click.option(
    "--explainer",
    default=None,
    metavar="NAME",
    help="text, text:PROVIDER, audio:PROVIDER, tags or statistical: see `musae list explainers`.  [default: the suite's, text]",
)
@click.option("--latents", type=click.IntRange(1), default=200, show_default=True, help="At most so many are labelled.")
@click.option(
    "--judge",
    "judges",
    multiple=True,
    type=click.Choice(NAMES),
    default=("truth",),
    show_default=True,
    help="May be repeated. detection, fuzzing and intruder ask a language model; clap needs --clap.",
)
@click.option("--provider", default="local", show_default=True, metavar="NAME", help="Whom the judges ask.")
@click.option("--asked", type=click.IntRange(1), default=50, show_default=True, help="Latents of which a judge is asked.")
@click.option(
    "--clap", type=click.Path(path_type=Path), default=None, help="A CLAP checkpoint's folder, as transformers saves it."
)
@click.option(
    "--evidence",
    type=click.Choice(["estimated", "exact"]),
    default="estimated",
    show_default=True,
    help="What explainer and judges are told: estimates from the audio, or, as an oracle, the annotations.",
)
@click.option("--exemplars", type=click.IntRange(1), default=10, show_default=True, help="Strongest excerpts of a latent.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of a latent's 99th percentile above which it fires.",
)
@click.option("--max-cost", type=float, default=None, help="Ask no more once this is spent; needs --prices.")
@click.option("--prices", type=float, nargs=2, default=None, help="Of a million tokens read, and of a million written.")
@click.option("--dry-run", is_flag=True, help="Say what would be asked and what it may cost, and ask nothing.")
@click.option(
    "--sensitivity", is_flag=True, help="Instead, a table of how the score moves with exemplars, threshold and explainer."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=None, help="The JSON file.  [default: labels.json]"
)
@options.suite
@options.root
def command(
    dictionary: str,
    explainer: str | None,
    latents: int,
    judges: tuple[str, ...],
    provider: str,
    asked: int,
    clap: Path | None,
    evidence: str,
    exemplars: int,
    threshold: float,
    max_cost: float | None,
    prices: tuple[float, float] | None,
    dry_run: bool,
    sensitivity: bool,
    out: Path | None,
    suite: SuiteCard,
    root: Path | None,
) -> None:
    """Label a dictionary's latents, and judge the labels on other pieces.

    Evidence is taken from half the held-out pieces, labels are judged on the other half: against annotations (truth), by a
    language model (detection, fuzzing, intruder) or by CLAP. A label that cannot be made or judged is unscored, with the reason;
    the run goes on, and totals are printed at its end. Answers are kept: a second run asks nothing.

    DICTIONARY is whatever `musae score` takes; the suite's last corpus is read, unless --corpus names another. An endpoint's key
    is read from MUSAE_API_KEY.

    \b
    Examples:
      musae label runs/.../topk-s0.safetensors
      musae label mine.safetensors --judge truth --judge detection --latents 50
      musae label mine.safetensors --explainer 'text:endpoint:http://localhost:8000/v1#qwen' --dry-run
      musae label mine.safetensors --explainer audio:endpoint:https://api.openai.com/v1#gpt-4o-audio-preview \\
          --prices 2.5 10 --max-cost 5
      musae label mine.safetensors --sensitivity
    """
    from musae import registry
    from musae.cli.progress import progress
    from musae.errors import UserError
    from musae.evaluation import check_stream
    from musae.formats.recognise import describe, load
    from musae.labelling import report, session
    from musae.labelling import sensitivity as sweeps
    from musae.provenance import processor
    from musae.results import provenance
    from musae.workspace import Workspace, encode, one_thread

    if sensitivity and dry_run:
        raise UserError("--sensitivity and --dry-run: only labels have an estimate; leave one of them out.")
    began = time.monotonic()
    budget = _budget(prices, max_cost)
    explaining = registry.make("explainers", explainer or suite.explainer)
    explaining.limit(budget)
    judging = _judges(judges, provider, asked, clap, budget)
    out = out or Path("sensitivity.json" if sensitivity else "labels.json")
    loaded = load(dictionary)
    click.echo(describe(loaded) + "\n")
    with progress() as show, one_thread():
        workspace = Workspace(options.with_layer_of(suite, loaded), root if root is not None else runs_root(), show)
        check_stream(workspace, loaded, dictionary)
        data = workspace.heldout(workspace.suite.corpora[-1])
        features = encode(loaded, data)
        if sensitivity:
            found = sweeps.run(features, data, [explaining], latents=latents, progress=show)
            click.echo(sweeps.table(found))
            click.echo(f"\n{sweeps.write(found, loaded.content_hash, out)}")
            return
        case = session.case(
            features, data, latents=latents, oracle=evidence == "exact", count=exemplars, threshold=threshold, progress=show
        )
        if dry_run:
            click.echo(
                f"{len(case.firing.latents)} latents of {case.firing.eligible} that qualify; labels: {explaining.estimate(case)}"
            )
            if judging.client is not None:
                click.echo("judges: each asks about 20 questions a latent (intruder: 6), and as many for its nulls")
            return
        made = session.Session(case, explaining, judging, show).run()
    usage = [f"labels: {explaining.totals}"] * bool(explaining.totals)
    if judging.client is not None:
        usage.append(f"judges: {judging.client.totals}")
    result = report.Report(
        dictionary=loaded.content_hash,
        method=loaded.name,
        generator=f"{workspace.generator_card.name}@{workspace.generator.revision}",
        layer=workspace.suite.layer,
        corpus=f"{data.corpus}@{data.corpus_revision}",
        truth=case.level,
        explainer=explaining.card.name,
        explainer_revision=explaining.revision,
        evidence="exact" if explaining.card.reads == "annotations" else "audio" if explaining.card.reads == "audio" else evidence,
        exemplars=exemplars,
        threshold=threshold,
        eligible=case.firing.eligible,
        latents=made.latents,
        scores=made.scores,
        agreement=made.agreement,
        unscored=made.unscored,
        usage=tuple(usage),
        provenance=provenance(device=processor(), threads=1, seconds=time.monotonic() - began),
    )
    _show(result, result.write(out))


def _budget(prices: tuple[float, float] | None, max_cost: float | None) -> Budget:
    from musae.providers.budget import Budget, Prices

    return Budget(Prices(*prices) if prices else None, max_cost)


def _judges(names: tuple[str, ...], provider: str, asked: int, clap: Path | None, budget: Budget) -> Judges:
    """The judges with what they need. Raises UserError where it is missing."""
    from musae import registry
    from musae.clap import Clap
    from musae.errors import UserError
    from musae.labelling.session import Judges
    from musae.providers.cache import AnswerCache
    from musae.providers.client import Client

    if ("clap" in names) != (clap is not None):
        raise UserError("--judge clap and --clap FOLDER go together: give both, or neither.")
    client = None
    if {"detection", "fuzzing", "intruder"} & set(names):
        client = Client(registry.make("providers", provider), AnswerCache(), budget)
    return Judges(tuple(dict.fromkeys(names)), client, Clap.load(clap) if clap else None, asked)


def _show(result: object, path: Path) -> None:
    from musae.labelling import report

    assert isinstance(result, report.Report)
    labelled = sum(bool(one.label.checkable) for one in result.latents)
    click.echo(
        f"{len(result.latents)} latents of {result.eligible} that qualify, on {result.corpus}: {labelled} with a claim, "
        f"by {result.explainer} ({result.evidence} evidence)\n"
    )
    click.echo(report.examples(result) + "\n")
    click.echo(report.table(result) + "\n")
    for one in result.agreement:
        value = one.unscored if one.rho is None else f"rho {one.rho:.2f} [{one.low:.2f}, {one.high:.2f}], p {one.p:.3f}"
        click.echo(f"agreement of {' and '.join(one.judges)} over {one.n} latents: {value}")
    for reason, count in sorted(result.unscored.items(), key=lambda item: -item[1]):
        click.echo(f"unscored: {count}: {reason}")
    for line in result.usage:
        click.echo(line)
    click.echo(f"\n{path}")
