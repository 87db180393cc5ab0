"""What is made of a picture before a ControlNet sees it."""

import hashlib
from functools import partial

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fromnoise.errors import BadInput
from fromnoise.pipeline.addons.preprocessors import (
    PREPROCESSORS,
    canny,
    depth,
    depth_far,
    inpaint,
    invert,
    scribble,
    tile,
)
from fromnoise.pipeline.resizing import resize

FIT = partial(resize, size=(32, 24), how="stretch")


def make_pictures():
    """Pictures of noise, of soft noise and of steps."""
    random = np.random.default_rng(0)
    for height, width in ((37, 53), (1, 40), (1, 1)):
        yield random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    noise = Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    small = noise.filter(ImageFilter.BoxBlur(1)).resize((9, 7), Image.Resampling.NEAREST)
    yield np.asarray(noise.filter(ImageFilter.BoxBlur(1)))
    yield np.asarray(small.resize((90, 70), Image.Resampling.NEAREST))


# of what cv2.Canny (OpenCV 5.0.0) makes of these pictures and thresholds, packed into bits
GOLDEN = "fee17a34440d85387ac3"


def test_canny_is_opencvs():
    whole = hashlib.sha256()
    for pixels in make_pictures():
        for low, high in ((100, 200), (30, 60), (0, 0), (50.5, 120.7), (200, 200)):
            whole.update(np.packbits(canny.find_edges(pixels, low, high)).tobytes())
    assert whole.hexdigest()[:20] == GOLDEN


def test_a_planted_fault_of_canny_is_caught(monkeypatch):
    monkeypatch.setattr(canny, "TAN_22", 15000)
    with pytest.raises(AssertionError):
        test_canny_is_opencvs()


def test_depths_of_any_bits_span_black_to_white():
    ramp = np.arange(24 * 32).reshape(24, 32)
    for picture in (
        Image.fromarray((ramp // 4).astype(np.uint8)),
        Image.fromarray((ramp * 3 + 900).astype(np.uint16)),
        Image.fromarray((ramp / 7).astype(np.float32)),
    ):
        found = depth.prepare(picture, FIT)
        assert found.shape == (24, 32, 3)
        assert found.min() == 0
        assert found.max() == 1
        assert np.abs(found[..., 0] - ramp / ramp.max()).max() < 0.01
        assert np.allclose(depth_far.prepare(picture, FIT), 1 - found)
    with pytest.raises(BadInput, match="flat"):
        depth.prepare(Image.new("L", (32, 24), 5), FIT)


def test_lines_tiles_and_holes():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    assert np.allclose(invert.prepare(picture, FIT) * 255, 255 - pixels)
    lines = scribble.prepare(picture, FIT)
    assert ((lines == 1) == (pixels.min(2) < 127)[..., None]).all()
    assert np.allclose(tile.prepare(picture, FIT) * 255, pixels)
    assert tile.prepare(picture, FIT, 4.0).std() < 0.5 * tile.prepare(picture, FIT).std()
    with pytest.raises(BadInput, match="shrink"):
        tile.prepare(picture, FIT, 0.5)
    holed = picture.convert("RGBA")
    alpha = Image.new("L", (32, 24), 255)
    alpha.paste(0, (4, 4, 9, 9))
    holed.putalpha(alpha)
    found = inpaint.prepare(holed, FIT)
    assert (found[4:9, 4:9] == -1).all()
    assert np.allclose(found[12:] * 255, pixels[12:])
    with pytest.raises(BadInput, match="no hole"):
        inpaint.prepare(picture, FIT)
    assert {*PREPROCESSORS} >= {"none", "canny", "depth", "tile"}
