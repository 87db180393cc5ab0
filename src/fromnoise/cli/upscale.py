"""`fromnoise upscale`: a finished picture → a larger one, by a formula or by a network, with its
settings kept."""

from pathlib import Path
from typing import Annotated

import typer

from fromnoise.cli.terminal import print_line, print_note
from fromnoise.errors import BadInput
from fromnoise.pipeline.provenance.read import read_text
from fromnoise.pipeline.saving import save_picture
from fromnoise.rare_files import check_writable


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
        str | None,
        typer.Option(
            metavar="<path>",
            help="A .png, .jpg or .webp; or a folder. Beside the picture if left out.",
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="Of a file without a name: png (if left out), jpeg or webp.")
    ] = None,
    quality: Annotated[
        str | None, typer.Option(help="Of JPEG and WebP: 1 to 100, or lossless for WebP.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Enlarge a picture. Its settings stay in the file, and those of this step are added."""
    from fromnoise.cli.output_files import cut_name, split_out
    from fromnoise.cli.values import parse_size
    from fromnoise.pipeline import pictures
    from fromnoise.pipeline.enlarging import upscale as upscaling
    from fromnoise.pipeline.provenance.exif import choose_format

    if scale is not None and size is not None:
        raise BadInput("a scale and a size are given", "leave one of them out")
    file, folder = split_out(out)
    suffix, level, _ = choose_format(file, format, quality)
    method, before = upscaling.find_upscaler(upscaler), pictures.read_rgb(image)
    pixels, factor = parse_size(size), None if size else 2.0 if scale is None else scale
    target = (
        (pixels["width"], pixels["height"])
        if factor is None
        else upscaling.scale_size(before.size, factor)
    )
    end = f"-{target[0]}x{target[1]}{suffix}"
    path = file or (folder if out else image.parent) / f"{cut_name(image.stem, end)}{end}"
    check_writable(path)
    if method is None:
        from fromnoise.checkpoints.formats.upscaler import load
        from fromnoise.runtime.devices import find_device

        where, method = find_device(device), load(upscaler)
        method.network.to(where)
    after = upscaling.upscale_picture(before, target, method)
    if read_text(image) is None:
        print_note("the picture says nothing of how it was drawn, in A1111's words")
    after.info["parameters"] = upscaling.describe_upscaling(image, factor, after.size, method)
    path = save_picture(after, path, level, overwrite=file is not None, suffix=suffix)
    if json:
        from fromnoise.cli.json_output import print_json

        return print_json({"path": str(path), "width": after.width, "height": after.height})
    print_line(path)
