"""The picture as it is."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from fromnoise.pipeline.decoding import Source
from fromnoise.pipeline.pictures import read_rgb

Resize = Callable[[Image.Image], Image.Image]


def read_pixels(source: Source, resize: Resize) -> np.ndarray:
    """(H, W, 3) uint8 of the picture at its new size; what is transparent becomes white."""
    return np.asarray(resize(read_rgb(source)))


def prepare(source: Source, resize: Resize, *_: float | None) -> np.ndarray:
    return read_pixels(source, resize).astype(np.float32) / 255
