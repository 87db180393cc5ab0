"""`fromnoise similarity`: how alike CLIP finds pictures and words."""

import json as jsonlib
from os.path import isfile  # which knows of names that no file can have
from pathlib import Path
from typing import Annotated

import typer

from fromnoise.errors import BadInput


def similarity(
    items: Annotated[
        list[str], typer.Argument(help="Two or more: files are pictures, anything else is words.")
    ],
    text: Annotated[
        bool, typer.Option("--text", help="All are words, whatever files there are.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="A folder or a hub id; the bundled model if left out.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole matrix as JSON.")] = False,
) -> None:
    """How alike CLIP finds the first and each of the others: the cosine of their embeddings, 1 at
    most. Compare it with others of its kind only: two pictures come higher than a picture and the
    words for it."""
    if len(items) < 2:
        raise BadInput(
            "there is only one thing to compare", "give two pictures, or a picture and words"
        )
    seen = [Path(item) if not text and isfile(item) else item for item in items]
    from fromnoise.checkpoints.hub import load_parts
    from fromnoise.pipeline.seeing.clip import ClipEmbedder

    found = ClipEmbedder(load_parts(model)).cosines(seen, seen).tolist()
    if json:
        kinds = ["picture" if isinstance(item, Path) else "words" for item in seen]
        print(jsonlib.dumps({"items": items, "kinds": kinds, "cosines": found}, ensure_ascii=False))
    elif len(items) == 2:
        print(f"{found[0][1]:.3f}")
    else:
        print(
            *(
                f"{cosine:+.3f}  {item}"
                for cosine, item in zip(found[0][1:], items[1:], strict=True)
            ),
            sep="\n",
        )
