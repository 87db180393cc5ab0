"""What pixels mean: profiles, transparency, depths and masks become 8 bits of sRGB."""

import io
import struct

import numpy as np
import pytest
from hostile_pictures import chunk, grey_tiff, noisy, png, save, short
from PIL import Image, ImageCms

from fromnoise.errors import BadInput
from fromnoise.pipeline import pictures
from fromnoise.pipeline.conditioning.regions import read_region_masks
from fromnoise.pipeline.pictures import read_mask, read_picture, read_rgb, read_soft_mask

# ---- colour profiles


def fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def profile(
    space: bytes = b"RGB ",
    gamma: float = 1.0,
    primaries: tuple[tuple[float, float, float], ...] = (
        (0.4361, 0.2225, 0.0139),
        (0.3851, 0.7169, 0.0971),
        (0.1431, 0.0606, 0.7142),
    ),
) -> bytes:
    """An ICC profile (version 2.4) of a tone curve and, for RGB, primaries: sRGB's in D50."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 79
    white = b"XYZ \0\0\0\0" + fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    tags = [(b"desc", name), (b"wtpt", white), (b"cprt", b"text\0\0\0\0free\0")]
    if space == b"RGB ":
        for letter, xyz in zip(b"rgb", primaries, strict=True):
            tags.append((bytes([letter]) + b"XYZ", b"XYZ \0\0\0\0" + b"".join(map(fixed, xyz))))
            tags.append((bytes([letter]) + b"TRC", curve))
    else:
        tags.append((b"kTRC", curve))
    table, body, place = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for key, content in tags:
        content += b"\0" * (-len(content) % 4)
        table += key + struct.pack(">II", place + len(body), len(content))
        body += content
    head = struct.pack(
        ">I4sI4s4s4s", place + len(body), b"lcms", 0x02400000, b"mntr", space, b"XYZ "
    )
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    return head.ljust(128, b"\0") + table + body


P3 = ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841))


def encode_srgb(light: float) -> int:
    """IEC 61966-2-1, in levels of 255."""
    value = 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    return round(255 * value)


def test_linear_light_becomes_srgb(tmp_path):
    """In every kind of file that holds a profile; the value is the standard's own formula."""
    for level in (0, 10, 55, 128, 200, 255):
        expected = encode_srgb(level / 255)
        for kind, options in (
            ("PNG", {}),
            ("TIFF", {}),
            ("WEBP", {"lossless": True}),
            ("JPEG", {"quality": 100, "subsampling": 0}),
        ):
            plain = Image.new("RGB", (16, 16), (level,) * 3)
            data = save(plain, kind, icc_profile=profile(), **options)
            pixels = np.asarray(read_picture(io.BytesIO(data)), int)
            assert np.abs(pixels - expected).max() <= 1  # levels are rounded once more
        grey = save(Image.new("L", (4, 4), level), "PNG", icc_profile=profile(b"GRAY"))
        assert np.abs(np.asarray(read_picture(io.BytesIO(grey)), int) - expected).max() <= 1


def test_wide_colours_become_srgb():
    """Display P3's (200, 100, 50) is (213, 95, 32) in sRGB: the matrices of both, by hand."""
    to_xyz = np.array(P3).T
    srgb = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7142]])
    light = np.linalg.inv(srgb) @ to_xyz @ (np.array([200, 100, 50]) / 255) ** 2.2
    expected = [encode_srgb(value) for value in light]
    data = save(
        Image.new("RGB", (4, 4), (200, 100, 50)),
        "PNG",
        icc_profile=profile(gamma=2.2, primaries=P3),
    )
    assert np.abs(np.asarray(read_picture(io.BytesIO(data)), int) - expected).max() <= 1
    assert expected[0] > 205
    assert expected[2] < 45


