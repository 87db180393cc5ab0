"""`fromnoise blend`: two pictures, and perhaps words → PNG files of what they share."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fromnoise.cli.options import add_options
from fromnoise.cli.run import Run
from fromnoise.pipeline.seeing.request import BlendRequest


@partial(add_options, schema=BlendRequest)
def blend(
    first: Annotated[Path, typer.Argument(help="A picture.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
    prompt: Annotated[
        str, typer.Option(help="What to draw; what CLIP sees in both if left out.")
    ] = "",
    source: Annotated[
        str, typer.Option(help="The data source in whose words they are described.")
    ] = "stickers",
    *,
    request: BlendRequest,
    run: Run,
) -> None:
    """Draw what two pictures share."""
    from fromnoise.pipeline import pictures

    both = pictures.read_rgb(first), pictures.read_rgb(second)  # before the model is read
    parts, unet, guide = run.load(image_tower=True)
    from fromnoise.data.sources import open_source
    from fromnoise.pipeline.seeing.blend import blend as draw

    if request.seed is None:
        request = request.model_copy(update={"seed": request.resolve(parts).seed})
    with run.show_progress() as watch:
        drawn = draw(
            parts, unet, request, *both, () if request.prompt else open_source(source), watch, guide
        )
    run.save_pictures(drawn, request)
