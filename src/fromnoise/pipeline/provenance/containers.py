"""The texts in the file of a picture: PNG, JPEG, WebP, GIF and TIFF taken apart. Needs no Pillow.

No pixel is decoded. Every walk is linear in the file and has limits (PARTS, TEXT); a text that is
damaged or too long is skipped, and `FileTexts.skipped` says so.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fromnoise.errors import BadInput, NotFound

TEXT = 16 << 20  # bytes of text that are read of one file, unpacked
PARTS = 100_000  # parts (chunks, segments, blocks) that are read of one file
PIXELS = 1 << 28  # a file that claims more is no picture of today's programs
ENTRIES = 4_096  # of one EXIF table
# keywords of PNG texts that programs use, in small letters; other texts stay unread
KEYWORDS = {
    *("parameters", "prompt", "workflow", "invokeai_metadata", "sd-metadata", "dream", "comment"),
    *("description", "software", "source", "title", "fooocus_scheme", "generation_data"),
    "xml:com.adobe.xmp",
    # Easy Diffusion writes one text for each setting
    *("negative_prompt", "seed", "num_inference_steps", "guidance_scale", "width", "height"),
    *("sampler_name", "use_stable_diffusion_model", "negative prompt", "steps", "guidance scale"),
    *("sampler", "stable diffusion model", "clip skip", "clip_skip"),
}
PROFILES = ("raw profile type exif", "raw profile type app1")  # ImageMagick's, in hexadecimal
TAGS = {  # of EXIF 2.32
    0x010E: "exif:ImageDescription",
    0x010F: "exif:Make",
    0x0110: "exif:Model",
    0x0131: "exif:Software",
    0x927C: "exif:MakerNote",
    0x9286: "exif:UserComment",
}
EXIF_TABLE = 0x8769  # the entry that leads to EXIF's own table
TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # bytes a value
XMP = b"http://ns.adobe.com/xap/1.0/\0"


class _Damaged(Exception):
    """The file cannot be followed any further; the message says what is wrong in it."""


@dataclass
class FileTexts:
    """What a file says: keyword → text ("parameters", "exif:UserComment", "comment", "xmp", …);
    `skipped`: keyword → why it was not read."""

    kind: str  # "PNG", "JPEG", …
    texts: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None  # (width, height)
    left: int = TEXT  # bytes that may still be read

    def add(self, keyword: str, raw: bytes) -> None:
        """Keeps a text: UTF-8 where it is valid, else Latin-1."""
        if len(raw) > self.left:
            self.skipped[keyword] = f"texts of more than {TEXT >> 20} MiB are not read"
            return
        self.left -= len(raw)
        try:
            self.texts[keyword] = raw.decode()
        except UnicodeDecodeError:
            self.texts[keyword] = raw.decode("latin-1")

    def add_packed(self, keyword: str, packed: bytes) -> None:
        """Keeps a text that zlib packed. No more than `left` bytes are unpacked."""
        engine = zlib.decompressobj()
        try:
            raw = engine.decompress(packed, self.left + 1)
        except zlib.error as error:
            self.skipped[keyword] = f"it cannot be unpacked: {error}"
            return
        if not engine.eof and len(raw) <= self.left:
            self.skipped[keyword] = "it is cut off"
            return
        self.add(keyword, raw)

    def add_exif(self, raw: bytes) -> None:
        """Keeps the texts of an EXIF block; one that is broken is skipped."""
        raw = raw.removeprefix(b"Exif\0\0")

        def fetch(start: int, length: int) -> bytes:
            return raw[start : start + length]

        try:
            _read_tables(self, fetch)
        except _Damaged as error:
            self.skipped["EXIF"] = str(error)


def read_file_texts(path: Path) -> FileTexts:
    """The texts of a picture's file.

    Raises NotFound; BadInput for what is no picture, is damaged before any text, or claims more
    than PIXELS pixels.
    """
    try:
        with path.open("rb") as file:
            return read_texts(file, path)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", "look for a slip in its name") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"cannot read {path}: {why}", "give the file of a picture") from error


def read_texts(file: BinaryIO, name: object) -> FileTexts:
    """As `read_file_texts`, of an open file that messages call `name`."""
    kind, walk = _find_kind(file.read(12))
    if not kind:
        raise BadInput(
            f"{name} is no picture that can be read",
            "give a whole PNG, JPEG, WebP, GIF or TIFF file",
        )
    found = FileTexts(kind)
    try:
        walk(file, found)
    except _Damaged as error:
        if not found.texts:
            raise BadInput(f"cannot read {name}: {error}", f"give a whole {kind} file") from None
        found.skipped["file"] = str(error)
    width, height = found.size or (1, 1)
    if not 0 < width * height <= PIXELS:
        many = "too many pixels" if width * height else "no pixels"
        raise BadInput(f"{name} claims {many}: {width}x{height}", "give a whole picture")
    return found


def _find_kind(start: bytes) -> tuple[str, Callable[[BinaryIO, FileTexts], None]]:
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG", _walk_png
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG", _walk_jpeg
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "WebP", _walk_webp
    if start.startswith((b"GIF87a", b"GIF89a")):
        return "GIF", _walk_gif
    if start.startswith((b"II*\0", b"MM\0*")):
        return "TIFF", _walk_tiff
    if start.startswith(b"BM") or start[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"):
        return "BMP or PPM", lambda file, found: None  # these hold no text
    return "", lambda file, found: None


def _take(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise _Damaged("it is cut off")
    return data


# ---- PNG (ISO/IEC 15948): length, name, body and checksum, again and again


def _walk_png(file: BinaryIO, found: FileTexts) -> None:
    file.seek(8)
    for number in range(PARTS):
        length, name = struct.unpack(">I4s", _take(file, 8))
        if not name.isalpha() or length >= 1 << 31:
            raise _Damaged(f"part {number + 1} is no PNG chunk")
        if number == 0 and (name, length) != (b"IHDR", 13):
            raise _Damaged("it does not begin with IHDR")
        if name == b"IEND":
            return
        if name not in (b"IHDR", b"tEXt", b"zTXt", b"iTXt", b"eXIf") or length > TEXT:
            if name in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
                found.skipped[name.decode()] = f"{length:,} bytes of text are too many"
            file.seek(length + 4, 1)
            continue
        body = _take(file, length)
        if _take(file, 4) != struct.pack(">I", zlib.crc32(body, zlib.crc32(name))):
            found.skipped[name.decode()] = "its checksum is wrong"
        elif name == b"IHDR":
            found.size = struct.unpack(">II", body[:8])
        elif name == b"eXIf":
            found.add_exif(body)
        else:
            _add_png_text(found, name, body)
    raise _Damaged(f"it has more than {PARTS:,} parts")


def _add_png_text(found: FileTexts, name: bytes, body: bytes) -> None:
    key, separator, rest = body.partition(b"\0")
    keyword = key.decode("latin-1").strip().lower()
    if not separator or (keyword not in KEYWORDS and keyword not in PROFILES):
        return
    keyword = "xmp" if keyword == "xml:com.adobe.xmp" else keyword
    packed = name == b"zTXt"
    if packed:
        rest = rest[1:]
    elif name == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:]
        for _ in ("language", "translated keyword"):
            rest = rest.partition(b"\0")[2]
    if packed:
        found.add_packed(keyword, rest)
    else:
        found.add(keyword, rest)
    if keyword in PROFILES and keyword in found.texts:
        lines = found.texts.pop(keyword).strip().split("\n", 2)  # "exif", the length, the bytes
        try:
            found.add_exif(bytes.fromhex(lines[2]))
        except (ValueError, IndexError):
            found.skipped["EXIF"] = "its profile cannot be read"


# ---- JPEG (ITU-T T.81, annex B): segments until the pixels begin


def _walk_jpeg(file: BinaryIO, found: FileTexts) -> None:
    file.seek(2)
    for _ in range(PARTS):
        begin, code = _take(file, 2)
        if begin != 0xFF:
            raise _Damaged("it has no marker where one must be")
        if code == 0xFF:  # fill bytes may stand before a marker
            file.seek(-1, 1)
            continue
        if code == 0x01 or 0xD0 <= code <= 0xD8:
            continue
        if code in (0xD9, 0xDA):
            return
        [length] = struct.unpack(">H", _take(file, 2))
        if length < 2:
            raise _Damaged("it has a segment without a length")
        body = _take(file, length - 2)
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC) and len(body) >= 5:
            height, width = struct.unpack(">HH", body[1:5])
            found.size = (width, height or 1)  # 0: the height follows behind the pixels
        elif code == 0xFE:
            _add_comment(found, body)
        elif code == 0xE1 and body.startswith(b"Exif\0\0"):
            found.add_exif(body)
        elif code == 0xE1 and body.startswith(XMP):
            found.add("xmp", body.removeprefix(XMP))
    raise _Damaged(f"it has more than {PARTS:,} parts")


def _add_comment(found: FileTexts, raw: bytes) -> None:
    """A comment; stable-diffusion.cpp begins its own with the keyword that its PNG files have."""
    head, separator, rest = raw.partition(b"\0")
    if separator and head == b"parameters":
        found.add("parameters", rest.rstrip(b"\0"))
    else:
        found.add("comment", raw.rstrip(b"\0"))


# ---- WebP (RIFF): name, length and body, again and again


def _walk_webp(file: BinaryIO, found: FileTexts) -> None:
    end = file.seek(0, 2)
    file.seek(12)
    for _ in range(PARTS):
        if file.tell() >= end:
            return
        name, length = struct.unpack("<4sI", _take(file, 8))
        if file.tell() + length > end:
            raise _Damaged("it is cut off")
        if name in (b"EXIF", b"XMP ") and length <= TEXT:
            body = _take(file, length)
            file.seek(length & 1, 1)
            if name == b"EXIF":
                found.add_exif(body)
            else:
                found.add("xmp", body)
            continue
        if name == b"VP8X" and length >= 10:
            body = file.read(10)
            width, height = (int.from_bytes(body[i : i + 3], "little") + 1 for i in (4, 7))
            found.size = (width, height)
            length -= 10
        file.seek(length + (length & 1), 1)
    raise _Damaged(f"it has more than {PARTS:,} parts")


# ---- GIF (89a): blocks until the first picture


def _walk_gif(file: BinaryIO, found: FileTexts) -> None:
    file.seek(6)
    width, height, flags, *_ = struct.unpack("<HHBBB", _take(file, 7))
    found.size = (width, height)
    if flags & 0x80:
        file.seek(3 << (flags & 7) + 1, 1)
    parts = 0
    while _take(file, 1) == b"!":
        label, body = _take(file, 1), bytearray()
        while length := _take(file, 1)[0]:
            data = _take(file, length)
            if label == b"\xfe":
                body += data
            parts += 1
            if parts > PARTS:
                raise _Damaged(f"it has more than {PARTS:,} parts")
        if label == b"\xfe":
            _add_comment(found, bytes(body))


# ---- TIFF 6.0, which EXIF is made of: tables of (tag, type, count, value or its place)


def _walk_tiff(file: BinaryIO, found: FileTexts) -> None:
    def fetch(start: int, length: int) -> bytes:
        file.seek(start)
        return file.read(length)

    _read_tables(found, fetch)


def _read_tables(found: FileTexts, fetch: Callable[[int, int], bytes]) -> None:
    head = fetch(0, 8)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None or len(head) < 8:
        raise _Damaged("it is no EXIF")
    tables: list[int] = [struct.unpack(f"{order}I", head[4:])[0]]
    seen: set[int] = set()  # a tag that comes again is not read again
    for depth in range(2):
        if depth == len(tables):
            return
        start = fetch(tables[depth], 2)
        count = struct.unpack(f"{order}H", start)[0] if len(start) == 2 else ENTRIES + 1
        rows = fetch(tables[depth] + 2, 12 * min(count, ENTRIES))
        if count > ENTRIES or len(rows) < 12 * count:
            raise _Damaged("its EXIF leads nowhere")
        for tag, kind, many, place in struct.iter_unpack(f"{order}HHI4s", rows):
            if tag == EXIF_TABLE and depth == 0 and len(tables) == 1:
                tables.append(struct.unpack(f"{order}I", place)[0])
            elif tag in TAGS and tag not in seen:
                seen.add(tag)
                length = TYPES.get(kind, 1) * many
                if length > TEXT:
                    found.skipped[TAGS[tag]] = f"{length:,} bytes of text are too many"
                    continue
                where = struct.unpack(f"{order}I", place)[0]
                value = place[:length] if length <= 4 else fetch(where, length)
                if len(value) < length:
                    found.skipped[TAGS[tag]] = "it is cut off"
                elif tag == 0x9286:
                    found.add(TAGS[tag], _decode_user_comment(value).encode("utf-8", "replace"))
                else:
                    found.add(TAGS[tag], value.rstrip(b"\0"))


def _decode_user_comment(raw: bytes) -> str:
    """EXIF 2.32's UserComment: eight bytes that name the code, then the text.

    Writers disagree on the order of UTF-16's bytes. The right one is that in which more of the end
    is ASCII, as the settings are, in whatever script the prompt is written.
    """
    code, body = raw[:8], raw[8:]
    if code == b"UNICODE\0":
        ways = [body.decode(order, "replace").rstrip("\0") for order in ("utf-16-be", "utf-16-le")]
        best = max(ways, key=lambda way: sum(" " <= c <= "~" for c in way[-99:]))
        return best.removeprefix("\ufeff")
    body = body if code in (b"ASCII\0\0\0", b"JIS\0\0\0\0\0", bytes(8)) else raw
    try:
        return body.decode().rstrip("\0")
    except UnicodeDecodeError:
        return body.decode("latin-1").rstrip("\0")
