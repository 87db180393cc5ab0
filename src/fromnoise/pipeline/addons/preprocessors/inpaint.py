"""A picture with a hole, which is −1: what control_v11p_sd15_inpaint has learnt. The hole is where
the picture is transparent, or where an edit's mask is white."""

import numpy as np

from fromnoise.errors import BadInput
from fromnoise.pipeline.addons.preprocessors.plain import Resize
from fromnoise.pipeline.decoding import Source
from fromnoise.pipeline.pictures import HALF, read_picture


def prepare(source: Source, resize: Resize, *_: float | None) -> np.ndarray:
    picture = read_picture(source)
    if picture.mode != "RGBA":
        raise BadInput(
            "the picture has no hole to fill: nothing of it is transparent",
            "give a picture with a transparent part, or edit one with a mask",
        )
    pixels = np.asarray(resize(picture.convert("RGB"))).astype(np.float32) / 255
    hole = np.asarray(resize(picture.getchannel("A"))) < HALF
    return np.where(hole[..., None], np.float32(-1), pixels)
