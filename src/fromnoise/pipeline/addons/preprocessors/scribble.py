"""A drawing of dark lines becomes white lines on black, without shades between."""

import numpy as np

from fromnoise.pipeline.addons.preprocessors.plain import Resize, read_pixels
from fromnoise.pipeline.decoding import Source


def prepare(
    source: Source, resize: Resize, low: float | None = None, high: float | None = None
) -> np.ndarray:
    """low: the level of the darkest channel, 0 to 255, below which a pixel is a line."""
    lines = read_pixels(source, resize).min(2) < (127 if low is None else low)
    return np.repeat(lines[..., None], 3, 2).astype(np.float32)
