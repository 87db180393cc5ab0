"""`fromnoise describe`: a picture in words, as the model's CLIP sees it."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fromnoise.errors import BadInput

LIMIT = 1_000_000  # bytes of a file of phrases


def describe(
    image: Annotated[Path, typer.Argument(help="The picture.")],
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many captions.")] = 5,
    source: Annotated[str, typer.Option(help="The data source whose words are used.")] = "stickers",
    phrases: Annotated[
        Path | None, typer.Option(help="A text file to choose from instead, one phrase a line.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A folder or a hub id; the bundled model if left out.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print captions and attributes as JSON.")
    ] = False,
) -> None:
    """Describe a picture in words, as CLIP sees it.

    Each line is a caption that fits: its probability among all captions that were compared, and
    the cosine between its embedding and the picture's."""
    from fromnoise.pipeline.pictures import read_rgb

    # both are read before the model is
    picture, choice = read_rgb(image), None if phrases is None else read_phrases(phrases)
    from fromnoise.checkpoints.hub import load_parts
    from fromnoise.data.sources import open_source
    from fromnoise.pipeline.seeing.clip import ClipEmbedder

    rows = ClipEmbedder(load_parts(model)).describe(picture, choice or open_source(source), top)
    if json:
        from fromnoise.cli.json_output import print_json

        return print_json([asdict(row) for row in rows])
    from fromnoise.cli.terminal import print_line

    for row in rows:
        print_line(f"{row.probability:6.1%}  {row.cosine:+.3f}  {row.caption}")


def read_phrases(path: Path) -> list[str]:
    """The phrases of a file, each once; "-" is standard input. Raises NotFound, and BadInput for a
    file that is too long, no text or empty."""
    from fromnoise.cli.texts import read_text_file

    lines = (line.strip() for line in read_text_file(path, LIMIT).splitlines())
    phrases = list(dict.fromkeys(line for line in lines if line))
    if not phrases:
        raise BadInput(f"{path} has no phrase in it", "write one phrase a line")
    return phrases
