"""A picture on a larger canvas: what is old stays, what is new is drawn."""

import random
from itertools import product

import fakes
import numpy as np
import pytest
from PIL import Image

from fromnoise.api import Engine
from fromnoise.errors import BadInput
from fromnoise.pipeline.editing.outpaint import extend
from fromnoise.pipeline.editing.request import EditRequest
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.saving import save_picture


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(fakes.model(tmp_path_factory.mktemp("words"), steps=4, cfg=2.0, sampler="euler"))


def noisy(width=32, height=32, seed=0) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    )


SIDES = ("left", "right", "top", "bottom")


def test_the_old_picture_keeps_its_bytes(engine):
    """At any blur, with sides that fit the model's multiple of 8 and with others, which grow until
    they do."""
    cases = [(16, 0, 0, 0), (0, 8, 0, 24), (3, 0, 5, 0), (9, 2, 1, 1), (0, 0, 0, 7)]
    for i, (left, right, top, bottom) in enumerate(cases):
        image = noisy(*((32, 32) if i < 2 else (37, 30)), seed=i)
        more = {
            f"extend_{side}": n for side, n in zip(SIDES, (left, right, top, bottom), strict=True)
        }
        drawn = engine.edit(image, "a cat", seed=i, mask_blur=4.0 * (i % 2), **more)
        for side, grown, old in zip(
            drawn.size, (left + right, top + bottom), image.size, strict=True
        ):
            assert old + grown <= side < old + grown + 8
            assert side % 8 == 0 or not grown
        # what is beyond the pixels asked for lies at the right or the bottom, unless nothing grows
        # there
        x = left if right else drawn.width - image.width - right
        y = top if bottom else drawn.height - image.height - bottom
        assert drawn.crop((x, y, x + image.width, y + image.height)).tobytes() == image.tobytes()
        # and something is drawn
        assert len({*np.asarray(drawn)[:, :x].reshape(-1, 3).sum(1).tolist()}) > 9 or not x


def test_where_is_drawn_and_what_it_starts_from():
    image, mask = noisy(16, 16), Image.new("L", (16, 16))
    mask.paste(255, (2, 3, 5, 7))
    request = EditRequest.of(extend_left=8, extend_bottom=10)
    whole, painted = extend(image, mask, request, 8)
    assert whole.size == painted.size == (24, 32)
    expected = np.full((32, 24), 255)
    expected[:16, 8:] = np.asarray(mask)  # the user's own mask joins in
    assert (np.asarray(painted) == expected).all()
    pixels = np.asarray(whole)
    assert (pixels[:16, 8:] == np.asarray(image)).all()
    assert (pixels[:16, :8] == np.asarray(image)[:, :1]).all()
    assert (pixels[16:, 8:] == np.asarray(image)[-1:]).all()
    assert np.asarray(extend(image, None, request, 8)[1])[:16, 8:].max() == 0


def test_content_mask_and_count_work_as_ever(engine):
    def draw(**more):
        return engine.edit(noisy(), "a cat", seed=1, extend_right=16, **more)

    assert len({draw(content=c).tobytes() for c in ("original", "fill", "noise")}) == 3
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 8, 32))
    both = draw(mask=mask)
    assert both.crop((8, 0, 32, 32)).tobytes() == noisy().crop((8, 0, 32, 32)).tobytes()
    assert both.crop((0, 0, 8, 32)).tobytes() != noisy().crop((0, 0, 8, 32)).tobytes()
    second = engine.edit(noisy(), "a cat", seed=2, extend_right=16)
    assert [p.tobytes() for p in draw(count=2)] == [draw().tobytes(), second.tobytes()]


def test_extensions_are_replayed(engine, tmp_path):
    chance = random.Random(2)
    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    noisy(44, 36).save(image)
    white = Image.new("L", (44, 36))
    white.paste(255, (4, 4, 20, 20))
    white.save(mask)
    for i, (masked, only, sized) in enumerate(product((False, True), repeat=3)):
        more = {f"extend_{side}": chance.choice([0, 5, 16]) for side in SIDES} | {
            "extend_top": 3 + i
        }
        more |= {
            "only_masked": only,
            "padding": 4,
            "content": chance.choice(["original", "fill", "noise"]),
        }
        more |= {"width": 32, "height": 40} if sized else {}
        drawn = engine.edit(image, "a (cat:1.1)", mask if masked else None, seed=i, **more)
        save_picture(drawn, tmp_path / "a.png")
        found = replay(
            tmp_path / "a.png", engine.model, engine.unet, image, mask if masked else None
        )
        assert found.verdict == "identical", (more, found.reasons)
        assert "Extend" not in found.unused


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"extend_left": -1}, "extend_left"),
        ({"extend_top": 5000}, "extend_top"),
        ({"extend_right": "wide"}, "extend_right"),
    ],
)
def test_what_cannot_be_done_is_said(engine, settings, said):
    with pytest.raises(BadInput, match=said):
        engine.edit(noisy(), "a cat", **settings)


def test_a_canvas_has_limits():
    request = EditRequest.of(
        extend_left=4096, extend_right=4096, extend_top=4096, extend_bottom=4096
    )
    with pytest.raises(BadInput, match="too large"):
        extend(noisy(), None, request, 8)