def test_alpha_and_palettes_keep_with_profiles():
    clear = noisy().convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize((32, 32)))
    expected = read_picture(io.BytesIO(save(noisy(), "PNG", icc_profile=profile())))
    found = read_picture(io.BytesIO(save(clear, "PNG", icc_profile=profile())))
    assert found.convert("RGB").tobytes() == expected.tobytes()
    assert found.getchannel("A").tobytes() == clear.getchannel("A").tobytes()
    colours = noisy().quantize(16)
    found = read_picture(io.BytesIO(save(colours, "PNG", icc_profile=profile())))
    expected = read_picture(io.BytesIO(save(colours.convert("RGB"), "PNG", icc_profile=profile())))
    assert found.tobytes() == expected.tobytes()


def test_srgb_under_any_name_changes_no_byte():
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (
        read_picture(io.BytesIO(save(noisy(), "PNG", icc_profile=own))).tobytes()
        == noisy().tobytes()
    )
    # and a profile that only calls itself so is no such thing
    other = profile().replace(b"test", b"sRGB")
    data = io.BytesIO(save(Image.new("RGB", (4, 4), (55,) * 3), "PNG", icc_profile=other))
    assert np.asarray(read_picture(data)).max() == encode_srgb(55 / 255)


def test_profiles_that_do_not_fit_are_noted_and_left_out():
    cases = [
        (noisy(), b"junk" * 40),
        (noisy(), profile(b"GRAY")),  # a grey profile for colours
        (noisy(), profile()[:300]),
        (noisy(), profile().replace(b"RGB ", b"CMYK")),
        (noisy(), profile().replace(b"RGB ", b"xxxx")),
        (noisy().convert("CMYK"), profile()),
    ]
    for picture, content in cases:
        kind = "TIFF" if picture.mode == "CMYK" else "PNG"
        notes: dict[str, None] = {}
        found = read_picture(io.BytesIO(save(picture, kind, icc_profile=content)), notes)
        assert found.tobytes() == picture.convert("RGB").tobytes()
        assert list(notes) == [pictures.BAD_PROFILE]
        assert found.info == {}


def test_a_grey_picture_may_have_a_colour_profile():
    data = save(Image.new("L", (4, 4), 55), "TIFF", icc_profile=profile())
    assert np.asarray(read_picture(io.BytesIO(data))).max() == encode_srgb(55 / 255)


def test_lab_colours():
    """L* = 54.3, a* = 80.8, b* = 69.9 is sRGB's red under D50, a profile's own white."""
    lab = Image.merge("LAB", [Image.new("L", (4, 4), v) for v in (138, 209, 198)])
    found = np.asarray(read_picture(lab), int)
    assert np.abs(found - [255, 0, 0]).max() <= 6  # levels of Lab are as coarse as 4 of red


def test_gamma_without_a_profile():
    """gAMA of 1 is linear light; 1/2.2 is what sRGB files say, and changes nothing."""
    data = b"\0" + bytes([55, 128, 200] * 4)
    plain, linear = (
        png(4, 4, data=data * 4, before=chunk(b"gAMA", value.to_bytes(4)))
        for value in (45_455, 100_000)
    )
    assert read_picture(io.BytesIO(plain)).getpixel((0, 0)) == (55, 128, 200)
    expected = [round(255 * (v / 255) ** (1 / 2.2)) for v in (55, 128, 200)]
    assert list(read_picture(io.BytesIO(linear)).getpixel((0, 0))) == expected
    both = png(4, 4, data=data * 4, before=chunk(b"sRGB", b"\0") + chunk(b"gAMA", b"\0\1\x86\xa0"))
    assert read_picture(io.BytesIO(both)).getpixel((0, 0)) == (55, 128, 200)


# ---- depths


def float_tiff(values: list[float]) -> io.BytesIO:
    return io.BytesIO(save(Image.fromarray(np.array([values], np.float32)), "TIFF"))


