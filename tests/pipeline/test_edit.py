"""Redrawing pictures: image to image, masks, sizes, transparency, and files of any kind."""

import io
import random
import struct
import zlib
from contextlib import suppress

import fakes
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from fromnoise.api import Engine
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.errors import BadInput, FromnoiseError, NotFound
from fromnoise.pipeline import pictures
from fromnoise.pipeline.editing import seam
from fromnoise.pipeline.editing.edit import Canvas, composite, fill_mask, resize
from fromnoise.pipeline.editing.seam import match_seam, measure_freedom
from fromnoise.pipeline.replay import replay
from fromnoise.pipeline.saving import save_picture


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(fakes.model(tmp_path_factory.mktemp("words"), steps=5, cfg=2.0, sampler="euler"))


def noisy(width=32, height=32, seed=0) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    )


def box(width=32, height=32, inside=(8, 8, 24, 20)) -> Image.Image:
    mask = Image.new("L", (width, height))
    mask.paste(255, inside)
    return mask


@torch.inference_mode()
def latents_of(engine, image: Image.Image) -> torch.Tensor:
    return engine.model.vae.to_latents(
        torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    )


def test_strength_says_how_much_of_the_run_is_left(engine):
    seen = []
    engine.edit(noisy(), "a cat", seed=1, strength=0.5, watch=seen.append)
    # int(0.5·5) + 1 steps, as in A1111
    assert [(step.index, step.total) for step in seen] == [(0, 3), (1, 3), (2, 3)]
    near, far = (
        np.asarray(engine.edit(noisy(), "a cat", seed=1, strength=s), float) for s in (0.2, 0.9)
    )
    # what the autoencoder alone makes of it is what no strength can be nearer than
    alone = np.asarray(engine.pictures(latents_of(engine, noisy()))[0], float)
    assert np.abs(near - alone).mean() < np.abs(far - alone).mean()


