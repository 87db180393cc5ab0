"""Any picture that someone brings → 8 bits of sRGB, or a mask, or a clear error.

This is the one gate of pictures for `edit`, `blend`, `describe`, `similarity`, `upscale` and masks:
`decoding` opens the file, this file gives its values one meaning. Colour profiles are converted to
sRGB here, on reading, so that no picture carries one afterwards.
"""

import hashlib
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
from PIL import Image

from fromnoise.errors import BadInput
from fromnoise.pipeline.decoding import BAD_PROFILE, FORMATS, Notes, Source, open_picture

STRIP = 1_000_000  # pixels that are floats at once
SAME = 2  # levels: a profile that changes no colour by more is sRGB, written by another program
HALF = 128  # the first level that counts as white, or as opaque
SPACES = {  # colour space of a profile → the mode of the pixels that it is for
    "RGB": "RGB",
    "GRAY": "L",
    "CMYK": "CMYK",
    "Lab": "LAB",
}


def read_picture(source: Source, notes: Notes | None = None) -> Image.Image:
    """A picture as 8 bits of sRGB: "RGB", or "RGBA" where any pixel is not opaque.

    The result has an empty `info`: neither a profile nor EXIF data reach the files that are
    written of it. `notes` is told what is lost. Raises as `decoding.open_picture`.
    """
    notes = {} if notes is None else notes
    picture = open_picture(source, notes)
    try:
        colours, alpha = _split_alpha(picture, notes)
        colours = _convert_to_srgb(colours, picture.info, notes, picture is source)
    except BadInput:
        raise
    except Exception as error:  # Pillow promises no fixed set of errors
        raise BadInput(
            f"cannot read a picture of mode {picture.mode}: {error}",
            f"give a whole picture: {', '.join(FORMATS)}",
        ) from error
    if alpha is not None:
        colours = colours.convert("RGBA")
        colours.putalpha(alpha)
    elif colours is source and colours.info:
        colours = colours.copy()
    if colours is not source:
        colours.info = {}
    return colours


def read_rgb(source: Source, notes: Notes | None = None) -> Image.Image:
    """A picture in RGB; what is transparent becomes white. Raises as `read_picture`."""
    return flatten(read_picture(source, notes))


def flatten(picture: Image.Image) -> Image.Image:
    """An "RGB" or "RGBA" picture laid on white, "RGB"."""
    if picture.mode != "RGBA":
        return picture
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def read_soft_mask(source: Source, notes: Notes | None = None) -> Image.Image:
    """How much of each pixel a mask holds, mode "L", 0 to 255.

    Where parts of the picture are transparent, its alpha channel says so, whatever colour the
    paint has; a picture that is opaque everywhere is as white as it is bright. Raises as
    `read_picture`, and BadInput for a mask that is transparent everywhere.
    """
    notes = {} if notes is None else notes
    picture = read_picture(source, notes)
    if picture.mode == "RGB":
        return picture.convert("L")
    alpha = picture.getchannel("A")
    values = np.asarray(alpha)
    lowest, highest = int(values.min()), int(values.max())
    if highest == 0:
        raise BadInput(
            "the mask is transparent everywhere, so there is nothing to paint",
            "paint what is to be drawn, in any colour",
        )
    if lowest >= HALF:
        return picture.convert("RGB").convert("L")
    share = np.count_nonzero(values >= HALF) / values.size
    notes[f"the mask is read from its transparency: what is opaque is drawn, {share:.0%} of it"] = (
        None
    )
    return alpha


def read_mask(source: Source, notes: Notes | None = None) -> Image.Image:
    """A mask in black and white (mode "L", 0 or 255): white, at least half bright or half opaque,
    is painted; see `read_soft_mask`.

    A mask that is white everywhere is noted. Raises as `read_soft_mask`, and BadInput for one
    without white.
    """
    notes = {} if notes is None else notes
    mask = read_soft_mask(source, notes).point([0] * HALF + [255] * (256 - HALF))
    if not mask.getbbox():
        raise BadInput(
            "the mask has no white in it, so there is nothing to paint",
            "paint white what is to be drawn",
        )
    if mask.getextrema() == (255, 255):
        notes["the mask is white everywhere: the whole picture is redrawn"] = None
    return mask


def hash_pixels(picture: Image.Image) -> str:
    """The start of the SHA-256 of a picture's pixels. A replay compares it, to know that it is
    given the same picture."""
    return hashlib.sha256(picture.tobytes()).hexdigest()[:10]


def _split_alpha(picture: Image.Image, notes: Notes) -> tuple[Image.Image, Image.Image | None]:
    """(the colours in 8 bits, of a mode without alpha; the alpha channel, or None where every pixel
    is opaque)."""
    clear, alpha = picture.info.get("transparency"), None
    if picture.mode.startswith("I") or picture.mode == "F":
        if isinstance(clear, int):
            alpha = _map_strips(picture, lambda values: np.where(values == clear, 0, 255))
        return _scale_to_bytes(picture, notes), alpha
    if picture.mode in ("La", "RGBa"):
        picture = picture.convert({"La": "LA", "RGBa": "RGBA"}[picture.mode])
    elif picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    elif picture.mode in ("1", "L", "RGB") and clear is not None:
        try:
            picture = picture.convert("RGBA" if picture.mode == "RGB" else "LA")
        except (TypeError, ValueError):
            notes["the picture's transparent colour cannot be read: it is left out"] = None
    if picture.mode not in ("LA", "RGBA"):
        return picture, None
    alpha = picture.getchannel("A")
    colours = picture.convert(picture.mode.removesuffix("A"))
    return colours, None if alpha.getextrema()[0] == 255 else alpha


