"""Picture files that are broken or that ask for too much, made by kind: name → bytes."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

LARGE = (7_000, 7_000)  # 49 million pixels: just allowed


def noisy(width: int = 32, height: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def save(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int = 16,
    height: int = 16,
    depth: int = 8,
    colour: int = 2,
    data: bytes | None = None,
    before: bytes = b"",
    after: bytes = b"",
    interlace: int = 0,
) -> bytes:
    """A PNG file with chunks of one's own before and after its pixels; data: what they are
    packed from."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    if data is None:
        bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
        data = (b"\0" + b"\x55" * (-(-width * bits // 8))) * height
    pixels = chunk(b"IDAT", zlib.compress(data, 9))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return start + before + pixels + after + chunk(b"IEND", b"")


def tiff(tags: list[tuple[int, int, int, bytes]], body: bytes = b"", count: int = -1) -> bytes:
    """A little-endian TIFF file: tags as (number, type, count, four bytes), the body at byte 8."""
    place = 8 + len(body)
    entries = b"".join(struct.pack("<HHI4s", *tag) for tag in tags)
    number = len(tags) if count < 0 else count
    return (
        b"II*\0" + struct.pack("<I", place) + body + struct.pack("<H", number) + entries + b"\0" * 4
    )


def short(value: int) -> bytes:
    return struct.pack("<HH", value, 0)


def long(value: int) -> bytes:
    return struct.pack("<I", value)


def grey_tiff(
    width: int, height: int, *more: tuple[int, int, int, bytes], data: bytes = b"\x80" * 256
) -> bytes:
    """A grey TIFF file with one strip, and tags of one's own."""
    tags = {
        256: (256, 4, 1, long(width)),
        257: (257, 4, 1, long(height)),
        258: (258, 3, 1, short(8)),
        259: (259, 3, 1, short(1)),
        262: (262, 3, 1, short(1)),
        273: (273, 4, 1, long(8)),
        277: (277, 3, 1, short(1)),
        278: (278, 4, 1, long(height)),
        279: (279, 4, 1, long(len(data))),
    }
    tags |= {tag[0]: tag for tag in more}
    return tiff([tags[key] for key in sorted(tags)], data)


def gif_blocks(length: int) -> bytes:
    return (b"\xff" + b"x" * 255) * (length // 255) + b"\0"


def gif(
    width: int = 4, height: int = 4, before: bytes = b"", data: bytes = b"\x02\x02\x4c\x01\0"
) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    image = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0)
    return head + before + image + data + b";"


def scans(jpeg: bytes, number: int) -> bytes:
    """A progressive JPEG file with its last scan repeated."""
    start = jpeg.rindex(b"\xff\xda")
    return jpeg[:start] + jpeg[start:-2] * number + b"\xff\xd9"


def resize_jpeg(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG file that claims another size."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        if (place := jpeg.find(marker)) > 0:
            return jpeg[: place + 5] + struct.pack(">HH", height, width) + jpeg[place + 9 :]
    raise AssertionError


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
        for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def bmp(width: int, height: int, bits: int = 24, compression: int = 0, data: bytes = b"") -> bytes:
    head = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 0, 0
    )
    palette = b"\0\0\0\0" * 256 if bits == 8 else b""
    offset = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + head + palette + data


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def refused() -> dict[str, bytes]:
    """Files that must be refused."""
    whole = save(noisy(), "PNG")
    idat = whole.index(b"IDAT")
    jpeg, progressive = save(noisy(), "JPEG"), save(noisy(), "JPEG", progressive=True)
    files = {
        "empty": b"",
        "one byte": b"\x89",
        "text": b"no picture at all",
        "html": b"<!DOCTYPE html><html></html>",
        "zeros": b"\0" * 10_000,
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        "eps with preview": b"\xc5\xd0\xd3\xc6"
        + struct.pack("<IIIIIIH", 32, 20, 0, 0, 0, 0, 0)
        + b"%!PS-Adobe-3.0\n",
        "pdf": b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 99,
        "avif": b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + b"\0" * 99,
        "icns": save(noisy(128, 128), "ICNS"),
        "ico": save(noisy(), "ICO"),
        "jpeg 2000": save(noisy(), "JPEG2000"),
        "pcx": save(noisy(), "PCX"),
        "tga": save(noisy(), "TGA"),
        "psd": b"8BPS\0\x01" + b"\0" * 6 + struct.pack(">HIIHH", 3, 32, 32, 8, 3) + b"\0" * 99,
        "zip": b"PK\x03\x04" + b"\0" * 99,
        "safetensors": struct.pack("<Q", 2) + b"{}",
        "png: signature alone": b"\x89PNG\r\n\x1a\n",
        "png: no header": b"\x89PNG\r\n\x1a\n"
        + chunk(b"IDAT", zlib.compress(b"\0" * 9))
        + chunk(b"IEND", b""),
        "png: header twice as long": b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", b"\0" * 26)
        + chunk(b"IEND", b""),
        "png: short header": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0" * 5) + chunk(b"IEND", b""),
        "png: width 0": png(0, 5),
        "png: height 0": png(5, 0),
        "png: sides of 2^31": png(2**31 - 1, 2**31 - 1, data=b""),
        "png: sides of 2^32 - 1": png(2**32 - 1, 2**32 - 1, data=b""),
        "png: 1 x 50,000,000": png(1, 50_000_000, data=b"\0\0"),
        "png: 50,000,000 x 1": png(50_000_000, 1, 8, 0, data=b"\0\0"),
        "png: 30,000 x 30,000": png(30_000, 30_000, data=b"\0\0"),
        "png: 10,000 x 10,000": png(10_000, 10_000, data=b"\0\0"),
        "png: large, hardly begun": png(*LARGE, data=b"\0\0"),
        "png: large, cut off at the end": png(*LARGE, 1, 0, data=b"\0" * (876 * 6_999)),
        "png: unknown colour type": png(colour=5),
        "png: depth 3": png(depth=3),
        "png: depth 16 with a palette": png(depth=16, colour=3),
        "png: no pixels": png(data=b""),
        "png: pixels of length 0": b"\x89PNG\r\n\x1a\n"
        + whole[8:33]
        + chunk(b"IDAT", b"")
        + chunk(b"IEND", b""),
        "png: no pixel chunk": whole[:33] + chunk(b"IEND", b""),
        "png: pixels are no zlib": whole[:33] + chunk(b"IDAT", b"junk" * 99) + chunk(b"IEND", b""),
        "png: too few rows": png(data=b"\0" + b"\x55" * 48),
        "png: unknown filter": png(data=(b"\x09" + b"\x55" * 48) * 16),
        "png: wrong checksum of the pixels": flip(whole, len(whole) - 14),
        "png: wrong checksum of the header": flip(whole, 30),
        "png: pixel chunk of 2^31 bytes": whole[: idat - 4] + b"\x7f\xff\xff\xff" + whole[idat:],
        "png: no end": whole[:-12],
        "png: ends in its end": whole[:-3],
        "png: interlaced, cut off": png(interlace=1, data=b"\0" * 20),
        "jpeg: start alone": b"\xff\xd8\xff",
        "jpeg: zeros": b"\xff\xd8\xff\xe0" + b"\0" * 50,
        "jpeg: no scan": jpeg[: jpeg.rindex(b"\xff\xda")] + b"\xff\xd9",
        "jpeg: cut off": jpeg[: len(jpeg) // 2],
        "jpeg: width 0": resize_jpeg(jpeg, 0, 32),
        "jpeg: 65,535 x 65,535": resize_jpeg(jpeg, 65_535, 65_535),
        "jpeg: larger than its data": resize_jpeg(jpeg, 6_000, 6_000),
        "jpeg: 5,000 scans of 36 million pixels": scans(
            resize_jpeg(progressive, 6_000, 6_000), 5_000
        ),
        "jpeg: endless markers": b"\xff\xd8" + b"\xff" * 100_000,
        "jpeg: tables of length 0": b"\xff\xd8\xff\xdb\0\0\xff\xda" + b"\0" * 40,
        "gif: head alone": b"GIF89a",
        "gif: junk": b"GIF89a" + b"\xff" * 20,
        "gif: no frame": gif()[:19] + b";",
        "gif: width 0": gif(0, 4),
        "gif: 65,535 x 65,535": gif(65_535, 65_535),
        "gif: cut off": save(noisy().quantize(), "GIF")[:-400],
        "gif: comment alone": gif()[:19] + b"!\xfe" + gif_blocks(2_000_000),
        "gif: frame without data": gif(data=b"\x02\0"),
        "gif: code size 99": gif(data=b"\x63\x02\x4c\x01\0"),
        "tiff: head alone": b"II*\0",
        "tiff: directory outside of the file": b"II*\0\xff\xff\xff\xff" + b"\0" * 20,
        "tiff: no tags": tiff([]),
        "tiff: 65,535 tags": tiff([(1, 1, 1, b"\0" * 4)], count=65_535),
        "tiff: tags that repeat the file": tiff(
            [(40_000 + i, 1, 500_000, long(8)) for i in range(900)], b"\0" * 500_000
        ),
        "tiff: a tag of 2^32 - 1 values": grey_tiff(16, 16, (270, 2, 2**32 - 1, long(8))),
        "tiff: width 0": grey_tiff(0, 16),
        "tiff: 1 x 50,000,000": grey_tiff(1, 50_000_000),
        "tiff: sides of 2^31": grey_tiff(2**31, 2**31),
        "tiff: strip outside of the file": grey_tiff(16, 16, (273, 4, 1, long(2**31))),
        "tiff: compressed junk": grey_tiff(16, 16, (259, 3, 1, short(8)), data=b"junk" * 64),
        "tiff: tiles of a billion pixels": grey_tiff(
            16,
            16,
            (322, 4, 1, long(32_768)),
            (323, 4, 1, long(32_768)),
            (324, 4, 1, long(8)),
            (325, 4, 1, long(256)),
            (259, 3, 1, short(8)),
            data=zlib.compress(b"\0" * 9_999_999),
        ),
        "tiff: compression unknown": grey_tiff(16, 16, (259, 3, 1, short(99))),
        "tiff: 9 bits": grey_tiff(16, 16, (258, 3, 1, short(9))),
        "tiff: 60,000 samples a pixel": grey_tiff(16, 16, (277, 3, 1, short(60_000))),
        "tiff: cut off": save(noisy(), "TIFF")[:-200],
        "bigtiff: directory outside of the file": b"II+\0\x08\0\0\0" + b"\xff" * 8,
        "webp: head alone": b"RIFF\x10\0\0\0WEBPVP8 ",
        "webp: no chunk": webp(),
        "webp: a wave file": b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 30,
        "webp: cut off": save(noisy(), "WEBP", lossless=True)[:-300],
        "webp: canvas of 16,384 x 16,384": webp(
            (b"VP8X", b"\x02\0\0\0" + (16_383).to_bytes(3, "little") * 2),
            (b"ANIM", b"\0" * 6),
            (b"ANMF", b"\0" * 16 + save(noisy(), "WEBP")[12:]),
        ),
        "webp: lossless head of 16,384 x 16,384": webp(
            (b"VP8L", b"\x2f\xff\xff\xff\x0f" + b"\0" * 20)
        ),
        "webp: broken only frame": webp(
            (b"VP8X", b"\x02\0\0\0" + (31).to_bytes(3, "little") * 2),
            (b"ANIM", b"\0" * 6),
            (b"ANMF", b"\0" * 16 + b"VP8 \x08\0\0\0junkjunk"),
        ),
        "bmp: head alone": b"BM",
        "bmp: width 0": bmp(0, 16),
        "bmp: 30,000 x 30,000": bmp(30_000, 30_000),
        "bmp: negative sides": bmp(-16, -16),
        "bmp: cut off": bmp(16, 16, data=b"\0" * 99),
        "bmp: 7 bits": bmp(16, 16, 7, data=b"\0" * 999),
        "bmp: large, run lengths cut off": bmp(*LARGE, 8, 1, b"\xff\x01" * 1_000),
        "bmp: large, runs of nothing": bmp(*LARGE, 8, 1, b"\0\x02\0\0" * 300_000),
        "ppm: no size": b"P6",
        "ppm: width 0": b"P6\n0 16\n255\n",
        "ppm: 10^9 x 10^9": b"P6\n1000000000 1000000000\n255\n\0",
        "ppm: a number of a million digits": b"P6\n" + b"9" * 1_000_000 + b" 1\n255\n",
        "ppm: cut off": b"P6\n16 16\n255\n" + b"\0" * 99,
        "ppm: large, cut off": b"P6\n7000 7000\n255\n" + b"\0" * 99,
        "ppm: large, of 99 levels, cut off": b"P5\n7000 7000\n99\n" + b"\0" * 99_999,
        "ppm: words, cut off": b"P3\n7000 7000\n255\n" + b"1 2 3 " * 50_000,
        "ppm: a comment of a megabyte": b"P6\n#" + b"x" * 1_000_000,
        "ppm: level 0": b"P5\n4 4\n0\n" + b"\0" * 16,
        "pfm: endless scale": b"Pf\n4 4\nnan\n" + b"\0" * 64,
    }
    for share in range(1, 20):
        files[f"png: cut off after {share * 5} %"] = whole[: len(whole) * share // 20]
    return files


def accepted() -> dict[str, bytes]:
    """Files with odd parts that do not touch their pixels: good pictures."""
    bomb = zlib.compress(b"\0" * 30_000_000, 9)
    junk_tags = struct.pack("<HHI4s", 40_000, 2, 2**31, b"\xff" * 4) * 50
    exif = {
        "empty": b"",
        "of junk": b"junkjunk",
        "of text": b"this is a comment, and no TIFF directory at all",
        "with a directory outside": b"II*\0\xff\xff\xff\xff",
        "cut off": b"MM\0*\0\0\0\x08\0\x05\x01\x12",
        "with tags outside": b"II*\0\x08\0\0\0" + struct.pack("<H", 50) + junk_tags,
        "in a circle": b"II*\0\x08\0\0\0" + struct.pack("<HHHI4sI", 1, 0x8769, 4, 1, long(8), 8),
        "with a turn of 99": b"II*\0\x08\0\0\0"
        + struct.pack("<HHHI4sI", 1, 0x0112, 3, 1, short(99), 0),
        "with a turn in letters": b"II*\0\x08\0\0\0"
        + struct.pack("<HHHI4sI", 1, 0x0112, 2, 1, b"abc\0", 0),
    }
    # an animation whose second frame is broken
    frames = save(
        noisy().quantize(), "GIF", save_all=True, append_images=[noisy().rotate(90).quantize()]
    )
    still = save(Image.new("P", (8, 8)), "GIF")
    at_gif = still.index(b",\0\0\0\0\x08\0\x08\0")
    apng = save(noisy(), "PNG", save_all=True, append_images=[noisy().rotate(90)])
    at = apng.index(b"fdAT")
    jpeg = save(noisy(16, 16), "JPEG")
    mpf = (
        b"MPF\0II*\0\x08\0\0\0"
        + struct.pack("<H", 5_000)
        + struct.pack("<HHI4s", 1, 1, 60_000, b"\0" * 4) * 5_000
    )
    tags = [(40_000 + i, 1, 4, b"\0" * 4) for i in range(500)]
    files = {f"png: EXIF {name}": png(before=chunk(b"eXIf", data)) for name, data in exif.items()}
    files |= {
        f"jpeg: EXIF {name}": jpeg[:2]
        + b"\xff\xe1"
        + struct.pack(">H", len(data) + 8)
        + b"Exif\0\0"
        + data
        + jpeg[2:]
        for name, data in exif.items()
    }
    files |= {
        "png: plain": png(),
        "png: large and empty": b"",
        "png: a text of 30 MB": png(before=chunk(b"zTXt", b"a\0\0" + bomb)),
        "png: 300 texts of 1 MB": png(
            before=chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 1_000_000)) * 300
        ),
        "png: a text of 30 MB behind": png(after=chunk(b"iTXt", b"a\0\1\0\0\0" + bomb)),
        "png: a text packed in another way": png(before=chunk(b"zTXt", b"a\0\7" + bomb[:99])),
        "png: a text without an end of its key": png(before=chunk(b"tEXt", b"x" * 9_999)),
        "png: a profile of 30 MB": png(before=chunk(b"iCCP", b"p\0\0" + bomb)),
        "png: a profile of junk": png(
            before=chunk(b"iCCP", b"p\0\0" + zlib.compress(b"junk" * 99))
        ),
        "png: a profile packed in another way": png(before=chunk(b"iCCP", b"p\0\7" + bomb[:99])),
        "png: an empty profile": png(before=chunk(b"iCCP", b"")),
        "png: wrong checksum of a text": png(before=chunk(b"tEXt", b"a\0b")[:-1] + b"\0"),
        "png: short gamma": png(before=chunk(b"gAMA", b"\0")),
        "png: gamma 0": png(before=chunk(b"gAMA", b"\0\0\0\0")),
        "png: short transparency": png(before=chunk(b"tRNS", b"\0\1\0\2\0\3")),
        "png: animation of 2^31 frames": png(before=chunk(b"acTL", b"\x7f\xff\xff\xff\0\0\0\0")),
        "png: broken second frame": apng[:at] + b"fdAT" + b"\xff" * 40 + apng[at + 44 :],
        "png: bytes behind its end": png() + b"junk" * 1_000,
        "png: wrong chunks": png(before=chunk(b"abCd", b"x" * 99) + chunk(b"sBIT", b"")),
        "gif: broken second frame": frames[: len(frames) - 300] + b"\xff" * 300,
        "gif: a comment of 4 MB": still[:at_gif]
        + b"!\xfe"
        + gif_blocks(4_000_000)
        + still[at_gif:],
        "gif: a program's block of 4 MB": still[:at_gif]
        + b"!\xff\x0bNETSCAPE2.0"
        + gif_blocks(4_000_000)
        + still[at_gif:],
        "jpeg: an index of 5,000 pictures": jpeg[:2]
        + b"\xff\xe2"
        + struct.pack(">H", len(mpf) + 2)
        + mpf
        + jpeg[2:],
        "jpeg: 300 comments": jpeg[:2] + (b"\xff\xfe\xff\xff" + b"x" * 65_533) * 300 + jpeg[2:],
        "jpeg: 300 times EXIF data": jpeg[:2]
        + (b"\xff\xe1\xff\xffExif\0\0" + b"x" * 65_527) * 300
        + jpeg[2:],
        "jpeg: a profile of junk": save(noisy(16, 16), "JPEG", icc_profile=b"junk" * 99),
        "tiff: 500 more tags": grey_tiff(16, 16, *tags),
        "tiff: EXIF directory outside": grey_tiff(16, 16, (34_665, 4, 1, long(2**31))),
        "tiff: EXIF directory in a circle": grey_tiff(16, 16, (34_665, 4, 1, long(264))),
        "tiff: a turn of 99": grey_tiff(16, 16, (274, 3, 1, short(99))),
        "tiff: a profile of junk": save(noisy(16, 16), "TIFF", icc_profile=b"junk" * 99),
        "webp: EXIF of junk": save(noisy(16, 16), "WEBP", exif=b"junk" * 99),
        "webp: a profile of junk": save(noisy(16, 16), "WEBP", icc_profile=b"junk" * 99),
    }
    del files["png: large and empty"]
    return files