@pytest.mark.parametrize(
    ("values", "expected", "words"),
    [
        ([0, 0.5, 1], [0, 128, 255], ""),
        ([0, 0.5, float("nan")], [0, 128, 0], "1 pixels are no number"),
        ([float("nan")] * 3, [0, 0, 0], "3 pixels are no number"),
        ([0.25, 0.5, 4.0], [64, 128, 255], "1 pixels are brighter than 1"),
        ([2.0, 3.0, 4.0], [255, 255, 255], "3 pixels are brighter than 1"),
        ([0.1, 0.5, 1000], [26, 128, 255], "brighter"),
        ([-1, -0.001, 0.5], [0, 0, 128], ""),
        ([float("inf"), float("-inf"), 0.5], [255, 0, 128], "brighter"),
        ([0, 100, 255], [0, 100, 255], "255 is taken as white"),
        ([0, 32768, 65535], [0, 128, 255], "65,535 is taken as white"),
        ([1e38, 3e38, 2e38], [255, 255, 255], "65,535 is taken as white"),
        ([0, 0, 0], [0, 0, 0], ""),
    ],
)
def test_floats(values, expected, words):
    notes: dict[str, None] = {}
    found = read_picture(float_tiff(values), notes)
    assert np.asarray(found)[0, :, 0].tolist() == expected
    assert words in " ".join(notes)
    assert bool(notes) == bool(words)


def test_whole_numbers_of_16_and_32_bits():
    values = [0, 257, 32_896, 65_535]
    sixteen = Image.fromarray(np.array([values], np.uint16))
    for picture in (sixteen, io.BytesIO(save(sixteen, "PNG")), io.BytesIO(save(sixteen, "TIFF"))):
        assert np.asarray(read_picture(picture))[0, :, 0].tolist() == [0, 1, 128, 255]
    big = io.BytesIO(b"P5\n4 1\n65535\n" + np.array(values, ">u2").tobytes())
    assert np.asarray(read_picture(big))[0, :, 0].tolist() == [0, 1, 128, 255]
    long = Image.fromarray(np.array([[0, 2**30, 2**31 - 1, -5]], np.int32))
    assert np.asarray(read_picture(long))[0, :, 0].tolist() == [0, 128, 255, 0]
    notes: dict[str, None] = {}
    eight = noisy().convert("L")
    assert read_picture(eight.convert("I"), notes).tobytes() == eight.convert("RGB").tobytes()
    assert "255 is taken as white" in " ".join(notes)
    for order in ("I;16L", "I;16B"):
        raw = np.array(values, "<u2" if order == "I;16L" else ">u2").tobytes()
        picture = Image.frombytes(order, (4, 1), raw) if order == "I;16B" else sixteen
        assert np.asarray(read_picture(picture))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_large_depths_are_scaled_in_strips(monkeypatch):
    """49 million pixels are never floats at once; the strips give the bits of the whole."""
    values = np.random.default_rng(0).random((50, 40), np.float32)
    whole = read_picture(Image.fromarray(values)).tobytes()
    sizes = []
    monkeypatch.setattr(pictures, "STRIP", 130)
    scale = pictures._to_levels
    monkeypatch.setattr(
        pictures, "_to_levels", lambda v, top: sizes.append(v.size) or scale(v, top)
    )
    assert read_picture(Image.fromarray(values)).tobytes() == whole
    assert max(sizes) <= 130


