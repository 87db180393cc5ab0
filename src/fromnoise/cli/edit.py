"""`fromnoise edit`: a picture and words, and perhaps a mask → PNG files."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fromnoise.cli.options import add_options
from fromnoise.cli.run import Run
from fromnoise.pipeline.editing.request import EditRequest


@partial(add_options, schema=EditRequest)
def edit(
    image: Annotated[Path, typer.Argument(help="The picture to start from.")],
    prompt: Annotated[str, typer.Argument(help="What the picture shall show, the whole of it.")],
    mask: Annotated[
        Path | None, typer.Option(help="A picture of its size, white where to draw.")
    ] = None,
    *,
    request: EditRequest,
    run: Run,
) -> None:
    """Redraw a picture, or what a mask marks of it. It keeps its size if none is given."""
    from fromnoise.pipeline import pictures

    image_, mask_ = (
        pictures.read_rgb(image),
        None if mask is None else pictures.read_mask(mask),
    )  # before the model is read
    parts, unet, guide = run.load()
    from fromnoise.pipeline.editing.edit import edit as draw

    if request.seed is None:
        request = request.model_copy(update={"seed": request.resolve(parts).seed})
    with run.show_progress() as watch:
        drawn = draw(parts, unet, request, image_, mask_, watch, guide)
    run.save_pictures(drawn, request)
