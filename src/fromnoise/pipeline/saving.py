"""Pictures → files that carry their settings."""

from io import BytesIO
from pathlib import Path

from PIL import Image, PngImagePlugin

from fromnoise.files import write_file


def save_picture(
    picture: Image.Image,
    path: Path,
    quality: int | str | None = None,
    overwrite: bool = True,
    suffix: str | None = None,
) -> Path:
    """Writes a picture with its `info["parameters"]`, see `exif.choose_save_options`; its path.

    The path's suffix says the format; `suffix` says it where the path has none, as a device.
    overwrite=False: a name that is taken gets a number, see `files.write_file`. Raises BadInput."""
    text, options = PngImagePlugin.PngInfo(), {}
    if "parameters" in picture.info:
        text.add_text("parameters", picture.info["parameters"])  # Latin-1, else UTF-8 (iTXt)
    kind = path.suffix.lower() or suffix or ""
    if kind != ".png" or quality is not None:
        from fromnoise.pipeline.provenance.exif import choose_save_options  # for other files

        options = choose_save_options(kind, picture.info.get("parameters"), quality)
    if picture.mode == "RGBA" and options.get("format") == "JPEG":
        from fromnoise.pipeline.pictures import flatten  # only for edits of transparent pictures

        picture = flatten(picture)
    options = options or {"format": "PNG", "pnginfo": text}
    data = BytesIO()  # Pillow does not notice when a full disk cuts off a JPEG file
    picture.save(data, **options)
    return write_file(path, lambda part: part.write_bytes(data.getbuffer()), overwrite=overwrite)
