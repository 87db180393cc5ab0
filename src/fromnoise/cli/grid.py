"""`fromnoise grid`: one prompt drawn over axes of settings, on one sheet with labels."""

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from fromnoise.cli.options import add_options
from fromnoise.cli.output_files import find_drawn
from fromnoise.cli.run import Run, name_picture
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.sequences.axes import (
    Axis,
    apply_axes,
    check_axes,
    describe_axes,
    parse_axis,
)
from fromnoise.rare_files import check_writable


@add_options
def grid(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    x: Annotated[
        str | None, typer.Option("--x", help='Columns: "steps=4,8,20", "cfg=1-7 (+2)", "seed=1-4".')
    ] = None,
    y: Annotated[
        str | None, typer.Option("--y", help='Rows, as "prompt:cat=dog,fox": words replaced.')
    ] = None,
    z: Annotated[str | None, typer.Option("--z", help="Sheets, one below the other.")] = None,
    cells: Annotated[
        Path | None, typer.Option(help="A folder for every picture by itself.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="The most pictures that a grid may have.")
    ] = 400,
    *,
    request: GenerationRequest,
    run: Run,
) -> None:
    """Draw a prompt over one to three axes of settings, on one sheet. Values are written as in
    A1111's X/Y/Z plot."""
    axes = {
        name: parse_axis(text, request)
        for name, text in (("x", x), ("y", y), ("z", z))
        if text is not None
    }
    shape = check_axes(axes, request, limit)
    if cells is not None:
        check_writable(cells / "cell.png", "choose another folder with --cells")

    from fromnoise.pipeline.preflight import check_drawable, check_each
    from fromnoise.pipeline.sequences.grid import lay_out_sheet, list_places

    random = {
        name: secrets.randbelow(2**32)
        for name in ("seed", "variation_seed")
        if getattr(request, name) is None
    }
    base, places = request.model_copy(update=random).model_dump(), list_places(shape)

    def choose_values(place: tuple[int, int, int]) -> list[tuple[Axis, Any]]:
        indices = zip("xyz", place, strict=True)
        return [(axes[name], axes[name].values[i]) for name, i in indices if name in axes]

    def build_request(place: tuple[int, int, int]) -> GenerationRequest:
        one = GenerationRequest.of(**apply_axes(base, choose_values(place)))
        if run.check:
            run.check(one)
        return one

    names = [
        ", ".join(axis.label(value) for axis, value in choose_values(place)) for place in places
    ]
    requests = check_each(zip(names, places, strict=True), build_request)
    parts, unet, guide = run.load(encoder=False)
    from fromnoise.pipeline.generate import generate as draw
    from fromnoise.pipeline.pictures import read_rgb
    from fromnoise.pipeline.provenance.write import write_infotext
    from fromnoise.pipeline.saving import save_picture

    requests = check_each(
        zip(names, requests, strict=True), lambda one: check_drawable(parts, unet, one, guide)
    )
    box = max(one.width or 0 for one in requests), max(one.height or 0 for one in requests)
    labels = [
        [axes[name].label(value) for value in axes[name].values] if name in axes else [""]
        for name in "xyz"
    ]
    sheet = lay_out_sheet(box, labels[0], labels[1], labels[2], run.suffix)
    paths: list[Path | None] = []
    pictures = []
    for place, one in zip(places, requests, strict=True):
        path = cells and choose_cell_path(cells, place, shape, one, run.suffix)
        drawn = path and find_drawn(path, write_infotext(parts, one, 0, unet.plan, None, guide))
        if drawn and run.suffix == ".png":  # other formats do not keep every pixel
            pictures.append(read_rgb(drawn))
        else:
            with run.show_progress() as watch:
                pictures += draw(parts, unet, one, watch=watch, guide=guide)
            if path and not drawn:
                drawn = save_picture(pictures[-1], path, run.quality_level, overwrite=False)
        paths.append(drawn)
    whole = requests[0].model_copy(
        update={"prompt": request.prompt, "negative_prompt": request.negative_prompt}
    )
    more = describe_axes(axes)
    picture = sheet.draw(pictures)
    picture.info["parameters"] = write_infotext(parts, whole, 0, unet.plan, more, guide)
    run.facts["axes"] = {
        name: {"field": axis.name, "values": [*axis.values]} for name, axis in axes.items()
    }
    run.facts["cells"] = [
        {
            **{
                name: axes[name].values[i]
                for name, i in zip("xyz", place, strict=True)
                if name in axes
            },
            "seed": one.seed,
            "path": path and str(path),
        }
        for place, one, path in zip(places, requests, paths, strict=True)
    ]
    name = Path(name_picture(whole, 0, run.suffix))
    places_of_sheet = None if run.file else [run.folder / f"{name.stem}-grid{name.suffix}"]
    run.save_pictures([picture], whole, places_of_sheet)


def choose_cell_path(
    folder: Path,
    place: tuple[int, int, int],
    shape: list[int],
    request: GenerationRequest,
    suffix: str,
) -> Path:
    """The file of a cell: its place from 1, as in x2-y1, then words and seed."""
    spots = [
        f"{name}{i + 1:0{len(str(n))}}"
        for name, i, n in zip("xyz", place, shape, strict=True)
        if n > 1
    ]
    return folder / "-".join([*spots, name_picture(request, 0, suffix)])
