"""Outpainting: a picture on a larger canvas, and the mask of what is to be drawn there."""

import numpy as np
from PIL import Image

from fromnoise.errors import BadInput
from fromnoise.pipeline.decoding import PIXELS
from fromnoise.pipeline.editing.request import EditRequest


def extend(
    image: Image.Image, mask: Image.Image | None, request: EditRequest, multiple: int
) -> tuple[Image.Image, Image.Image]:
    """(the picture, "RGB" or "RGBA", with what the request adds at its sides, where the pixels at
    its edges are repeated; the mask, white at those sides; inside the old picture it is `mask`, or
    black).

    A side that grows becomes a multiple of `multiple`: it grows a little more, at the right or the
    bottom if it grows there at all. Raises BadInput for a canvas of too many pixels."""
    across = _round_up(image.width, request.extend_left, request.extend_right, multiple)
    down = _round_up(image.height, request.extend_top, request.extend_bottom, multiple)
    size = image.width + sum(across), image.height + sum(down)
    if size[0] * size[1] > PIXELS:
        raise BadInput(
            f"a canvas of {size[0]}x{size[1]} is too large",
            f"extend it to at most {PIXELS:,} pixels",
        )
    canvas = Image.fromarray(np.pad(np.asarray(image), (down, across, (0, 0)), "edge"))
    painted = Image.new("L", size, 255)
    painted.paste(mask or 0, (across[0], down[0], across[0] + image.width, down[0] + image.height))
    return canvas, painted


def _round_up(side: int, before: int, after: int, multiple: int) -> tuple[int, int]:
    """(pixels to add before a side, pixels to add after it)."""
    if not before + after:
        return 0, 0
    more = -(side + before + after) % multiple
    return (before, after + more) if after else (before + more, 0)
