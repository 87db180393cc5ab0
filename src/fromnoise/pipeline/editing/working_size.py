"""At what size a large picture is edited: a phone's photo has 400 times the pixels that a model of
128 x 128 was trained on, and at such a size things repeat and a run takes hours."""

import math

from PIL import Image

from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.decoding import Notes
from fromnoise.pipeline.editing.request import EditRequest

FAR = 4  # times the pixels of the model's own size: a picture with more is far larger
CONTEXT = 4  # at least a quarter of the masked area's longer side is drawn along around it


def choose_working_size(
    model: LatentDiffusion,
    request: EditRequest,
    size: tuple[int, int],
    mask: Image.Image | None,
    notes: Notes,
) -> EditRequest:
    """The request, with settings for a picture of `size` that is far larger than the model's own.

    Without a mask, width and height become a size near the model's, in the picture's proportions:
    the result has that size. With a mask ("L", of `size`), only the masked area is drawn, with
    padding around it, at a size near the model's, and the rest keeps every pixel. Both are noted,
    and both are settings that the file records, so that a replay does the same.

    A request that gives a size, asks for only_masked or for tiling stays as it is, and so does
    every request for a picture of at most FAR times the model's own pixels.
    """
    far = size[0] * size[1] > FAR * model.size**2
    if not far or request.width or request.height or request.only_masked:
        return request
    own, asked = f"{model.size}x{model.size}", f"{size[0]}x{size[1]}"
    what, again = f"the picture has {asked} pixels, this model draws {own}", f"--size {asked}"
    if request.tiling != "none" and mask is not None:
        return request
    if mask is None:
        width, height = fit_size(model, *size)
        notes[
            f"{what}: it is redrawn at {width}x{height} ({again} keeps its size, "
            f"`fromnoise upscale` enlarges the result)"
        ] = None
        return request.model_copy(update={"width": width, "height": height})
    box = mask.getbbox()
    assert box is not None
    longer = max(box[2] - box[0], box[3] - box[1])
    padding = max(request.padding, longer // CONTEXT, math.ceil((model.size - longer) / 2))
    padding = min(padding, 4096)
    area = (max(box[0] - padding, 0), max(box[1] - padding, 0))
    area += (min(box[2] + padding, size[0]), min(box[3] + padding, size[1]))
    wide, high = area[2] - area[0], area[3] - area[1]
    width, height = fit_size(model, wide, high)
    notes[
        f"{what}: the masked area and what is around it, {wide}x{high} pixels, are drawn at "
        f"{width}x{height}, and the rest stays as it is ({again} draws all of it)"
    ] = None
    changes = {"only_masked": True, "padding": padding, "width": width, "height": height}
    return request.model_copy(update=changes)


def fit_size(model: LatentDiffusion, width: int, height: int) -> tuple[int, int]:
    """The (width, height) that the model can draw, of about its own area, in the proportions
    width / height: the best of those around, where a wrong proportion counts twice as much as a
    wrong area."""
    step, ratio = model.multiple, width / height
    middle = model.size / math.sqrt(ratio) / step

    def miss(sides: tuple[int, int]) -> float:
        area = sides[0] * sides[1] / model.size**2
        return 2 * abs(math.log(sides[0] / sides[1] / ratio)) + abs(math.log(area))

    heights = {max(round(middle) + i, 1) * step for i in (-2, -1, 0, 1, 2)}
    sizes = [(max(round(h * ratio / step), 1) * step, h) for h in sorted(heights)]
    return min(sizes, key=miss)
