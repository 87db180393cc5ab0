"""The gate for picture files: bytes → the pixels of the first frame, with bounded work.

Pillow decodes. This file decides what Pillow is given: files of FORMATS alone, whose sides, pixels
and bytes are limited before anything is decoded, without the parts that make Pillow work more than
the pixels need (long texts, comments, further frames, tags that repeat the file).
"""

import os
import re
import stat
import struct
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from fromnoise.errors import BadInput, NotFound, escape

PIXELS = 50_000_000  # 200 MB as RGBA
SIDE = 65_535  # pixels: the longest side of a JPEG file
FILE_BYTES = 160_000_000  # 50 million pixels of RGB without compression are 150 MB
SECONDS = 10.0  # of processor time: 50 million pixels take 1 to 3
READS = 150_000  # calls by Pillow: where it reads byte by byte, in Python, these take 0.5 s
RUN_BYTES = 200_000  # of a BMP file of run lengths, which Pillow decodes in Python: 0.8 s
JPEG_RATIO = 600  # pixels a byte: a block of 64 pixels takes a bit at least, with all components
PROFILE_BYTES = 16 << 20  # of a colour profile, unpacked
TAGS = 1_000  # entries of one EXIF or TIFF directory
SCANS = 1_000_000_000  # pixels times scans of a JPEG file: 20 scans of the largest picture
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
TIFF_SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="([1-8])"|>([1-8])<)')
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF's number → what brings the picture upright
ADAM7 = (  # of each pass: the first column, the first row, and the steps from there
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
PNG_START, PNG_KEPT = b"\x89PNG\r\n\x1a\n", (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")

BAD_PROFILE = "the picture's colour profile cannot be read: its colours are used as they are"

Source = Path | str | BinaryIO | Image.Image
Notes = dict[str, None]  # what the user is told, each note once


def open_picture(source: Source, notes: Notes | None = None) -> Image.Image:
    """The first frame of a picture file, every pixel decoded, turned upright as its EXIF says.

    `info["icc_profile"]` is the file's colour profile, `info["transparency"]` in the levels of the
    decoded pixels. A Pillow picture is loaded and turned, not changed. Broken EXIF data, profiles
    and texts do not matter, and are noted where they would have changed pixels. Raises NotFound,
    and BadInput for a file that is no picture, is cut off or passes a limit.
    """
    notes = {} if notes is None else notes
    with _reading(source) as name:
        if isinstance(source, Image.Image):
            picture = source
            check_size(picture.size, name)
        else:
            data, extra = _strip(_read_bytes(source, name), notes)
            picture = _open(data, name)
            check_size(picture.size, name)
            picture.info.update(extra)
        picture.load()
        return _turn(picture, notes)


def check_size(size: tuple[int, int], name: object = "the picture") -> None:
    """Raises BadInput for a picture of no pixels, of too many, or with a side that is too long."""
    width, height = size
    if not 0 < width * height <= PIXELS:
        raise BadInput(f"{name} has {width}x{height} pixels", f"give one of 1 to {PIXELS:,}")
    if max(size) > SIDE:
        raise BadInput(
            f"{name} has {width}x{height} pixels", f"give one of at most {SIDE:,} pixels a side"
        )


@contextmanager
def _reading(source: Source) -> Iterator[str]:
    """The name of a source. Turns every error of reading it into NotFound or BadInput."""
    name = escape(source) if isinstance(source, str | Path) else "the picture"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns where this file refuses
            yield name
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {name}", "look for a slip in its name") from error
    except (BadInput, NotFound):
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, which it checks first
        raise BadInput(
            f"{name} has too many pixels: {error}", f"give one of 1 to {PIXELS:,}"
        ) from error
    except Exception as error:  # Pillow promises no fixed set of errors for files that are broken
        why = getattr(error, "strerror", None) or error
        raise BadInput(
            f"cannot read {name}: {why}", f"give a whole picture: {', '.join(FORMATS)}"
        ) from error


def _read_bytes(source: Path | str | BinaryIO, name: str) -> bytes:
    """All bytes of a file. A device, a pipe and a folder are refused before they are read."""
    if isinstance(source, str | Path):
        handle = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as file:
            kind = os.fstat(handle)
            if stat.S_ISDIR(kind.st_mode):
                raise BadInput(f"{name} is a folder", "give a picture file")
            if not stat.S_ISREG(kind.st_mode):
                raise BadInput(f"{name} is no regular file", "give a picture file")
            start = file.read(16)
            if kind.st_size <= FILE_BYTES and _is_picture(start):
                data = start + file.read(FILE_BYTES + 1 - len(start))
            else:
                data, size = start, kind.st_size
                _check_bytes(size, name)
    elif callable(getattr(source, "read", None)):
        source.seek(0)
        data = source.read(FILE_BYTES + 1)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise BadInput("the picture is a text file", "open it in binary mode")
        data = bytes(data)
    else:
        raise BadInput(
            f"a {type(source).__name__} is no picture",
            "give a file, or a Pillow picture: Image.fromarray makes one of an array",
        )
    _check_bytes(len(data), name)
    if not _is_picture(data[:16]):
        raise BadInput(f"{name} is no picture", f"give one of these kinds: {', '.join(FORMATS)}")
    return data


def _check_bytes(size: int, name: str) -> None:
    if not 0 < size <= FILE_BYTES:
        raise BadInput(f"{name} has {size:,} bytes", f"give a file of 1 to {FILE_BYTES:,}")


def _is_picture(start: bytes) -> bool:
    """Whether a file that begins so may be of FORMATS."""
    begins = (PNG_START, b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8", b"II", b"MM", b"P")
    return start.startswith(begins)


def _open(data: bytes, name: str) -> Image.Image:
    file: Any = _BoundedFile(data)
    try:
        return Image.open(file, formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise BadInput(
            f"{name} is no picture that can be read", f"give a whole one: {', '.join(FORMATS)}"
        ) from error


class _BoundedFile:
    """The bytes of a file for Pillow. Reading stops where it takes more than SECONDS or READS, or
    where several times as many bytes are read as there are."""

    def __init__(self, data: bytes):
        self._file = BytesIO(data)
        self._left = 4 * len(data) + 1_000_000
        self._reads = READS + len(data) // 64
        self._end = time.thread_time() + SECONDS
        self.seek, self.tell = self._file.seek, self._file.tell

    def read(self, size: int | None = -1) -> bytes:
        data = self._file.read(size)
        self._left, self._reads = self._left - len(data), self._reads - 1
        if min(self._left, self._reads) < 0 or time.thread_time() > self._end:
            raise RuntimeError("it takes too long")
        return data

    def readline(self, size: int | None = -1) -> bytes:
        return self._file.readline(size)


# ---- what Pillow is not given


def _strip(data: bytes, notes: Notes) -> tuple[bytes, dict[str, Any]]:
    """(the file with what its first frame needs, what `info` says besides)."""
    if data.startswith(PNG_START):
        return _strip_png(data, notes)
    if data.startswith(b"\xff\xd8\xff"):
        return _strip_jpeg(data)
    if data.startswith((b"II", b"MM")):
        return _strip_tiff(data), {}
    if data.startswith(b"BM") and data[30:31] in (b"\1", b"\2") and len(data) > RUN_BYTES:
        raise ValueError("it is a BMP file of run lengths, and too large for one")
    return data, {}


def iterate_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a PNG file, in order: (name, start of the content, its length). The last one
    may claim more bytes than the file has."""
    place = len(PNG_START)
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        yield name, place + 8, length
        place += 12 + length


def _strip_png(data: bytes, notes: Notes) -> tuple[bytes, dict[str, Any]]:
    """Leaves out all chunks but those of the pixels: texts and profiles that unpack to more than
    Pillow allows, and the frames of an animation, cannot refuse a good picture then."""
    kept: list[bytes | memoryview] = [PNG_START]
    extra, head, pixels, whole = {}, b"", [], False
    for name, start, length in iterate_chunks(data):
        content = memoryview(data)[start : start + length]
        if name in PNG_KEPT:
            piece = memoryview(data)[start - 8 : start + length + 4]
            if piece[-4:] != zlib.crc32(piece[4:-4]).to_bytes(4):
                raise ValueError("it is cut off or damaged: a checksum is wrong")
            kept.append(piece)
        if name == b"IHDR":
            head = bytes(content[:13])
        elif name == b"IDAT":
            pixels.append(content)
        elif name == b"tRNS":
            extra |= _scale_transparency(head, bytes(content[:6]))
        elif name == b"iCCP":
            profile = _unpack(bytes(content).partition(b"\0")[2][1:], PROFILE_BYTES)
            extra["icc_profile"] = profile
            if profile is None:
                notes[BAD_PROFILE] = None
        elif name == b"gAMA" and length == 4:
            extra["gamma"] = int.from_bytes(content) / 100_000
        elif name == b"sRGB":
            extra["srgb"] = True
        elif name == b"eXIf":
            extra["exif"] = b"Exif\0\0" + bytes(content)
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            extra |= _find_orientation_text(name, bytes(content[: 1 << 20]))
        elif name == b"IEND":
            whole = True
            break
    if not whole:
        raise ValueError("it is cut off: its last chunk is missing")
    if not _unpacks_to(pixels, _count_png_bytes(head)):
        raise ValueError("it is cut off or damaged: it has fewer pixels than it says")
    return b"".join(kept), extra


def _count_png_bytes(head: bytes) -> int:
    """Of the pixels of a PNG file, unpacked: each row has a byte that names its filter, and an
    interlaced picture is seven smaller ones (PNG 8.2). 0 for a picture that is refused anyway."""
    if len(head) < 13:
        return 0
    width, height, depth, kind, *_, interlaced = struct.unpack(">IIBBBBB", head)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(kind, 0)
    if width * height > PIXELS:
        return 0
    steps = ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // wide), -(-(height - y) // high)) for x, y, wide, high in steps]
    return sum(h * (1 + -(-w * bits // 8)) for w, h in sizes if w > 0 and h > 0)


def _unpacks_to(pieces: list[memoryview], size: int) -> bool:
    """Whether a zlib stream, in pieces, holds so many bytes at least. Pillow does not look."""
    stream = zlib.decompressobj()
    try:
        for piece in pieces:
            rest: bytes | memoryview = piece
            while size > 0 and len(rest):
                size -= len(stream.decompress(rest, 1 << 18))
                rest = stream.unconsumed_tail
    except zlib.error:
        return False
    return size <= 0


def _unpack(data: bytes, limit: int) -> bytes | None:
    """What a zlib stream holds; None for more than `limit` bytes and for a broken one."""
    try:
        stream = zlib.decompressobj()
        content = stream.decompress(data, limit + 1)
    except zlib.error:
        return None
    return content if stream.eof and len(content) <= limit else None


def _scale_transparency(head: bytes, content: bytes) -> dict[str, Any]:
    """The transparent colour of a PNG file without a palette, in the levels that Pillow decodes
    to: it scales pixels of 2, 4 and 16 bits (RGB) to 8, and leaves this colour as it is."""
    bits, kind = head[8:10] if len(head) == 13 else (8, 3)
    count = {0: 1, 2: 3}.get(kind, 0)
    if not count or len(content) < 2 * count:
        return {}
    levels = struct.unpack_from(f">{count}H", content)
    if kind == 2:
        return {"transparency": tuple(v >> 8 if bits == 16 else v & 255 for v in levels)}
    if bits == 1:
        return {"transparency": 255 * (levels[0] & 1)}
    scale = {2: 85, 4: 17}.get(bits, 1)
    return {"transparency": levels[0] * scale}


def _find_orientation_text(name: bytes, content: bytes) -> dict[str, Any]:
    """EXIF and XMP in the text chunks where ImageMagick and Adobe's programs put them."""
    key, _, rest = content.partition(b"\0")
    if key == b"Raw profile type exif" and name != b"iTXt":
        text = _unpack(rest[1:], 1 << 20) if name == b"zTXt" else rest
        lines = (text or b"").split(b"\n", 3)
        if len(lines) == 4 and re.fullmatch(rb"[0-9a-fA-F\s]+", lines[3]):
            return {"exif": bytes.fromhex(lines[3].decode())}
    if key == b"XML:com.adobe.xmp" and name == b"iTXt" and rest[:1] == b"\0":
        return {"xmp": rest.split(b"\0", 4)[-1]}
    return {}


def _strip_jpeg(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """Leaves out comments, thumbnails and the index of further pictures. Raises ValueError for so
    many scans that decoding takes minutes, as a few kilobytes of them can ask for."""
    kept, extra, place, scans, pixels = [data[:2]], {}, 2, 0, 0
    while marker := JPEG_MARKER.search(data, place):
        start, kind = marker.start(), data[marker.start() + 1]
        length = 0 if kind in (0x01, 0xD8, 0xD9) else int.from_bytes(data[start + 2 : start + 4])
        content, place = data[start + 4 : start + 2 + length], start + 2 + length
        if kind == 0xD9:
            break
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC) and len(content) >= 5:
            height, width = struct.unpack_from(">HH", content, 1)
            pixels = max(pixels, height * width)
            if kind < 0xC8 and pixels > JPEG_RATIO * len(data):
                raise ValueError(f"{len(data):,} bytes cannot hold its {width}x{height} pixels")
        scans += kind == 0xDA
        if scans * pixels > SCANS:
            raise ValueError(f"it draws its {pixels:,} pixels {scans} times or more")
        if kind == 0xE1 and content.startswith(b"Exif\0\0"):
            extra.setdefault("exif", content)
        elif kind == 0xE1 and content.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            extra.setdefault("xmp", content)
        elif kind == 0xDA and scans == 1:
            kept.append(data[start:])
        elif not scans and (
            not 0xE0 <= kind <= 0xFE or kind in (0xE0, 0xEE) or content.startswith(b"ICC_PROFILE\0")
        ):
            kept.append(data[start:place])
    return b"".join(kept), extra


def _strip_tiff(data: bytes) -> bytes:
    """Hides the EXIF and GPS directories, which say nothing of the pixels. Raises ValueError for
    tags that make Pillow read the file over and over, and for tiles larger than a picture."""
    order = "<" if data.startswith(b"II") else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43  # BigTIFF
    start, count, entry, most = ("Q", "Q", "HHQ8s", 8) if big else ("I", "H", "HHI4s", 4)
    [place] = struct.unpack_from(order + start, data, 8 if big else 4)
    [entries] = struct.unpack_from(order + count, data, place)
    place += struct.calcsize(order + count)
    step, total, tile, result = struct.calcsize(order + entry), 0, 1, bytearray(data)
    if entries > TAGS:
        raise ValueError(f"it has {entries:,} tags, and {TAGS:,} are the most")
    for i in range(place, place + entries * step, step):
        tag, kind, number, value = struct.unpack_from(order + entry, data, i)
        size = number * TIFF_SIZES.get(kind, 1)
        total += size if size > most else 0
        if tag in (322, 323):  # width and height of a tile
            tile *= struct.unpack_from(order + ("H" if kind == 3 else "I"), value)[0]
        if tag in (34665, 34853, 40965):
            struct.pack_into(order + "H", result, i, tag + 1)  # a tag that nobody knows
    if total > len(data) + 65_536:
        raise ValueError("its tags hold more bytes than the file has")
    if tile > PIXELS // 4:
        raise ValueError(f"it has tiles of {tile:,} pixels, and {PIXELS // 4:,} are the most")
    return bytes(result)


# ---- which way up


def _turn(picture: Image.Image, notes: Notes) -> Image.Image:
    """A decoded picture upright, as its EXIF data or its XMP data say."""
    info = picture.info
    try:
        way = _read_orientation(info["exif"]) if isinstance(info.get("exif"), bytes) else None
        if way is None and (found := XMP_ORIENTATION.search(info.get("xmp") or b"")):
            way = int(found[1] or found[2])
    except (struct.error, TypeError, ValueError):
        way = None
        notes["the picture's EXIF data cannot be read: it is not turned"] = None
    return picture if way not in TURNS else picture.transpose(TURNS[way])


def _read_orientation(exif: bytes) -> int | None:
    """Tag 0x0112 of EXIF data (EXIF 2.32, 4.6.5), None where it is not there. Raises struct.error
    or ValueError for data that are broken."""
    data = exif.removeprefix(b"Exif\0\0")
    if data[:4] not in (b"II*\0", b"MM\0*"):
        raise ValueError
    order = "<" if data.startswith(b"II") else ">"
    [place] = struct.unpack_from(order + "I", data, 4)
    [entries] = struct.unpack_from(order + "H", data, place)
    for i in range(min(entries, TAGS)):
        tag, kind = struct.unpack_from(order + "HH", data, place + 2 + 12 * i)
        if tag == 0x0112:
            form = {1: "B", 3: "H", 4: "I"}.get(kind, "H")
            return struct.unpack_from(order + form, data, place + 10 + 12 * i)[0]
    return None