def _map_strips(picture: Image.Image, change: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    """A picture of mode "L" whose levels are `change` of the values, strip by strip."""
    pixels = np.empty((picture.height, picture.width), np.uint8)
    for top, values in _iterate_strips(picture):
        pixels[top : top + len(values)] = change(values)
    return Image.fromarray(pixels)


def _iterate_strips(picture: Image.Image) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, values) of strips of a grey picture, so that it is never all floats at once."""
    rows = max(1, STRIP // picture.width)
    for top in range(0, picture.height, rows):
        strip = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        yield top, np.asarray(strip)


def _scale_to_bytes(picture: Image.Image, notes: Notes) -> Image.Image:
    """Grey values of 16 bits, 32 bits or floats as 8 bits, scaled; Pillow's own conversion clips
    them.

    Floats are from 0 to 1, and what is beyond is clipped; where most are larger than 1 they are
    levels of 255 or 65,535. Integers of 32 bits are levels of 65,535, of 2^31 − 1 where one is
    larger, and of 255 where none is.
    """
    if picture.mode not in ("F", "I"):
        levels = _to_levels(np.arange(65536.0), 65535.0).astype(np.uint8)
        return _map_strips(picture, lambda values: levels[values])
    top, most, bright, missing = 65535.0, 0.0, 0, 0
    for _, values in _iterate_strips(picture):
        most = max(most, float(np.fmax.reduce(values, axis=None)))
        bright += np.count_nonzero(values > 1)
        missing += np.count_nonzero(values != values)
    if picture.mode == "F":
        if most <= 16 or 2 * bright <= picture.width * picture.height - missing:
            top = 1.0
            if bright:
                notes[f"{bright:,} pixels are brighter than 1: they become white"] = None
        else:
            top = 255.0 if most <= 255 else 65535.0
            notes[f"the picture's values go up to {most:g}: {top:,.0f} is taken as white"] = None
    elif most > top:
        top = 2.0**31 - 1
    elif 0 < most <= 255:  # as Pillow's convert("I") makes them of 8 bits
        top = 255.0
        notes[f"the picture's values go up to {most:g}: 255 is taken as white"] = None
    if missing:
        notes[f"{missing:,} pixels are no number (NaN): they become black"] = None
    return _map_strips(picture, lambda values: _to_levels(values, top))


def _to_levels(values: np.ndarray, top: float) -> np.ndarray:
    """Values from 0 to `top` as whole numbers from 0 to 255, what is beyond clipped; NaN is 0."""
    levels = values.astype(np.float64)
    levels[np.isnan(levels)] = 0
    levels /= top
    levels *= 255
    return np.clip(np.rint(levels, out=levels), 0, 255, out=levels)


def _convert_to_srgb(colours: Image.Image, info: dict, notes: Notes, shared: bool) -> Image.Image:
    """Colours of any mode as "RGB", from the profile that `info` has to sRGB.

    The intent is relative colorimetric with black point compensation. Pixels whose profile is
    sRGB in all but name, is broken, or is for other pixels, stay as they are. shared: the pixels
    are not to be changed in place."""
    profile, gamma = info.get("icc_profile"), info.get("gamma")
    if profile or colours.mode == "LAB":
        from PIL import ImageCms  # only for pictures that need it

        try:
            return _apply_profile(ImageCms, colours, profile, shared)
        except Exception as error:  # of Little CMS, for what is no profile, or none for these
            notes[BAD_PROFILE] = None
            if colours.mode == "LAB":
                raise BadInput("Lab colours cannot be converted", "save it as RGB") from error
    if isinstance(gamma, float) and gamma > 0 and "srgb" not in info and not profile:
        power = 1 / 2.2 / gamma  # PNG 12.1: a sample is light to the power of gamma
        if abs(power - 1) > 0.05 and colours.mode in ("L", "RGB"):
            levels = [round(255 * (v / 255) ** power) for v in range(256)]
            colours = colours.point(levels * len(colours.getbands()))
    return colours if colours.mode == "RGB" else colours.convert("RGB")


def _apply_profile(cms, colours: Image.Image, profile: bytes | None, shared: bool) -> Image.Image:
    """`colours` in sRGB. Raises anything for a profile that cannot be used."""
    source = cms.ImageCmsProfile(BytesIO(profile)) if profile else cms.createProfile("LAB")
    space = source.profile.xcolor_space.strip() if profile else "Lab"
    mode = SPACES[space]
    fitting = {"RGB": ("1", "L", "YCbCr", "HSV", "RGBX"), "L": ("1",)}
    if colours.mode != mode:
        if colours.mode not in fitting.get(mode, ()):
            raise ValueError(f"a profile of {space} for pixels of {colours.mode}")
        colours, shared = colours.convert(mode), False
    transform = cms.buildTransform(
        source,
        cms.createProfile("sRGB"),
        mode,
        "RGB",
        cms.Intent.RELATIVE_COLORIMETRIC,
        cms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode == "RGB":
        levels = np.linspace(0, 255, 17).round().astype(np.uint8)
        grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(17, -1, 3)
        after = np.asarray(cms.applyTransform(Image.fromarray(grid), transform), np.int16)
        if np.abs(after - grid).max() <= SAME:
            return colours
        if not shared:
            cms.applyTransform(colours, transform, inPlace=True)
            return colours
    return cms.applyTransform(colours, transform)