# ---- transparency


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png(depth):
    """tRNS names a level before it is scaled to 8 bits."""
    top = 2**depth - 1
    levels = [0, top] if depth == 1 else [0, 1, top - 1, top]
    bits = "".join(f"{v:0{depth}b}" for v in levels)
    row = b"\0" + int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))
    for clear in levels:
        data = png(len(levels), 1, depth, 0, row, before=chunk(b"tRNS", struct.pack(">H", clear)))
        found = read_picture(io.BytesIO(data))
        alpha = np.asarray(found.getchannel("A"))[0]
        assert alpha.tolist() == [0 if level == clear else 255 for level in levels]
        assert np.asarray(found)[0, :, 0].tolist() == [round(level / top * 255) for level in levels]


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_colour_of_a_png(depth):
    size, colours = depth // 8, [(0, 0, 0), (10, 20, 30), (10, 20, 31)]
    scale = 257 if depth == 16 else 1
    row = b"\0" + b"".join((v * scale).to_bytes(size) for colour in colours for v in colour)
    clear = struct.pack(">3H", *(v * scale for v in colours[1]))
    found = read_picture(io.BytesIO(png(3, 1, depth, 2, row, before=chunk(b"tRNS", clear))))
    assert np.asarray(found)[0].tolist() == [[*c, 0 if c == colours[1] else 255] for c in colours]


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa", "P"])
def test_every_mode_with_alpha(mode):
    """Also those that only Python makes. Premultiplied colours are divided again."""
    alpha = Image.new("L", (8, 8), 255)
    alpha.paste(0, (0, 0, 4, 8))
    colour = (120, 120, 120)
    whole = Image.new("RGBA", (8, 8), colour)
    whole.putalpha(alpha)
    if mode == "PA":
        picture = Image.new("P", (8, 8)).convert("PA")
        picture.putpalette(list(colour) * 256)
        picture.putalpha(alpha)
    elif mode == "P":
        picture = whole.quantize()
    elif mode == "La":
        picture = whole.convert("LA").convert("La")
    else:
        picture = whole.convert(mode)
    found = read_picture(picture)
    assert found.mode == "RGBA"
    assert found.getchannel("A").tobytes() == alpha.tobytes()
    assert found.getpixel((6, 2)) == (*colour, 255)
    assert read_rgb(picture).getpixel((1, 1)) == (255, 255, 255)
    assert read_mask(picture).tobytes() == alpha.tobytes()
    opaque = Image.new("RGBA", (8, 8), colour).convert(mode if mode not in ("P", "PA") else "RGBA")
    assert read_picture(opaque).mode == "RGB"


def test_a_python_picture_is_not_changed():
    picture = noisy().convert("RGBA")
    picture.info = {"icc_profile": profile(), "transparency": 7, "parameters": "a cat"}
    before = picture.tobytes(), dict(picture.info)
    found = read_picture(picture)
    assert (picture.tobytes(), picture.info) == before
    assert found.info == {}
    plain = noisy()
    plain.info = {"icc_profile": profile(), "exif": b"junk", "transparency": b"odd"}
    before = plain.tobytes(), dict(plain.info)
    read_picture(plain)
    assert (plain.tobytes(), plain.info) == before


def test_a_python_picture_is_taken_at_its_frame():
    data = save(
        noisy().quantize(), "GIF", save_all=True, append_images=[noisy().rotate(90).quantize()]
    )
    picture = Image.open(io.BytesIO(data))
    picture.seek(1)
    expected = picture.convert("RGB").tobytes()
    assert read_rgb(picture).tobytes() == expected
    assert read_rgb(io.BytesIO(data)).tobytes() != expected


# ---- masks


def painted(paint, mode: str = "RGBA") -> Image.Image:
    """A transparent layer with a square of paint."""
    layer = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    layer.paste(paint, (8, 8, 20, 24))
    if mode == "La":  # Pillow makes it from grey alone
        layer = layer.convert("LA")
    return layer.convert(mode) if mode != "P" else layer.quantize()


