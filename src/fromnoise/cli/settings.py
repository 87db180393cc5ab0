"""`fromnoise settings`: what a picture, or the text in it, says of how it was drawn."""

from typing import Annotated

import typer

from fromnoise.cli.json_output import print_json
from fromnoise.cli.texts import read_text_file
from fromnoise.pipeline.provenance import fields as infotext_fields
from fromnoise.pipeline.provenance.read import parse_settings, read_settings

LIMIT = 16 << 20  # bytes of a text


def settings(
    file: Annotated[
        str,
        typer.Argument(
            help="A PNG, JPEG or WebP picture, a GIF or MP4; - for such a text on standard input."
        ),
    ],
) -> None:
    """Print the settings of a picture as the JSON of a request; "unused" says what could not be
    used, and why. Reads fromnoise, A1111 and its kin, ComfyUI, SwarmUI, InvokeAI,
    stable-diffusion.cpp, NovelAI, Fooocus, Draw Things and Easy Diffusion."""
    info = parse_settings(read_text_file("-", LIMIT)) if file == "-" else read_settings(file)
    request, unused = infotext_fields.to_request(info)
    print_json(request | {"unused": unused}, indent=2)
