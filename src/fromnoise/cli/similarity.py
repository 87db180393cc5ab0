"""`fromnoise similarity`: how similar CLIP finds pictures and words."""

from os.path import isfile  # False, and no error, for names that no file can have
from pathlib import Path
from typing import Annotated

import typer

from fromnoise.errors import BadInput


def similarity(
    items: Annotated[
        list[str],
        typer.Argument(help="Two or more: a file's name is a picture, anything else is words."),
    ],
    text: Annotated[
        bool, typer.Option("--text", help="All are words, also names of files.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="A folder or a hub id; the bundled model if left out.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole matrix as JSON.")] = False,
) -> None:
    """How similar CLIP finds the first item and each of the others.

    The figure is the cosine of their embeddings, 1 at most. Compare figures of one kind only: two
    pictures always get a higher one than a picture and the words for it."""
    if len(items) < 2:
        raise BadInput(
            "there is only one thing to compare", "give two pictures, or a picture and words"
        )
    sources = [Path(item) if not text and isfile(item) else item for item in items]
    from fromnoise.checkpoints.hub import load_parts
    from fromnoise.pipeline.seeing.clip import ClipEmbedder

    cosines = ClipEmbedder(load_parts(model)).cosines(sources, sources).tolist()
    if json:
        from fromnoise.cli.json_output import print_json

        kinds = ["picture" if isinstance(item, Path) else "words" for item in sources]
        return print_json({"items": items, "kinds": kinds, "cosines": cosines})
    from fromnoise.cli.terminal import print_line

    if len(items) == 2:
        return print_line(f"{cosines[0][1]:.3f}")
    for cosine, item in zip(cosines[0][1:], items[1:], strict=True):
        print_line(f"{cosine:+.3f}  {item}")
