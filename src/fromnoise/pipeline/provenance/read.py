"""What a file says of itself: PNG, JPEG and WebP pictures, GIFs and MP4s. Needs no torch."""

from pathlib import Path

from PIL import ExifTags, Image

from fromnoise.errors import BadInput, NotFound
from fromnoise.pipeline.provenance.infotext import Infotext, parse, parse_value
from fromnoise.pipeline.provenance.others import read_comfyui, read_invokeai

CHUNKS = (
    "parameters",
    "prompt",
    "invokeai_metadata",
)  # A1111's, ComfyUI's and InvokeAI's, in PNG files


def read_text(path: Path | str) -> str | None:
    """The text of a PNG, JPEG, WebP, GIF or MP4 file in the web UI's format; None where it has
    none. Raises NotFound; BadInput for a file that is no picture, is broken before the text or
    claims too many pixels."""
    return _read_texts(Path(path)).get("parameters")


def read_settings(path: Path | str) -> Infotext:
    """What a picture says of itself, by whichever program. Raises as `read_text`, and BadInput
    where it says nothing."""
    texts = _read_texts(Path(path))
    if "parameters" in texts:
        return parse(texts["parameters"])
    for chunk, translated in (("invokeai_metadata", read_invokeai), ("prompt", read_comfyui)):
        content = parse_value(texts.get(chunk, ""))
        if isinstance(content, dict) and (info := translated(content)):
            return info
    raise BadInput(
        f"{path} says nothing of how it was made",
        "give the file as the program saved it: most sites and editors strip the settings",
    )


def _read_texts(path: Path) -> dict[str, str]:
    """CHUNKS → their text, those that are there. No pixel is decoded, but in PNG files that have
    none of them before their pixels and may have one behind."""
    if path.suffix.lower() == ".mp4":
        from fromnoise.pipeline.video import read_comment  # which asks for PyAV

        return {"parameters": said} if (said := read_comment(path)) else {}
    try:
        with Image.open(path) as picture:
            texts = {k: v for k, v in picture.info.items() if k in CHUNKS and isinstance(v, str)}
            large = picture.width * picture.height > (Image.MAX_IMAGE_PIXELS or 2**62)
            if picture.format == "GIF" and isinstance(film := picture.info.get("comment"), bytes):
                return {"parameters": film.decode(errors="replace")}
            if texts or (picture.format == "PNG" and large):
                return texts
            exif = picture.getexif()  # reads a PNG file to its end
            texts = {k: v for k, v in picture.info.items() if k in CHUNKS and isinstance(v, str)}
            if read_comment := exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment):
                texts.setdefault(
                    "parameters",
                    read_comment
                    if isinstance(read_comment, str)
                    else _comment(bytes(read_comment)),
                )
            if str(graph := exif.get(ExifTags.Base.Model, "")).startswith(
                "prompt:"
            ):  # ComfyUI's, in WebP
                texts.setdefault("prompt", graph.removeprefix("prompt:").rstrip("\0"))
            return texts
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", "look for a slip in its name") from error
    except Image.DecompressionBombError as error:
        raise BadInput(
            f"{path} claims too many pixels: {error}", "give a smaller picture"
        ) from error
    except Exception as error:  # Pillow promises no fixed set of errors for files that are broken
        raise BadInput(
            f"cannot read {path}: {error}", "give a whole PNG, JPEG, WebP or GIF file"
        ) from error


def _comment(raw: bytes) -> str:
    """EXIF 2.32's UserComment, eight bytes that name the code and the text. Writers disagree on
    UTF-16's order: the one in which more of its end is ASCII, as the settings are, whatever the
    prompt is written in."""
    code, body = raw[:8], raw[8:]
    if code == b"UNICODE\0":
        ways = [body.decode(order, "replace").rstrip("\0") for order in ("utf-16-be", "utf-16-le")]
        return max(ways, key=lambda way: sum(" " <= c <= "~" for c in way[-99:])).removeprefix(
            "\ufeff"
        )
    body = body if code in (b"ASCII\0\0\0", bytes(8)) else raw
    try:
        return body.decode().rstrip("\0")
    except UnicodeDecodeError:
        return body.decode("latin-1").rstrip("\0")
