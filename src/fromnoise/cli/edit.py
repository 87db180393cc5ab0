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
    """Redraw a picture, or the part of it that a mask marks. It keeps its size, unless it is far
    larger than the model's own."""
    from fromnoise.pipeline import pictures

    # both are read before the model, which takes longer
    picture = pictures.read_picture(image, run.notes)
    painted = None if mask is None else pictures.read_mask(mask, run.notes)
    if picture.mode == "RGBA" and run.suffix == ".jpg" and (painted or any(request.extends)):
        run.notes[
            "a JPEG file holds no transparency: it becomes white (.png and .webp keep it)"
        ] = None
    parts, unet, guide = run.load()
    from fromnoise.pipeline.editing.edit import edit as draw

    if request.seed is None:
        request = request.model_copy(update={"seed": request.resolve(parts).seed})
    with run.show_progress() as watch:
        drawn = draw(parts, unet, request, picture, painted, watch, guide)
    run.save_pictures(drawn, request)
