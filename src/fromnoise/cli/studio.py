"""`fromnoise studio`: the image server with its page, on this machine alone."""

from pathlib import Path
from typing import Annotated

import typer

from fromnoise.cli.serve import DATA


def studio(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8188,
    data: Annotated[Path, typer.Option(help="Folder for pictures and the queue.")] = Path(DATA),
    model: Annotated[
        str, typer.Option(help="What draws where a request names none.")
    ] = "fromnoise",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0 or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Precision: fp32, bf16 or fp16.")] = "fp32",
    model_memory: Annotated[float, typer.Option(min=0, help="GB of models kept loaded.")] = 8.0,
    slots: Annotated[int, typer.Option(min=1, max=64, help="Jobs drawn at once.")] = 4,
    log: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the browser, or only serve.")
    ] = True,
) -> None:
    """Open the studio: a page to create pictures, find them again, and look inside."""
    try:
        from fromnoise.serve import command
    except ImportError as error:
        from fromnoise.errors import NotFound

        raise NotFound(
            f"the studio needs packages that are not installed ({error.name})",
            "install them: pip install 'fromnoise[serve]'",
        ) from error
    settings = command.make_studio_settings(
        folder=data.expanduser(),
        port=port,
        model=model,
        device=device,
        dtype=dtype,
        model_bytes=int(model_memory * 1e9),
        slots=slots,
    )
    command.serve_studio(settings, lambda text: print(text, flush=True), log, browser)
