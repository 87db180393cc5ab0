"""A map of distances from a file, far is bright, turned so that near is bright."""

import numpy as np

from fromnoise.pipeline.addons.preprocessors.depth import read_depths
from fromnoise.pipeline.addons.preprocessors.plain import Resize
from fromnoise.pipeline.decoding import Source


def prepare(source: Source, resize: Resize, *_: float | None) -> np.ndarray:
    near = 1 - np.asarray(resize(read_depths(source)), np.float32) / 255
    return np.repeat(near[..., None], 3, 2)