def test_whole_strength_is_a_run_from_noise_on_the_picture(engine):
    one, other = (engine.edit(noisy(seed=s), "a cat", seed=1, strength=1.0) for s in (0, 1))
    assert one.tobytes() != other.tobytes()  # the picture is still below the noise, as in A1111
    assert (
        engine.edit(noisy(), "a dog", seed=1).tobytes()
        != engine.edit(noisy(), "a cat", seed=1).tobytes()
    )
    assert (
        engine.edit(noisy(), "a cat", seed=2).tobytes()
        != engine.edit(noisy(), "a cat", seed=1).tobytes()
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_outside_of_the_mask_no_byte_changes(engine, sampler):
    image, mask = noisy(40, 24), box(40, 24, (3, 5, 17, 20))
    drawn = engine.edit(image, "a cat", mask, seed=1, mask_blur=0, sampler=sampler, cfg=1.5)
    inside = np.asarray(mask) > 0
    assert (np.asarray(drawn)[~inside] == np.asarray(image)[~inside]).all()
    assert (np.asarray(drawn)[inside] != np.asarray(image)[inside]).any()


def test_outside_of_any_mask_no_byte_changes(engine):
    """100 masks by lot, of any shape, on pictures of any size."""
    chance = np.random.default_rng(0)
    for i in range(100):
        width, height = (int(v) for v in chance.integers(9, 70, 2))
        inside = chance.random((height, width)) < chance.uniform(0.002, 0.9)
        inside[chance.integers(height), chance.integers(width)] = True
        image, mask = noisy(width, height, i), Image.fromarray((inside * 255).astype(np.uint8))
        more = {
            "only_masked": bool(i % 3 == 0),
            "content": ("original", "fill", "noise")[i % 3],
            "padding": i % 7,
        }
        drawn = engine.edit(image, "a cat", mask, seed=i, steps=2, mask_blur=0, **more)
        assert drawn.size == image.size
        assert (np.asarray(drawn)[~inside] == np.asarray(image)[~inside]).all(), (
            i,
            width,
            height,
            more,
        )


def test_a_soft_edge_goes_from_one_to_the_other(engine):
    white, black = Image.new("RGB", (64, 64), "white"), Image.new("RGB", (64, 64), "black")
    mask = box(64, 64, (32, 0, 64, 64))
    row = np.asarray(composite(Canvas(white, (0, 0, 64, 64), white, mask, mask), black, 4.0))[
        32, :, 0
    ].astype(int)
    assert row[:32].tolist() == [255] * 32  # outside nothing changes, however soft it is
    assert row[54:].tolist() == [0] * 10
    assert (np.diff(row) <= 0).all()
    assert np.abs(np.diff(row)).max() < 60  # a hard edge is one step of 255


def test_colours_agree_along_an_edge():
    """A picture drawn in a lighter tone meets the one around it without a step, and is itself
    further in."""
    old = noisy(64, 64)
    lighter = Image.fromarray((np.asarray(old) // 2 + 60).astype(np.uint8))
    darker = Image.fromarray((np.asarray(old) // 2).astype(np.uint8))
    found = np.asarray(match_seam(lighter, darker, box(64, 64, (0, 0, 64, 40))), int) - np.asarray(
        darker, int
    )
    assert (found[40:] == 0).all()
    assert found[39].max() <= 12  # of 60: what a smooth way there takes in the first pixel
    assert (np.diff(found[::-1], axis=0) >= -1).all()  # rounded to whole levels
    assert found[:10].min() >= 59


def test_fine_lines_do_not_end_at_an_edge():
    lines = np.full((64, 64, 3), 100, np.uint8)
    lines[:, ::2] += 40
    flat = Image.new("RGB", (64, 64), (120, 120, 120))
    found = np.asarray(match_seam(flat, Image.fromarray(lines), box(64, 64, (0, 0, 64, 40))), int)
    # 20 levels over 8 pixels; where only means spread, all of them at once
    assert np.abs(np.diff(found[:41], axis=0)).max() <= 4
    assert (found[:20] == 120).all()


def test_how_free_latents_are():
    def free(mask):
        return measure_freedom(mask, 8)[0, 0].tolist()

    assert free(box(32, 16, (8, 0, 32, 8))) == [[0, 1, 1, 1], [0, 0, 0, 0]]
    assert free(box(32, 16, (12, 0, 32, 16))) == [[0, 0.5, 1, 1]] * 2
    # one pixel alone can change
    assert free(box(32, 16, (9, 3, 10, 4))) == [[0, 1, 0, 0], [0, 0, 0, 0]]


def test_masked_latents_are_the_pictures_own(engine):
    """Where nothing may change, every x0 is what the picture's latents are, from the first step
    on."""
    seen = []
    engine.edit(noisy(), "a cat", box(), seed=1, watch=seen.append)
    latents = latents_of(engine, noisy())
    outside = np.ones((8, 8), bool)
    outside[2:5, 2:6] = False  # of 4 pixels each: rows 8 to 20, columns 8 to 24
    for step in seen:
        same = torch.isclose(step.x0, latents, atol=1e-6).all(1)[0].numpy()
        assert same[outside].all()
        assert not same[~outside].any()


def test_times_in_the_prompt_are_shares_of_what_is_left(engine):
    def xs(prompt):
        seen = []
        engine.edit(noisy(), prompt, seed=1, strength=0.5, watch=seen.append)
        return [step.x for step in seen]

    cat, edited = xs("a cat"), xs("a [cat:dog:0.67]")  # three steps, of which the last is another
    assert [torch.equal(a, b) for a, b in zip(cat, edited, strict=True)] == [True, True, False]


def test_what_the_mask_starts_from(engine):
    def draw(**more):
        return engine.edit(noisy(), "a cat", box(), seed=1, mask_blur=0, **more).tobytes()

    assert len({draw(content=c) for c in ("original", "fill", "noise")}) == 3
    image = Image.new("RGB", (64, 64), (200, 40, 10))
    image.paste((0, 0, 255), (16, 16, 48, 48))
    inside = np.asarray(fill_mask(image, box(64, 64, (14, 14, 50, 50))), int)[20:44, 20:44]
    # the blue is gone, and the red around it has come in
    assert np.abs(inside - [200, 40, 10]).max() <= 1


def test_only_the_masks_surroundings_are_drawn(engine):
    image, mask = noisy(200, 120), box(200, 120, (150, 80, 166, 90))
    shapes = []
    hook = engine.model.unet.register_forward_pre_hook(
        lambda module, given: shapes.append(tuple(given[0].shape[2:]))
    )
    drawn = engine.edit(image, "a cat", mask, seed=1, only_masked=True, padding=4, mask_blur=0)
    hook.remove()
    assert set(shapes) == {(8, 8)}  # of the model's own 32 × 32 pixels
    assert drawn.size == (200, 120)
    assert drawn.crop((150, 80, 166, 90)).tobytes() != image.crop((150, 80, 166, 90)).tobytes()


@pytest.mark.parametrize("how", ["stretch", "crop", "fill"])
def test_other_shapes(how):
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (20, 0, 40, 20))
    for size in ((20, 40), (37, 11), (80, 40), (1, 5)):
        assert resize(image, size, how).size == size
    tall = np.asarray(resize(image, (20, 40), how))
    assert (tall[:, 0] == [255, 0, 0]).all()
    assert (tall[:, -1] == [0, 0, 255]).all()
    wide = Image.new("RGB", (40, 20), "red")
    wide.paste("blue", (0, 0, 2, 20))
    found = np.asarray(resize(wide, (20, 20), how))[10, :, 2]
    assert (found[0] > 100) == (how != "crop")  # crop loses the edges, the others do not


def test_the_picture_keeps_its_size_or_takes_the_one_asked_for(engine):
    assert engine.edit(noisy(50, 30), "a cat", seed=1).size == (50, 30)
    assert engine.edit(noisy(50, 30), "a cat", seed=1, width=64, height=32).size == (64, 32)
    assert len(engine.edit(noisy(), "a cat", seed=1, count=2)) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mask": box(16, 16)}, "16x16"),
        ({"mask": Image.new("L", (32, 32))}, "no white"),
        ({"only_masked": True}, "mask"),
        ({"strength": 0}, "strength"),
        ({"content": "magic"}, "content"),
    ],
)
def test_what_cannot_be_done_is_said(engine, settings, said):
    with pytest.raises(BadInput, match=said):
        engine.edit(noisy(), "a cat", seed=1, **settings)


def test_edits_are_replayed(engine, tmp_path):
    """By all samplers, with masks and without, at kept and at given sizes."""
    chance = random.Random(1)
    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    noisy(44, 36).save(image)
    box(44, 36).save(mask)
    for i, sampler in enumerate(SAMPLERS):
        more = (
            {"width": 48, "height": 32, "resize": chance.choice(["crop", "fill", "stretch"])}
            if i % 3 == 0
            else {}
        )
        with_mask = mask if i % 2 else None
        if with_mask:
            more |= {
                "mask_blur": chance.choice([0, 2.5]),
                "content": chance.choice(["original", "fill", "noise"]),
                "only_masked": i % 5 == 0,
                "padding": 5,
            }
        settings = {
            "seed": i,
            "sampler": sampler,
            "strength": chance.choice([0.4, 0.75, 1.0]),
            **more,
        }
        drawn = engine.edit(image, "a (cat:1.1)", with_mask, **settings)
        save_picture(drawn, tmp_path / "drawn.png")
        found = replay(tmp_path / "drawn.png", engine.model, engine.unet, image, with_mask)
        assert found.verdict == "identical", (sampler, more, found.difference, found.reasons)
        assert found.unused.keys() <= {"Model", "Model hash", "Plan", "Version", "Torch", "Threads"}
    for sources, said in (((None, None), "--image"), ((mask, mask), "is not the image")):
        with pytest.raises(BadInput, match=said):
            replay(tmp_path / "drawn.png", engine.model, engine.unet, *sources)


# ---- transparency


def sticker(width: int = 40, height: int = 32) -> Image.Image:
    """A disc on a transparent ground, whose pixels have colours all the same."""
    image = noisy(width, height).convert("RGBA")
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - height / 2, columns - width / 2)
    alpha = np.clip((14 - distance) * 60, 0, 255).astype(np.uint8)
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.mark.parametrize("blur", [0, 3])
@pytest.mark.parametrize("only", [False, True])
def test_alpha_outside_of_the_mask_stays(engine, blur, only):
    """Every byte, also the colours of what cannot be seen. What is drawn is opaque."""
    image, mask = sticker(), box(40, 32, (4, 10, 24, 30))
    drawn = engine.edit(image, "a cat", mask, seed=1, mask_blur=blur, only_masked=only, padding=3)
    assert drawn.mode == "RGBA"
    before, after = np.asarray(image), np.asarray(drawn)
    inside = np.asarray(mask) > 0
    assert (after[~inside] == before[~inside]).all()
    if not blur:
        assert (after[inside, 3] == 255).all()
    assert (after[inside, 3] >= before[inside, 3]).all()
    # over white it is the edit of the picture over white, to a rounding of each colour
    flat = engine.edit(
        pictures.flatten(image), "a cat", mask, seed=1, mask_blur=blur, only_masked=only, padding=3
    )
    difference = np.asarray(pictures.flatten(drawn), int) - np.asarray(flat, int)
    assert np.abs(difference).max() <= 2


def test_alpha_stays_in_extended_pictures(engine):
    image = sticker()
    drawn = engine.edit(image, "a cat", seed=1, extend_left=16)
    assert drawn.mode == "RGBA"
    assert drawn.crop((16, 0, 56, 32)).tobytes() == image.tobytes()


def test_without_a_mask_transparency_becomes_white(engine):
    steps = []
    drawn = engine.edit(sticker(), "a cat", seed=1, watch=steps.append)
    flat = engine.edit(pictures.read_rgb(sticker()), "a cat", seed=1)
    assert drawn.mode == "RGB"
    assert drawn.tobytes() == flat.tobytes()
    assert "become white" in " ".join(steps[0].notes)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_files_of_transparent_edits(engine, tmp_path, suffix):
    """PNG and lossless WebP keep every byte; JPEG has white for what is transparent."""
    image, mask = sticker(), box(40, 32, (4, 10, 24, 30))
    drawn = engine.edit(image, "a cat", mask, seed=1)
    path = save_picture(drawn, tmp_path / f"a{suffix}", "lossless" if suffix == ".webp" else None)
    with Image.open(path) as file:
        if suffix != ".jpg":
            assert file.convert("RGBA").tobytes() == drawn.tobytes()
        else:
            white = np.asarray(file.convert("RGB"))[:4, :4]
            assert white.min() > 240  # JPEG at quality 90 rings by some levels
    if suffix != ".jpg":
        image.save(tmp_path / "image.png")
        mask.save(tmp_path / "mask.png")
        again = replay(
            path, engine.model, engine.unet, tmp_path / "image.png", tmp_path / "mask.png"
        )
        assert again.verdict == "identical", again.reasons


def test_profiles_do_not_reach_what_is_written(engine, tmp_path):
    """Of a CMYK or a grey file, whose profile says nothing of RGB pixels; the pixels outside of
    the mask are those of the converted picture."""
    grey = Image.linear_gradient("L").resize((32, 32))
    curve = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for picture in (grey, noisy().convert("CMYK"), noisy()):
        path = tmp_path / "image.tif"
        picture.save(path, icc_profile=curve)
        drawn = engine.edit(path, "a cat", box(), seed=1)
        assert "icc_profile" not in drawn.info
        save_picture(drawn, tmp_path / "drawn.png")
        with Image.open(tmp_path / "drawn.png") as file:
            assert "icc_profile" not in file.info
            outside = np.asarray(box()) == 0
            expected = np.asarray(pictures.read_rgb(path))[outside]
            assert (np.asarray(file)[outside] == expected).all()


def test_masks_are_asked_about(engine):
    for mask, words in (
        (Image.new("L", (32, 32), 255), "white everywhere"),
        (sticker(32, 32), "opaque is drawn"),
    ):
        steps = []
        engine.edit(noisy(), "a cat", mask, seed=1, watch=steps.append)
        assert words in " ".join(steps[0].notes)


def test_large_masks_are_matched_in_tiles(monkeypatch):
    """Any tiling gives the same bits, also where a tile has no edge of the mask near it."""
    drawn, picture, mask = noisy(150, 90), noisy(150, 90, 1), box(150, 90, (5, 5, 146, 80))
    mask.paste(0, (40, 60, 44, 61))
    monkeypatch.setattr(seam, "ROUNDS", 8)  # so that a tile's surroundings are small as well
    whole = match_seam(drawn, picture, mask).tobytes()
    for tile in (13, 40):
        monkeypatch.setattr(seam, "TILE", tile)
        assert match_seam(drawn, picture, mask).tobytes() == whole


# ---- files that people bring


def png(width: int, height: int) -> bytes:
    """A PNG file that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def test_pictures_of_every_kind(tmp_path):
    plain = noisy()
    sixteen = Image.fromarray(np.asarray(plain.convert("L"), np.uint16) * 257)
    animated = tmp_path / "a.gif"
    plain.quantize().save(animated, save_all=True, append_images=[noisy(seed=1).quantize()])
    for picture in (
        plain.convert("CMYK"),
        plain.quantize(),
        plain.convert("1"),
        plain.convert("LA"),
        sixteen,
        animated,
        plain.convert("YCbCr"),
        Image.fromarray(np.asarray(plain.convert("L"), np.float32) / 255),
    ):
        found = pictures.read_rgb(picture)
        assert (found.mode, found.size) == ("RGB", (32, 32))
    assert (
        np.abs(
            np.asarray(pictures.read_rgb(sixteen), int)[..., 0]
            - np.asarray(plain.convert("L"), int)
        ).max()
        == 0
    )
    clear = plain.convert("RGBA")
    clear.putalpha(0)
    # transparent pixels are white, whatever colour they hold
    assert np.asarray(pictures.read_rgb(clear)).min() == 255
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    noisy(32, 16).save(turned, "PNG", exif=exif)
    assert pictures.read_rgb(turned).size == (16, 32)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        png(0, 5),
        png(30000, 30000),
        png(16, 16),
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a" + b"\xff" * 20,
        b"\xff\xd8\xff\xe0" + b"\0" * 50,
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
)
def test_files_that_are_no_picture_are_errors(engine, tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for use in (
        pictures.read_rgb,
        pictures.read_mask,
        lambda path: engine.edit(path, "a cat", seed=1),
    ):
        with pytest.raises(FromnoiseError, match=r"a\.png"):
            use(path)


def test_files_cut_off_anywhere_are_errors_or_pictures(tmp_path):
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        whole = io.BytesIO()
        noisy().save(whole, kind)
        data = whole.getvalue()
        for end in range(0, len(data), max(1, len(data) // 40)):
            with suppress(BadInput):
                assert pictures.read_rgb(io.BytesIO(data[:end])).size == (32, 32)


def test_a_file_that_is_not_there():
    with pytest.raises(NotFound, match=r"none\.png"):
        pictures.read_rgb("none.png")
