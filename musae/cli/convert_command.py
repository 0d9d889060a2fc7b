"""`musae convert`: a dictionary in another library's format, or another library's in musae's."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("convert")
@click.argument("source")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "target",
    required=True,
    metavar="FORMAT",
    help="saelens, sparsify, dictionary_learning, gemma_scope, overcomplete or musae.",
)
def command(source: str, destination: Path, target: str) -> None:
    """Write a dictionary in another format: the same codes and reconstructions, to rounding.

    SOURCE is whatever `musae score` reads. DESTINATION is a new folder, which the library then loads; for musae a new file. What
    a format cannot express is refused: signed codes, say, or a bias of the decoder in overcomplete.

    \b
    Examples:
      musae convert runs/mine.safetensors exported --to saelens
      musae convert org/repo/layers.5 layer5.safetensors --to musae
    """
    from musae.formats.recognise import describe, load, write

    dictionary = load(source)
    click.echo(describe(dictionary))
    written = write(dictionary, destination, target)
    click.echo(f"{'written:':<15}{written} ({target})")
