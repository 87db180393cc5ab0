"""The gate for picture files: hostile ones are errors at once, odd ones are read."""

import io
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import hostile_pictures
import numpy as np
import pytest
from hostile_pictures import chunk, noisy, png, save
from PIL import Image, ImageOps

from fromnoise.errors import BadInput, NotFound
from fromnoise.pipeline import decoding, pictures
from fromnoise.pipeline.decoding import open_picture

REFUSED, ACCEPTED = hostile_pictures.refused(), hostile_pictures.accepted()


@pytest.fixture
def strict(recwarn, monkeypatch):
    """No picture makes Pillow warn, and none starts another program, as Ghostscript."""

    def refuse(*values, **options):
        raise AssertionError(f"a program was started: {values}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    yield
    assert not recwarn.list


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("name", REFUSED)
def test_hostile_files_are_refused(tmp_path, name):
    """Each in at most 1 s of processor time (the slowest takes 0.5 s), with the file's name and a
    remedy in the message, whatever reads it."""
    path = tmp_path / "good.png"
    path.write_bytes(REFUSED[name])
    start = time.process_time()
    with pytest.raises(BadInput, match=r"good\.png") as error:
        open_picture(path)
    assert time.process_time() - start < 1
    assert error.value.remedy
    assert len(str(error.value)) < 600
    with pytest.raises(BadInput):
        open_picture(io.BytesIO(REFUSED[name]))


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("name", ACCEPTED)
def test_odd_parts_do_not_refuse_good_pixels(tmp_path, name):
    path = tmp_path / "odd.png"
    path.write_bytes(ACCEPTED[name])
    start, notes = time.process_time(), {}
    picture = pictures.read_picture(path, notes)
    assert time.process_time() - start < 1
    assert picture.mode in ("RGB", "RGBA")
    assert picture.info == {}
    # what is lost is told
    assert ("EXIF" in " ".join(notes)) == (name.partition(": ")[2] in UNREADABLE)
    assert ("profile" in " ".join(notes)) == ("profile" in name)


UNREADABLE = (
    "EXIF empty",
    "EXIF of junk",
    "EXIF of text",
    "EXIF with a directory outside",
    "EXIF cut off",
    "300 times EXIF data",
)


def test_hostile_files_take_little_memory(tmp_path):
    """All of them, in one process: at most 200 MiB more than a good picture takes."""
    code = """
import io, resource
import hostile_pictures
from fromnoise.errors import FromnoiseError
from fromnoise.pipeline import pictures
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
files = hostile_pictures.refused() | hostile_pictures.accepted()
pictures.read_mask(io.BytesIO(hostile_pictures.save(hostile_pictures.noisy(), "PNG")))
before = peak()
for data in files.values():
    try:
        pictures.read_picture(io.BytesIO(data))
    except FromnoiseError:
        pass
print(peak() - before)
"""
    path = os.pathsep.join([str(Path(hostile_pictures.__file__).parent), *sys.path])
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    kilobytes = int(run.stdout) if sys.platform != "darwin" else int(run.stdout) // 1024
    assert kilobytes <= 200 * 1024


def test_what_is_no_file_is_refused_before_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")  # opening one to read waits for a writer
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("/dev/zero")
    (tmp_path / "circle.png").symlink_to("circle.png")
    for path, words in (
        (tmp_path / "pipe.png", "no regular file"),
        (tmp_path / "folder.png", "folder"),
        (tmp_path / "link.png", "no regular file"),
        (Path("/dev/zero"), "no regular file"),
        (Path("/dev/null"), "no regular file"),
        (tmp_path / "circle.png", "cannot read"),
        (Path("a\0b.png"), "cannot read"),
        (tmp_path / ("a" * 300), "cannot read"),
    ):
        with pytest.raises(BadInput, match=words):
            open_picture(path)
    with pytest.raises(NotFound, match=r"none\.png"):
        open_picture(tmp_path / "none.png")


def test_large_files_are_refused_unread(tmp_path):
    """8 GB, of which the disk holds 4 KB."""
    path = tmp_path / "large.png"
    path.write_bytes(save(noisy(), "PNG"))
    os.truncate(path, 8 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput, match="8,589,934,592 bytes"):
        open_picture(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000


def test_other_values_are_no_pictures():
    for value in (None, 7, b"bytes", np.zeros((8, 8, 3), np.uint8), io.StringIO("text"), [1]):
        with pytest.raises(BadInput):
            open_picture(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
def test_pixels_are_those_that_pillow_decodes(kind):
    """Leaving parts of a file out changes no pixel; nor does any way to write it."""
    ways = {
        "PNG": [{}, {"compress_level": 0}, {"optimize": True}],
        "JPEG": [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}, {"comment": b"a"}],
        "TIFF": [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}],
        "WEBP": [{}, {"lossless": True}, {"save_all": True, "append_images": [noisy(33, 21)]}],
    }
    for options in ways.get(kind, [{}]):
        data = save(noisy(33, 21), kind, **options)
        expected = Image.open(io.BytesIO(data)).convert("RGB")
        assert pictures.read_rgb(io.BytesIO(data)).tobytes() == expected.tobytes()


def test_modes_of_png_and_interlacing():
    """Every depth and colour type, the interlaced ones too, as Pillow alone decodes them."""
    for depth, colour in [(1, 0), (2, 0), (4, 0), (8, 0), (8, 2), (16, 2), (8, 4), (8, 6), (16, 6)]:
        for size in ((1, 1), (9, 5), (16, 3)):
            bits = depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour]
            chance = np.random.default_rng(depth * 10 + colour)
            for interlace in (0, 1):
                steps = decoding.ADAM7 if interlace else [(0, 0, 1, 1)]
                rows = b""
                for x, y, wide, high in steps:
                    w, h = -(-(size[0] - x) // wide), -(-(size[1] - y) // high)
                    if w > 0 and h > 0:
                        rows += b"".join(b"\0" + chance.bytes(-(-w * bits // 8)) for _ in range(h))
                data = png(*size, depth, colour, rows, interlace=interlace)
                expected = Image.open(io.BytesIO(data))
                assert open_picture(io.BytesIO(data)).tobytes() == expected.tobytes()
                short = png(*size, depth, colour, rows[:-1], interlace=interlace)
                with pytest.raises(BadInput, match="fewer pixels"):
                    open_picture(io.BytesIO(short))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_pictures_stand_upright(kind):
    """By EXIF's eight numbers, as Pillow's own exif_transpose; also by what ImageMagick and Adobe
    write into PNG files."""
    for way in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = way
        data = save(
            noisy(24, 16), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})
        )
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        assert pictures.read_rgb(io.BytesIO(data)).tobytes() == expected.convert("RGB").tobytes()
        picture = Image.open(io.BytesIO(data))
        assert pictures.read_rgb(picture).tobytes() == expected.convert("RGB").tobytes()
        if kind == "PNG":
            raw = exif.tobytes()
            text = b"\nexif\n%8d\n" % len(raw) + raw.hex().encode()
            xmp = b'<x tiff:Orientation="%d"/>' % way
            plain = save(noisy(24, 16), "PNG")
            for extra in (
                chunk(b"tEXt", b"Raw profile type exif\0" + text),
                chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
            ):
                other = io.BytesIO(plain[:33] + extra + plain[33:])
                assert pictures.read_rgb(other).tobytes() == expected.convert("RGB").tobytes()


def test_the_clock_ends_what_takes_too_long(monkeypatch):
    """A grey map of 99 levels is decoded pixel by pixel, in Python."""
    monkeypatch.setattr(decoding, "SECONDS", 0.05)
    data = b"P5\n3000 1000\n99\n" + b"\x20" * 3_000_000
    with pytest.raises(BadInput, match="too long"):
        open_picture(io.BytesIO(data))
