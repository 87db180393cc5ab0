"""Any picture that someone brings → RGB or a mask, or a clear error; never more memory than its
pixels need."""

import hashlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from fromnoise.errors import BadInput, NotFound

PIXELS = 50_000_000  # 200 MB as RGBA
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


def open_picture(source: Path | str | BinaryIO | Image.Image) -> Image.Image:
    """The picture, whole, turned as its EXIF says; of an animation the first frame. Raises
    NotFound, and BadInput for what is no picture, is cut off, has no pixels, or more than PIXELS
    (which is known before they are decoded)."""
    name = source if isinstance(source, str | Path) else "the picture"
    try:
        picture = source if isinstance(source, Image.Image) else Image.open(source, formats=FORMATS)
        if not 0 < picture.width * picture.height <= PIXELS:
            raise BadInput(
                f"{name} has {picture.width}x{picture.height} pixels",
                f"give one of 1 to {PIXELS:,}",
            )
        picture.seek(0)
        picture.load()
        return ImageOps.exif_transpose(picture)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {name}", "look for a slip in its name") from error
    except BadInput:
        raise
    except (
        Image.DecompressionBombError
    ) as error:  # Pillow's own limit is higher, and it knows it sooner
        raise BadInput(
            f"{name} has too many pixels: {error}", f"give one of 1 to {PIXELS:,}"
        ) from error
    except Exception as error:  # Pillow promises no fixed set of errors for files that are broken
        raise BadInput(
            f"cannot read {name}: {error}", f"give a whole picture: {', '.join(FORMATS)}"
        ) from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16 and 32 bits a pixel scaled, not cut off as Pillow's own conversion does."""
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, np.float64)
        top = 1.0 if picture.mode == "F" and values.max(initial=0) <= 1 else 65535.0
        return Image.fromarray(
            (np.nan_to_num(values) / top * 255).round().clip(0, 255).astype(np.uint8)
        )
    return picture


def read_rgb(source: Path | str | BinaryIO | Image.Image) -> Image.Image:
    """A picture in RGB; what is transparent becomes white. Raises as `opened`."""
    picture = _eight_bits(open_picture(source))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert(
            "RGB"
        )
    return picture.convert("RGB")


def read_grey(source: Path | str | BinaryIO | Image.Image) -> Image.Image:
    """How bright a picture is (mode "L"); what is transparent is white. Raises as `opened`."""
    return read_rgb(source).convert("L")


def hash_pixels(picture: Image.Image) -> str:
    """The start of its pixels' SHA-256, by which a replay knows that it is given the same
    picture."""
    return hashlib.sha256(picture.tobytes()).hexdigest()[:10]


def read_mask(source: Path | str | BinaryIO | Image.Image) -> Image.Image:
    """A mask in black and white (mode "L", 0 or 255): white, at least half bright, is painted.
    Raises as `opened`, and BadInput for one without white."""
    found = read_grey(source).point([0] * 128 + [255] * 128)
    if not found.getbbox():
        raise BadInput(
            "the mask has no white in it, so there is nothing to paint",
            "paint white what is to be drawn",
        )
    return found
