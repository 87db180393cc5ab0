"""The files and folders that the user names with --out, and the pictures that are there already."""

import os
from pathlib import Path
from typing import Any

from fromnoise.rare_files import list_names

# an --out that ends so is a file; whether it can be written is asked later
MEDIA = (  # noqa: SIM905
    ".png .jpg .jpeg .webp .gif .mp4 .bmp .tif .tiff .avif .heic .jxl .jp2 .psd .svg .pdf .apng "
    ".ico .ppm .tga .mov .mkv .webm .avi"
).split()


def split_out(out: str | Path | None) -> tuple[Path | None, Path]:
    """(the file that --out names, or None; the folder that it names, or that the file is in).

    A folder is what is one, what ends in a slash, and what does not end like a picture or a film:
    "v1.5" is a folder. A device or a pipe is a file.
    """
    path = Path(out or "")
    is_named_folder = str(out or "").endswith((os.sep, os.altsep or os.sep))
    if not out or is_named_folder or os.path.isdir(path):
        return None, path
    is_device = os.path.exists(path) and not os.path.isfile(path)
    if is_device or path.suffix.lower() in MEDIA:
        return path, path.parent
    return None, path


def choose_output(
    out: str | None, format: str | None, quality: str | None
) -> tuple[tuple[Path | None, Path], tuple[Any, ...]]:
    """(what --out names, see `split_out`; suffix, quality and check of the files, see
    `exif.choose_format`)."""
    from fromnoise.pipeline.provenance.exif import choose_format

    file, folder = split_out(out)
    return (file, folder), choose_format(file, format, quality)


def find_drawn(path: Path, text: str) -> Path | None:
    """The file of the picture that has these settings, at `path` or at a numbered name of it (see
    `write_file`); None where there is none that can be read to its end."""
    if not path.exists():
        return None
    from fromnoise.errors import FromnoiseError
    from fromnoise.pipeline.decoding import open_picture
    from fromnoise.pipeline.provenance.read import read_text

    for place in list_names(path):
        if not os.path.lexists(place):
            return None
        try:
            if read_text(place) == text:
                open_picture(place)
                return place
        except (FromnoiseError, OSError):  # cut off, no picture, or not to be read
            continue
    return None


def cut_name(stem: str, end: str) -> str:
    """As much of a name as leaves room for its end and a number: file systems take 255 bytes."""
    room = 240 - len(os.fsencode(end))
    raw = os.fsencode(stem)
    return raw[:room].decode("utf-8", "ignore") if len(raw) > room else stem
