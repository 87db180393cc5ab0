"""How JPEG and WebP files are written, which carry their settings in the comment of EXIF."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from fromnoise.errors import BadInput
from fromnoise.pipeline.request import GenerationRequest

# a suffix without its dot, or a name → the suffix
FORMATS = {"png": ".png", "jpeg": ".jpg", "jpg": ".jpg", "webp": ".webp"}
QUALITY = 90
ROOM = 65_533  # bytes that a segment of a JPEG file holds, the head of EXIF among them
SETTINGS = 4_000  # bytes kept for all but the prompts: some 1,000 are usual


def choose_format(
    out: Path | None, format: str | None, quality: str | None
) -> tuple[str, int | str | None, Callable[[GenerationRequest], None] | None]:
    """The command line's options → (the suffix, the quality for `saving.save_picture`, the check of
    a request before it is drawn).

    Raises BadInput for an option that cannot be used, and for options that contradict each other.
    """
    options = {}
    if out is not None and out.suffix:
        options[f"--out {out.name}"] = out.suffix[1:].lower()
    if format is not None:
        options[f"--format {format}"] = format.lower()
    for option, name in options.items():
        if name not in FORMATS:
            raise BadInput(
                f"cannot write {option}",
                "pictures are .png, .jpg or .webp files; a slash at the end names a folder",
            )
    suffixes = {FORMATS[name] for name in options.values()} or {".png"}
    if len(suffixes) > 1:
        raise BadInput(
            f"{' and '.join(options)} are two formats",
            "leave out --format: the file's name says it",
        )
    [suffix] = suffixes
    is_number = quality is not None and quality.isdecimal() and len(quality) < 9
    level = int(quality or 0) if is_number else quality
    choose_save_options(suffix, None, level)
    return suffix, level, check_fits if suffix == ".jpg" else None


def choose_save_options(
    suffix: str, text: str | None, quality: int | str | None = None
) -> dict[str, Any]:
    """The keywords for Pillow's `save` of a .jpg or .webp file that carries `text`.

    quality: 1 to 100, or "lossless" for WebP. Raises BadInput, also for a text that is too long
    for a JPEG file.
    """
    format = FORMATS.get(suffix[1:].lower())
    if format is None:
        raise BadInput(
            f"cannot write a {suffix or 'nameless'} file", "end its name in .png, .jpg or .webp"
        )
    if format == ".png":
        if quality is not None:
            raise BadInput(
                "a PNG file has no quality: it keeps every pixel",
                "leave it out, or write .jpg or .webp",
            )
        return {}
    if quality == "lossless" and format == ".jpg":
        raise BadInput(
            "no JPEG file is lossless", "write .webp or .png, or give a quality from 1 to 100"
        )
    if quality not in (None, "lossless") and not (isinstance(quality, int) and 1 <= quality <= 100):
        raise BadInput(f"quality {quality!r} cannot be used", "give 1 to 100, or lossless for WebP")
    options: dict[str, Any] = {} if text is None else {"exif": write_exif(text)}
    if format == ".jpg":
        if text is not None and len(options["exif"]) > ROOM:
            raise BadInput(
                f"the settings take {len(options['exif']):,} bytes, "
                f"and a JPEG file holds {ROOM:,} of them",
                "write .webp or .png, which hold any length",
            )
        # with fewer samples of colour than of light, thin lines would lose their colour
        return options | {"format": "JPEG", "quality": quality or QUALITY, "subsampling": 0}
    level = {"lossless": True} if quality == "lossless" else {"quality": quality or QUALITY}
    # exact: the colours of transparent pixels stay as well
    return options | level | {"format": "WEBP", "method": 6, "exact": True}


def check_fits(request: GenerationRequest) -> None:
    """Raises BadInput for prompts that leave no room for the settings in a JPEG file. It is asked
    before the picture is drawn."""
    size = sum(len(text.encode("utf-16-be")) for text in (request.prompt, request.negative_prompt))
    if size > ROOM - SETTINGS:
        raise BadInput(
            f"the prompts take {size:,} bytes, and a JPEG file holds {ROOM - SETTINGS:,} of them",
            "write .webp or .png, which hold any length",
        )


def write_exif(text: str) -> bytes:
    """EXIF data with the text as its comment, for `Image.save(…, exif=…)` as JPEG or WebP.

    The text is in UTF-16, high byte first, as the web UI writes it. A text that itself begins with
    the mark of that order has the mark twice.
    """
    exif, mark = Image.Exif(), "\ufeff" if text.startswith("\ufeff") else ""
    comment = b"UNICODE\0" + (mark + text).encode("utf-16-be")
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    return exif.tobytes()
