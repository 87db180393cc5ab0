"""JPEG and WebP files that carry their settings, as EXIF's comment; how pictures are written that
are not PNG files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from fromnoise.errors import BadInput
from fromnoise.pipeline.request import GenerationRequest

FORMATS = {
    "png": ".png",
    "jpeg": ".jpg",
    "jpg": ".jpg",
    "webp": ".webp",
}  # suffix without its dot, or name → suffix
QUALITY = 90
ROOM = 65_533  # bytes that a segment of a JPEG file holds, EXIF's own head among them
SETTINGS = 4_000  # bytes kept for what is no prompt: some 1,000 are usual


def choose_format(
    out: Path | None, format: str | None, quality: str | None
) -> tuple[str, int | str | None, Callable[[GenerationRequest], None] | None]:
    """(suffix, quality for `saving.save_picture`, what checks a request before it is drawn) of the
    command line's words. Raises BadInput for words that are none, or that do not go together."""
    asked = {} if out is None or not out.suffix else {f"--out {out.name}": out.suffix[1:].lower()}
    asked |= {} if format is None else {f"--format {format}": format.lower()}
    for words, name in asked.items():
        if name not in FORMATS:
            raise BadInput(
                f"cannot write {words}",
                "pictures are .png, .jpg or .webp files, and folders have no dot",
            )
    suffixes = {FORMATS[name] for name in asked.values()} or {".png"}
    if len(suffixes) > 1:
        raise BadInput(
            f"{' and '.join(asked)} are two formats", "leave out --format: the file's name says it"
        )
    [suffix] = suffixes
    level = int(quality) if quality is not None and quality.isdecimal() else quality
    choose_save_options(suffix, None, level)
    return suffix, level, check_fits if suffix == ".jpg" else None


def choose_save_options(
    suffix: str, text: str | None, quality: int | str | None = None
) -> dict[str, Any]:
    """What Pillow's `save` is told for a .jpg or .webp file that carries `text`; quality: 1 to 100,
    or "lossless" for WebP. Raises BadInput, also for a text that is too long for JPEG."""
    kind = FORMATS.get(suffix[1:].lower())
    if kind is None:
        raise BadInput(
            f"cannot write a {suffix or 'nameless'} file", "end its name in .png, .jpg or .webp"
        )
    if kind == ".png":
        if quality is not None:
            raise BadInput(
                "a PNG file has no quality: it keeps every pixel",
                "leave it out, or write .jpg or .webp",
            )
        return {}
    if quality == "lossless" and kind == ".jpg":
        raise BadInput(
            "no JPEG file is lossless", "write .webp or .png, or give a quality from 1 to 100"
        )
    if quality not in (None, "lossless") and not (isinstance(quality, int) and 1 <= quality <= 100):
        raise BadInput(f"quality {quality!r} cannot be used", "give 1 to 100, or lossless for WebP")
    said = {} if text is None else {"exif": write_exif(text)}
    if kind == ".jpg":
        if text is not None and len(said["exif"]) > ROOM:
            raise BadInput(
                f"the settings take {len(said['exif']):,} bytes, "
                f"and a JPEG file holds {ROOM:,} of them",
                "write .webp or .png, which hold any length",
            )
        return said | {
            "format": "JPEG",
            "quality": quality or QUALITY,
            "subsampling": 0,
        }  # else thin lines lose colour
    level = {"lossless": True} if quality == "lossless" else {"quality": quality or QUALITY}
    return said | level | {"format": "WEBP", "method": 6, "exact": True}


def check_fits(request: GenerationRequest) -> None:
    """Raises BadInput for prompts that would leave no room for the settings in a JPEG file: before
    it is drawn."""
    size = sum(len(text.encode("utf-16-be")) for text in (request.prompt, request.negative_prompt))
    if size > ROOM - SETTINGS:
        raise BadInput(
            f"the prompts take {size:,} bytes, and a JPEG file holds {ROOM - SETTINGS:,} of them",
            "write .webp or .png, which hold any length",
        )


def write_exif(text: str) -> bytes:
    """EXIF data with the text as its comment, for `Image.save(…, exif=…)` as JPEG or WebP: UTF-16,
    high byte first, as the web UI writes it (a text that itself begins with the mark of that order
    has it twice)."""
    exif, marked = Image.Exif(), "\ufeff" if text.startswith("\ufeff") else ""
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + (
        marked + text
    ).encode("utf-16-be")
    return exif.tobytes()
