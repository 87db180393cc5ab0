"""A picture of another size and shape."""

import numpy as np
from PIL import Image


def resize(
    picture: Image.Image, size: tuple[int, int], how: str, method=Image.Resampling.LANCZOS
) -> Image.Image:
    """A picture at `size` (width, height): "stretch" changes its shape, "crop" takes the middle of
    what covers the size, "fill" keeps the whole picture and repeats the pixels at its edges."""
    if picture.size == size:
        return picture
    if how == "stretch":
        return picture.resize(size, method)
    ratios = [a / b for a, b in zip(size, picture.size, strict=True)]
    # the bound guards against a rounding that leaves a pixel free, or has one too many
    bound = max if how == "crop" else min
    scale = bound(ratios)
    width, height = (
        bound(round(side * scale), end) for side, end in zip(picture.size, size, strict=True)
    )
    scaled = picture.resize((max(width, 1), max(height, 1)), method)
    left, top = (size[0] - scaled.width) // 2, (size[1] - scaled.height) // 2
    if how == "crop":
        return scaled.crop((-left, -top, size[0] - left, size[1] - top))
    pixels = np.asarray(scaled)
    down = (top, size[1] - scaled.height - top)
    across = (left, size[0] - scaled.width - left)
    return Image.fromarray(np.pad(pixels, [down, across, (0, 0)][: pixels.ndim], "edge"))
