"""A coarse copy of the picture, of which a ControlNet for tiles draws the details anew."""

import numpy as np
from PIL import Image

from fromnoise.errors import BadInput
from fromnoise.pipeline.addons.preprocessors.plain import Resize
from fromnoise.pipeline.decoding import Source
from fromnoise.pipeline.pictures import read_rgb


def prepare(
    source: Source, resize: Resize, low: float | None = None, high: float | None = None
) -> np.ndarray:
    """low: by how much the sides shrink before they grow back; 1 keeps the picture."""
    picture, rate = resize(read_rgb(source)), 1.0 if low is None else low
    if rate < 1:
        raise BadInput(f"a picture cannot shrink by {rate}", "give tile a number from 1 on")
    if rate > 1:
        small = [max(round(side / rate), 1) for side in picture.size]
        shrunk = picture.resize((small[0], small[1]), Image.Resampling.BOX)
        picture = shrunk.resize(picture.size, Image.Resampling.BICUBIC)
    return np.asarray(picture).astype(np.float32) / 255
