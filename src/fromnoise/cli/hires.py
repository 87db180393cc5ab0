"""`fromnoise hires`: words → PNG files, drawn in two passes, the second one larger."""

from functools import partial
from typing import Annotated

import typer

from fromnoise.cli.options import add_options
from fromnoise.cli.run import Run
from fromnoise.pipeline.enlarging.request import HiresRequest


@partial(add_options, schema=HiresRequest)
def hires(
    prompt: Annotated[str, typer.Argument(help='What to draw, as in "a neon cat in space".')],
    *,
    request: HiresRequest,
    run: Run,
) -> None:
    """Draw pictures small, enlarge them and draw over them (A1111's "hires fix")."""
    from fromnoise.pipeline.enlarging.upscale import find_upscaler

    file = request.hires_upscaler
    named = file is None or find_upscaler(file)  # before the model is read
    parts, unet, guide = run.load()
    from fromnoise.checkpoints.formats.upscaler import load
    from fromnoise.pipeline.enlarging.hires import hires as draw

    network = None if named or file is None else load(file)
    request = request.model_copy(update={"seed": request.resolve(parts).seed})
    with run.show_progress() as watch:
        drawn = draw(parts, unet, request, network, watch, guide)
    run.save_pictures(drawn, request)
