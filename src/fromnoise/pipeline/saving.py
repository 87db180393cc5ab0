"""Pictures → files that carry their settings."""

from pathlib import Path

from PIL import Image, PngImagePlugin

from fromnoise.errors import BadInput


def save_picture(picture: Image.Image, path: Path, quality: int | str | None = None) -> Path:
    """Writes a PNG with the picture's `info["parameters"]` as a text chunk, or a JPEG or WebP file,
    as its suffix says, of a quality: see exif.keywords. Gives the path; raises BadInput if it
    cannot."""
    text, how = PngImagePlugin.PngInfo(), {}
    if "parameters" in picture.info:
        text.add_text(
            "parameters", picture.info["parameters"]
        )  # Latin-1 where it can be, else UTF-8 (iTXt)
    if path.suffix.lower() != ".png" or quality is not None:
        from fromnoise.pipeline.provenance.exif import choose_save_options  # only for other files

        how = choose_save_options(path.suffix, picture.info.get("parameters"), quality)
    if picture.mode == "RGBA" and how.get("format") == "JPEG":
        from fromnoise.pipeline.pictures import flatten  # only for edits of transparent pictures

        picture = flatten(picture)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, **how or {"format": "PNG", "pnginfo": text})
    except OSError as error:
        raise BadInput(
            f"cannot write {path}: {error.strerror or error}", "choose another place with --out"
        ) from error
    return path
