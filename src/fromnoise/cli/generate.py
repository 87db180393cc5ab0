"""`fromnoise generate`: words → files, with a progress bar and a small live preview."""

from pathlib import Path
from typing import Annotated

import typer

from fromnoise.cli.options import add_options
from fromnoise.cli.run import Run
from fromnoise.pipeline.request import GenerationRequest


@add_options
def generate(
    prompt: Annotated[
        str | None, typer.Argument(help='What to draw, as in "a neon cat in space".')
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A file, a prompt or JSON a line; - for input.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="A folder for what happens inside: docs/inside.md.")
    ] = None,
    *,
    request: GenerationRequest,
    run: Run,
) -> None:
    """Draw pictures from words."""
    if prompts is not None or prompt is None:
        from fromnoise.cli.batch import draw_batch

        return draw_batch(prompt, prompts, request, run, trace)
    if trace is not None:
        from fromnoise.cli.trace import draw_with_trace

        return draw_with_trace(trace, request, run)
    parts, unet, guide = run.load(encoder=False)
    from fromnoise.pipeline.generate import generate as draw

    request = request.resolve(parts)
    with run.show_progress() as watch:
        pictures = draw(parts, unet, request, watch=watch, guide=guide)
    run.save_pictures(pictures, request)
