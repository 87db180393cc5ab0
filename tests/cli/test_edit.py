"""`fromnoise edit`: what it says of pictures and masks before and after it draws."""

import io

import numpy as np
import pytest
from hostile_pictures import noisy, png, save
from PIL import Image


@pytest.fixture
def draw(fromnoise, model, tmp_path):
    def edit(*args):
        return fromnoise("edit", *args, "--model", model, "--seed", 1, "--steps", 2)

    return edit


def write(path, picture, **options):
    picture.save(path, **options)
    return path


def test_notes_of_a_large_photo_and_its_mask(draw, tmp_path):
    photo = write(tmp_path / "photo.png", noisy(240, 160))
    layer = Image.new("RGBA", (240, 160))
    layer.paste("black", (60, 60, 90, 100))
    mask = write(tmp_path / "mask.png", layer)
    code, out, err = draw(photo, "a cat", "--mask", mask, "--out", tmp_path / "a.png")
    assert code == 0
    assert "note: the mask is read from its transparency: what is opaque is drawn, 3% of it" in err
    assert "note: the picture has 240x160 pixels" in err
    with Image.open(out.strip()) as file:
        same = np.asarray(file) == np.asarray(noisy(240, 160))
        assert file.size == (240, 160)
    assert same[np.asarray(layer)[..., 3] == 0].all()
    code, out, err = draw(photo, "a cat", "--out", tmp_path / "b.png")
    assert "48x32" in err
    code, out, err = draw(photo, "a cat", "--size", "240x160", "--out", tmp_path / "c.png")
    assert (code, err) == (0, "")
    with Image.open(tmp_path / "c.png") as file:
        assert file.size == (240, 160)


def test_a_jpeg_of_a_transparent_picture_is_noted(draw, tmp_path):
    clear = noisy().convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize((32, 32)))
    picture = write(tmp_path / "clear.png", clear)
    box = Image.new("L", (32, 32))
    box.paste(255, (4, 4, 20, 20))
    mask = write(tmp_path / "mask.png", box)
    for suffix, words in ((".jpg", "a JPEG file holds no transparency"), (".webp", "")):
        path = tmp_path / f"a{suffix}"
        code, _, err = draw(picture, "a cat", "--mask", mask, "--out", path)
        assert code == 0
        assert words in err
        assert bool(err) == bool(words)
        with Image.open(path) as file:
            assert file.mode == ("RGB" if suffix == ".jpg" else "RGBA")


def test_pictures_are_refused_before_the_model_is_read(fromnoise, tmp_path):
    """There is no such model, and the picture is what is told."""
    whole = save(noisy(), "PNG")
    good = write(tmp_path / "good.png", noisy())
    for content in (b"", whole[:-30], png(30_000, 30_000, data=b""), b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        bad = tmp_path / "bad.png"
        bad.write_bytes(content)
        for args in ((bad, "a cat"), (good, "a cat", "--mask", bad)):
            code, _, err = fromnoise("edit", *args, "--model", tmp_path / "none")
            assert code
            assert "bad.png" in err
            assert "Traceback" not in err


def test_broken_parts_of_a_good_picture_are_notes(draw, tmp_path):
    file = io.BytesIO()
    noisy().save(file, "PNG", exif=b"Exif\0\0junk", icc_profile=b"junk" * 40)
    (tmp_path / "a.png").write_bytes(file.getvalue())
    code, _, err = draw(tmp_path / "a.png", "a cat", "--out", tmp_path / "b.png")
    assert code == 0
    assert "note: the picture's EXIF data cannot be read: it is not turned" in err
    assert "note: the picture's colour profile cannot be read" in err
