"""Edits of pictures that are far larger than the model's own size: 32 x 32 for the tiny model."""

import math

import fakes
import numpy as np
import pytest
from PIL import Image

from fromnoise.api import Engine
from fromnoise.errors import BadInput
from fromnoise.pipeline.editing.working_size import fit_size
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.saving import save_picture


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(fakes.model(tmp_path_factory.mktemp("words"), steps=2, cfg=2.0, sampler="euler"))


def noisy(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), np.uint8)
    return Image.fromarray(pixels)


def box(width: int, height: int, *inside: int) -> Image.Image:
    mask = Image.new("L", (width, height))
    mask.paste(255, inside)
    return mask


def draw(engine, image, mask=None, **settings):
    """(the picture, the notes, the latent sizes that the network was shown)."""
    sizes, steps = set(), []
    hook = engine.model.unet.register_forward_pre_hook(
        lambda module, values: sizes.add(tuple(values[0].shape[2:]))
    )
    drawn = engine.edit(image, "a cat", mask, seed=1, watch=steps.append, **settings)
    hook.remove()
    return drawn, " ".join(steps[-1].notes), sizes


def test_a_photo_is_redrawn_near_the_models_size(engine):
    drawn, notes, sizes = draw(engine, noisy(750, 500))
    assert drawn.size == (48, 32)  # of multiples of 8 the nearest to 39 x 26 in proportions
    assert sizes == {(8, 12)}
    for words in ("750x500", "32x32", "48x32", "--size 750x500", "upscale"):
        assert words in notes


@pytest.mark.parametrize("size", [(64, 64), (128, 32), (32, 32), (50, 30)])
def test_pictures_up_to_four_times_the_models_pixels_keep_their_size(engine, size):
    drawn, notes, _ = draw(engine, noisy(*size))
    assert (drawn.size, notes) == (size, "")
    masked, notes, _ = draw(engine, noisy(*size), box(*size, 4, 4, 20, 20))
    assert (masked.size, notes) == (size, "")
    assert "Only masked" not in masked.info["parameters"]


def test_a_size_overrules(engine):
    drawn, notes, _ = draw(engine, noisy(96, 72), width=96, height=72)
    assert (drawn.size, notes) == ((96, 72), "")
    mask = box(96, 72, 10, 10, 30, 30)
    drawn, notes, sizes = draw(engine, noisy(96, 72), mask, width=96, height=72)
    assert (drawn.size, notes, sizes) == ((96, 72), "", {(18, 24)})


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize(
    "inside",
    [(150, 150, 160, 160), (0, 0, 3, 2), (10, 20, 290, 180), (0, 90, 300, 95), (0, 0, 300, 200)],
)
def test_a_masked_photo_keeps_its_size_and_its_bytes(engine, inside, mode):
    image, mask = noisy(300, 200, mode), box(300, 200, *inside)
    drawn, notes, sizes = draw(engine, image, mask)
    assert drawn.size == image.size
    assert drawn.mode == mode
    outside = np.asarray(mask) == 0
    assert (np.asarray(drawn)[outside] == np.asarray(image)[outside]).all()
    assert (np.asarray(drawn)[~outside] != np.asarray(image)[~outside]).any()
    # latents of 4 pixels: at most twice the model's own 64 of them
    assert all(h * w <= 128 for h, w in sizes)
    assert "300x200" in notes


def test_a_small_mask_is_drawn_as_fine_as_the_picture(engine):
    """The area around it is as large as what is drawn, so that nothing is enlarged."""
    drawn, notes, _ = draw(engine, noisy(300, 200), box(300, 200, 150, 100, 154, 104), padding=0)
    assert "32x32 pixels, are drawn at 32x32" in notes
    assert "Masked area padding: 14" in drawn.info["parameters"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_large_pictures_are_extended(engine, mode):
    image = noisy(200, 120, mode)
    drawn, notes, sizes = draw(engine, image, extend_right=40, extend_top=8)
    assert drawn.size == (240, 128)
    assert drawn.crop((0, 8, 200, 128)).tobytes() == image.tobytes()
    assert len(np.unique(np.asarray(drawn)[:, 200:])) > 9
    assert all(h * w <= 128 for h, w in sizes)
    assert "240x128" in notes


def test_such_edits_are_replayed(engine, tmp_path):
    """In all ways, to the bit, also where the file is read back from the disk."""
    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    for mode in ("RGB", "RGBA"):
        noisy(210, 140, mode).save(image)
        box(210, 140, 30, 50, 90, 77).save(mask)
        for settings, painted in (
            ({}, None),
            ({"resize": "fill"}, None),
            ({"resize": "stretch", "tiling": "both"}, None),
            ({}, mask),
            ({"content": "fill", "mask_blur": 0}, mask),
            ({"content": "noise", "padding": 90}, mask),
            ({"only_masked": True}, mask),
            ({"extend_left": 30}, None),
            ({"extend_left": 30, "extend_bottom": 9}, mask),
        ):
            drawn = engine.edit(image, "a (cat:1.1)", painted, seed=3, **settings)
            save_picture(drawn, tmp_path / "drawn.png")
            again = replay(tmp_path / "drawn.png", engine.model, engine.unet, image, painted)
            assert again.verdict == "identical", (mode, settings, again.reasons)


def test_a_mask_must_fit_a_large_picture_too(engine):
    with pytest.raises(BadInput, match="30x20"):
        engine.edit(noisy(300, 200), "a cat", box(30, 20, 1, 1, 9, 9), seed=1)


def test_tiling_of_a_part_is_refused_where_it_is_asked_for(engine):
    """A whole large picture is tiled near the model's size; one with a mask at its own size."""
    drawn, notes, _ = draw(engine, noisy(100, 100), tiling="both")
    assert drawn.size == (32, 32)
    assert "32x32" in notes
    drawn, notes, _ = draw(engine, noisy(72, 64), box(72, 64, 5, 5, 9, 9), tiling="both")
    assert (drawn.size, notes) == ((72, 64), "")


def test_sizes_fit_proportions_and_area(engine):
    for width, height in ((3000, 2000), (2000, 3000), (4032, 3024), (1920, 1080), (999, 998)):
        wide, high = fit_size(engine.model, width, height)
        assert wide % 8 == high % 8 == 0
        assert abs(math.log(wide / high * height / width)) < 0.12  # steps of 8 are coarse for 32
        assert 0.5 < wide * high / 32**2 < 2
    assert fit_size(engine.model, 65_535, 700)[1] == 8
    assert fit_size(engine.model, 700, 65_535)[0] == 8