SQUARE = Image.new("L", (32, 32))
SQUARE.paste(255, (8, 8, 20, 24))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "La", "RGBa"])
@pytest.mark.parametrize("paint", ["white", "black", "red", (0, 0, 255, 200), (90, 90, 90, 128)])
def test_paint_of_any_colour_on_a_transparent_layer(paint, mode):
    notes: dict[str, None] = {}
    mask = read_mask(painted(paint, mode), notes)
    assert mask.tobytes() == SQUARE.tobytes()
    assert "19% of it" in " ".join(notes)
    file = "WEBP" if mode in ("La", "RGBa") else "PNG"
    options = {"lossless": True, "exact": True} if file == "WEBP" else {}
    layer = painted(paint, mode if file == "PNG" else "RGBA")
    assert read_mask(io.BytesIO(save(layer, file, **options))).tobytes() == SQUARE.tobytes()


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I", "I;16", "F", "HSV"]
)
def test_white_on_black_is_the_mask(mode):
    if mode == "I;16":
        mask = Image.fromarray(np.asarray(SQUARE, np.uint16) * 257)
    elif mode == "F":
        mask = Image.fromarray(np.asarray(SQUARE, np.float32) / 255)
    else:
        mask = (
            SQUARE.convert("RGB").convert(mode) if mode in ("CMYK", "HSV") else SQUARE.convert(mode)
        )
    notes: dict[str, None] = {}
    assert read_mask(mask, notes).tobytes() == SQUARE.tobytes()
    assert not [note for note in notes if "mask" in note]
    assert read_mask(read_mask(mask)).tobytes() == SQUARE.tobytes()


def test_masks_of_nearly_opaque_layers_are_as_white_as_they_are_bright():
    mask = SQUARE.convert("RGB")
    mask.putalpha(
        Image.linear_gradient("L").resize((32, 32)).point([200 + v // 5 for v in range(256)])
    )
    assert read_mask(mask).tobytes() == SQUARE.tobytes()


def test_empty_and_full_masks():
    with pytest.raises(BadInput, match="transparent everywhere"):
        read_mask(Image.new("RGBA", (8, 8), (255, 255, 255, 0)))
    with pytest.raises(BadInput, match="no white"):
        read_mask(Image.new("RGBA", (8, 8), (255, 255, 255, 100)))  # nowhere half opaque
    with pytest.raises(BadInput, match="no white"):
        read_mask(Image.new("RGB", (8, 8)))
    for white in (Image.new("L", (8, 8), 255), Image.new("RGBA", (8, 8), "white")):
        notes: dict[str, None] = {}
        assert read_mask(white, notes).getextrema() == (255, 255)
        assert list(notes) == ["the mask is white everywhere: the whole picture is redrawn"]


def test_soft_masks_keep_their_greys():
    grey = Image.linear_gradient("L")
    assert read_soft_mask(grey).tobytes() == grey.tobytes()
    layer = Image.new("RGBA", grey.size, "blue")
    layer.putalpha(grey)
    assert read_soft_mask(layer).tobytes() == grey.tobytes()


def test_masks_by_name_are_read_alike(tmp_path):
    """IMASK(name): the weights are the alpha of a layer with paint of any colour."""
    layer = painted("red")
    layer.save(tmp_path / "mask.png")
    notes: dict[str, None] = {}
    [weights] = read_region_masks({"a": tmp_path / "mask.png"}, 8, 8, notes).values()
    assert weights[0, 0].tolist() == (np.asarray(SQUARE.reduce(4)) / 255).tolist()
    assert "opaque" in " ".join(notes)


def test_a_mask_with_a_profile_is_converted():
    """A level of 100 in linear light is brighter than half."""
    layer = Image.new("L", (4, 4), 100)
    layer.putpixel((0, 0), 0)
    with pytest.raises(BadInput):
        read_mask(io.BytesIO(save(layer, "PNG")))
    mask = read_mask(io.BytesIO(save(layer, "PNG", icc_profile=profile(b"GRAY"))))
    assert np.count_nonzero(np.asarray(mask)) == 15


def test_tiff_with_a_white_zero_and_an_extra_channel():
    """MinIsWhite is inverted; a channel of no meaning is no alpha."""
    inverted = grey_tiff(16, 16, (262, 3, 1, short(0)), data=b"\x10" * 256)
    assert read_picture(io.BytesIO(inverted)).getpixel((3, 3)) == (239, 239, 239)
