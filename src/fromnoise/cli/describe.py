"""`fromnoise describe`: a picture in words, as the model's CLIP sees it."""

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fromnoise.errors import BadInput, NotFound

LIMIT = 1_000_000  # bytes of a file of phrases


def describe(
    image: Annotated[Path, typer.Argument(help="The picture.")],
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many captions.")] = 5,
    source: Annotated[
        str, typer.Option(help="The data source in whose words it is described.")
    ] = "stickers",
    phrases: Annotated[
        Path | None, typer.Option(help="A text file to choose from instead, a phrase a line.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A folder or a hub id; the bundled model if left out.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print captions and attributes as JSON.")
    ] = False,
) -> None:
    """Say in words what CLIP sees in a picture: the captions that fit it best, each with its
    probability among all that were weighed, and the cosine of its embedding and the picture's."""
    from fromnoise.pipeline.pictures import read_rgb

    picture, choice = (
        read_rgb(image),
        None if phrases is None else read_phrases(phrases),
    )  # before the model is read
    from fromnoise.checkpoints.hub import load_parts
    from fromnoise.data.sources import open_source
    from fromnoise.pipeline.seeing.clip import ClipEmbedder

    found = ClipEmbedder(load_parts(model)).describe(picture, choice or open_source(source), top)
    if json:
        print(jsonlib.dumps([asdict(row) for row in found], ensure_ascii=False))
    else:
        print(
            *(f"{row.probability:6.1%}  {row.cosine:+.3f}  {row.caption}" for row in found),
            sep="\n",
        )


def read_phrases(path: Path) -> list[str]:
    """The phrases of a file, each once. Raises NotFound, and BadInput for one that is too long, no
    text or empty."""
    try:
        if path.stat().st_size > LIMIT:
            raise BadInput(f"{path} has more than {LIMIT:,} bytes", "give fewer phrases")
        found = list(
            dict.fromkeys(
                filter(None, map(str.strip, path.read_text(encoding="utf-8").splitlines()))
            )
        )
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", "look for a slip in its name") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"cannot read {path}: {error}", "give a text file, a phrase a line"
        ) from error
    if not found:
        raise BadInput(f"{path} has no phrase in it", "write one a line")
    return found
