"""`fromnoise grid`: one prompt drawn over axes of settings, on one sheet with labels."""

import csv
import io
import secrets
from pathlib import Path
from typing import Annotated

import typer

from fromnoise.cli.axes import Axis, parse_axis
from fromnoise.cli.options import add_options
from fromnoise.cli.outputs import choose_path, is_drawn
from fromnoise.cli.run import Run
from fromnoise.errors import BadInput
from fromnoise.pipeline.request import GenerationRequest


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
    """Draw a prompt over one to three axes of settings, on one sheet. Values as in A1111's X/Y/Z
    plot."""
    found = {
        name: parse_axis(text, request)
        for name, text in (("x", x), ("y", y), ("z", z))
        if text is not None
    }
    if not found:
        raise BadInput("a grid needs an axis", "say what varies: --x steps=4,8,20")
    if request.count != 1:
        raise BadInput(
            "a cell of a grid is one picture", "leave out --count, or vary the seed: --x seed=1-4"
        )
    names = [one.name for one in found.values()]
    if len(set(names)) < len(names):
        raise BadInput(
            f"two axes are {max(names, key=names.count)}",
            "leave one out: the second would undo the first",
        )
    shape = [len(found[name].values) if name in found else 1 for name in "xyz"]
    if (total := shape[0] * shape[1] * shape[2]) > limit:
        raise BadInput(
            f"the grid has {total:,} pictures, and {limit:,} are the most", f"say --limit {total}"
        )
    from PIL import Image

    from fromnoise.pipeline.preflight import check_drawable, check_each
    from fromnoise.pipeline.sequences.grid import lay_out_sheet, list_places

    lot = {
        name: secrets.randbelow(2**32)
        for name in ("seed", "variation_seed")
        if getattr(request, name) is None
    }
    base, at = request.model_copy(update=lot).model_dump(), list_places(shape)

    def chosen(place: tuple[int, int, int]) -> list[tuple[Axis, object]]:
        return [
            (found[name], found[name].values[i])
            for name, i in zip("xyz", place, strict=True)
            if name in found
        ]

    def asked(place: tuple[int, int, int]) -> GenerationRequest:
        fields = base
        for one, value in chosen(place):
            fields = one.apply(fields, value)
        made = GenerationRequest.of(**fields)
        if run.check:
            run.check(made)
        return made

    told = [", ".join(one.label(value) for one, value in chosen(place)) for place in at]
    requests = check_each(zip(told, at, strict=True), asked)
    parts, unet, guide = run.load(encoder=False)
    from fromnoise.pipeline.generate import generate as draw
    from fromnoise.pipeline.provenance.write import write_infotext
    from fromnoise.pipeline.saving import save_picture

    requests = check_each(
        zip(told, requests, strict=True), lambda one: check_drawable(parts, unet, one, guide)
    )
    box = max(one.width or 0 for one in requests), max(one.height or 0 for one in requests)
    labels = [
        [found[name].label(v) for v in found[name].values] if name in found else [""]
        for name in "xyz"
    ]
    sheet = lay_out_sheet(box, labels[0], labels[1], labels[2], run.suffix)
    paths = [
        None if cells is None else choose_cell_path(cells, place, shape, one, run.suffix)
        for place, one in zip(at, requests, strict=True)
    ]

    def there(item: tuple[Path | None, GenerationRequest]) -> bool:
        return item[0] is not None and is_drawn(
            item[0], write_infotext(parts, item[1], 0, unet.plan, None, guide)
        )

    already = check_each(zip(told, zip(paths, requests, strict=True), strict=True), there)
    pictures = []
    for path, one, done in zip(paths, requests, already, strict=True):
        if done and path is not None and path.suffix == ".png":
            with Image.open(path) as file:
                pictures.append(file.convert("RGB"))
            continue
        with run.show_progress() as watch:
            pictures += draw(parts, unet, one, watch=watch, guide=guide)
        if path is not None:
            save_picture(pictures[-1], path, run.level)
    whole = requests[0].model_copy(
        update={"prompt": request.prompt, "negative_prompt": request.negative_prompt}
    )
    more: dict[str, str | None] = {"Script": "X/Y/Z plot"}
    for name, one in found.items():
        more |= {
            f"{name.upper()} Type": one.name,
            f"{name.upper()} Values": format_values(one.values),
        }
    made = sheet.draw(pictures)
    made.info["parameters"] = write_infotext(parts, whole, 0, unet.plan, more, guide)
    if run.out is None or not run.out.suffix:
        alone = choose_path(run.out, whole, 0, run.suffix)
        run.out = alone.with_name(f"{alone.stem}-grid{alone.suffix}")
    run.facts["axes"] = {
        name: {"field": one.name, "values": [*one.values]} for name, one in found.items()
    }
    run.facts["cells"] = [
        {
            **{
                name: found[name].values[i]
                for name, i in zip("xyz", place, strict=True)
                if name in found
            },
            "seed": one.seed,
            "path": path and str(path),
        }
        for place, one, path in zip(at, requests, paths, strict=True)
    ]
    run.save_pictures([made], whole)


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
    path = choose_path(folder, request, 0, suffix)
    return path.with_name("-".join([*spots, path.name]))


def format_values(values: tuple[object, ...]) -> str:
    """Values as an axis is written: with commas between, in quotes where they have some
    themselves."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()
