"""A map of depths from a file, near is bright, as MiDaS and the ControlNets for depth have it."""

import numpy as np
from PIL import Image

from fromnoise.errors import BadInput
from fromnoise.pipeline.addons.preprocessors.plain import Resize
from fromnoise.pipeline.decoding import Source, open_picture
from fromnoise.pipeline.pictures import read_rgb


def prepare(source: Source, resize: Resize, *_: float | None) -> np.ndarray:
    near = np.asarray(resize(read_depths(source)), np.float32) / 255
    return np.repeat(near[..., None], 3, 2)


def read_depths(source: Source) -> Image.Image:
    """A map of any depth of bits as "L": the smallest of its values is 0, the largest 255. What is
    no number is 0. Raises BadInput for a flat one."""
    picture = open_picture(source, {})
    if not picture.mode.startswith(("I", "F")):  # of more than 8 bits
        picture = read_rgb(source).convert("L")
    values = np.asarray(picture).astype(np.float64)
    known = np.isfinite(values)
    low, high = (float(f(values[known])) if known.any() else 0.0 for f in (np.min, np.max))
    if low == high:
        raise BadInput("the map of depths is flat", "give one with near and far places")
    levels = np.where(known, (values - low) / (high - low), 0) * 255
    return Image.fromarray(np.rint(levels).astype(np.uint8))
