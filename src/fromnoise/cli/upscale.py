"""`fromnoise upscale`: a finished picture → a larger one, by a formula or by a network, with its
settings kept."""

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from fromnoise.errors import BadInput
from fromnoise.pipeline.provenance.read import read_text
from fromnoise.pipeline.saving import save_picture


def upscale(
    image: Annotated[Path, typer.Argument(help="The picture to enlarge.")],
    upscaler: Annotated[
        str,
        typer.Option(
            help="nearest, bilinear, bicubic, lanczos, or an ESRGAN network's .safetensors file."
        ),
    ] = "lanczos",
    scale: Annotated[
        float | None, typer.Option(help="How many times larger; 2 if no size is given.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Pixels: 512, or 768x512 (width x height).")
    ] = None,
    device: Annotated[str, typer.Option(help="For a network: cpu, cuda, cuda:0 or mps.")] = "cpu",
    out: Annotated[
        Path | None, typer.Option(help="A .png, .jpg or .webp; its name and size if left out.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Enlarge a picture. What it says of how it was drawn stays in the file, and what was done to
    it is added."""
    from fromnoise.cli.values import parse_size
    from fromnoise.pipeline import pictures
    from fromnoise.pipeline.enlarging import upscale as upscaling
    from fromnoise.pipeline.provenance.exif import choose_save_options

    if scale is not None and size is not None:
        raise BadInput("a scale and a size are given", "leave one of them out")
    if out is not None:
        choose_save_options(out.suffix, None)  # raises for what cannot be written
    method, before = upscaling.find_upscaler(upscaler), pictures.read_rgb(image)
    if method is None:
        from fromnoise.checkpoints.formats.upscaler import load
        from fromnoise.runtime.devices import find_device

        where, method = find_device(device), load(upscaler)
        method.network.to(where)
    given, factor = parse_size(size), None if size else 2.0 if scale is None else scale
    target = (
        (given["width"], given["height"])
        if factor is None
        else upscaling.scale_size(before.size, factor)
    )
    after = upscaling.upscale_picture(before, target, method)
    if read_text(image) is None:
        print(
            "note: the picture says nothing, in A1111's words, of how it was drawn", file=sys.stderr
        )
    after.info["parameters"] = upscaling.describe_upscaling(image, factor, after.size, method)
    path = out or image.with_name(f"{image.stem}-{after.width}x{after.height}.png")
    save_picture(after, path)
    said = {"path": str(path), "width": after.width, "height": after.height}
    print(jsonlib.dumps(said, ensure_ascii=False) if json else path)
