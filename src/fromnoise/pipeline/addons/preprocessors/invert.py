"""Dark lines on white become bright lines on black, which ControlNets for lines have learnt."""

import numpy as np

from fromnoise.pipeline.addons.preprocessors.plain import Resize, read_pixels
from fromnoise.pipeline.decoding import Source


def prepare(source: Source, resize: Resize, *_: float | None) -> np.ndarray:
    return (255 - read_pixels(source, resize)).astype(np.float32) / 255
