"""What a file says of itself: PNG, JPEG and WebP pictures, GIFs and MP4s. Needs no torch."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any, BinaryIO

from fromnoise.errors import BadInput
from fromnoise.pipeline.provenance import others
from fromnoise.pipeline.provenance.comfyui import is_graph, read_comfyui
from fromnoise.pipeline.provenance.containers import FileTexts, read_file_texts, read_texts
from fromnoise.pipeline.provenance.infotext import (
    LONGEST,
    Infotext,
    find_maker,
    parse,
    parse_value,
)

SURE = {"Steps", "Seed", "Sampler", "CFG scale"}  # two of them make a comment settings
XMP_TEXT = 1 << 18  # characters of a text in XMP: each may be an entity
REMEDY = "give the file as the program saved it: most sites and editors strip the settings"


def read_text(path: Path | str) -> str | None:
    """The text of a PNG, JPEG, WebP, GIF or MP4 file in the web UI's format; None where it has
    none. Raises NotFound; BadInput for a file that is no picture, is broken before the text or
    claims too many pixels."""
    found = _read_texts(Path(path))
    return next((text for text in _find_infotexts(found.texts)), None)


def find_text(file: BinaryIO) -> str | None:
    """As `read_text`, of an open picture file; None also where it cannot be read."""
    try:
        return next(_find_infotexts(read_texts(file, "the picture").texts), None)
    except BadInput:
        return None


def read_settings(path: Path | str) -> Infotext:
    """What a picture says of itself, by whichever program. Raises as `read_text`, and BadInput
    where it says nothing, or nothing that can be read; the message says why."""
    return _settle(_read_texts(Path(path)), Path(path), path)


def read_open_settings(file: BinaryIO, name: str = "the picture") -> Infotext:
    """As `read_settings`, of an open file."""
    found = read_texts(file, name)
    file.seek(0)
    return _settle(found, file, name)


def _settle(found: FileTexts, place: Path | BinaryIO, name: object) -> Infotext:
    info = _identify(found.texts, found.skipped)
    if info is None and found.kind in ("PNG", "WebP"):
        info = _read_hidden(place, found)
    if info is None:
        if not found.skipped:
            raise BadInput(f"{name} says nothing of how it was made", REMEDY)
        why = "; ".join(f"{key}: {reason}" for key, reason in list(found.skipped.items())[:9])
        raise BadInput(f"{name} says nothing of how it was made that can be read ({why})", REMEDY)
    unread = {key: f"not read ({reason})" for key, reason in found.skipped.items()}
    return replace(info, skipped=unread | info.skipped) if unread else info


def parse_settings(text: str) -> Infotext:
    """A text by itself: the web UI's format, or JSON that a program writes. Raises BadInput for
    JSON that is not known, and for a text that is too long."""
    if _is_infotext(text):
        return parse(text)
    skipped: dict[str, str] = {}
    info = _identify({"parameters": text, "prompt": text}, skipped)
    if info is None:
        raise BadInput(
            f"this JSON says nothing that can be read ({'; '.join(skipped.values())})",
            "give the text that A1111 shows below its pictures, or a picture itself",
        )
    return info


def _read_texts(path: Path) -> FileTexts:
    if path.suffix.lower() == ".mp4":
        from fromnoise.pipeline.video import read_comment  # which asks for PyAV

        text = read_comment(path)
        return FileTexts("MP4", {"comment": text} if text else {})
    return read_file_texts(path)


def _find_infotexts(texts: dict[str, str]) -> Iterator[str]:
    """The texts in the web UI's format: what its own keyword holds, and comments that have
    settings. A comment of a camera or an editor has none."""
    own = texts.get("parameters", "")
    if own.strip() and len(own) <= LONGEST and _is_infotext(own):
        yield own
    loose = (texts.get(name, "") for name in ("exif:UserComment", "exif:ImageDescription"))
    for text in (*loose, texts.get("comment", ""), *_read_xmp(texts.get("xmp", ""))):
        if not text.strip() or len(text) > LONGEST or not _is_infotext(text):
            continue
        if _has_settings(parse(text).fields):
            yield text


def _is_infotext(text: str) -> bool:
    """Whether a text is the web UI's and no JSON. A prompt may begin with a brace as JSON does
    (`{red|blue} fox`, `{{masterpiece}}`): then the line of settings below it decides."""
    if not text.lstrip().startswith("{"):
        return True
    if len(text) > LONGEST or isinstance(parse_value(text), dict):
        return False
    return _has_settings(parse(text).fields)


def _has_settings(fields: dict[str, str]) -> bool:
    """Whether a comment is the web UI's text: of a drawing, of its "Extras", or of ours."""
    return (
        len(SURE & fields.keys()) >= 2
        or "Postprocess upscaler" in fields
        or find_maker(fields) == "fromnoise"
    )


def _read_xmp(xmp: str) -> Iterator[str]:
    """Texts that programs put into XMP: stable-diffusion.cpp its parameters, Draw Things JSON."""
    for name in ("sdcpp:parameters", "exif:UserComment", "dc:description"):
        begin = xmp.find(f"<{name}>")
        begin = xmp.find(f"<{name} ") if begin < 0 else begin
        end = xmp.find(f"</{name}>", begin) if begin >= 0 else -1
        if end >= 0:
            start = xmp.find(">", begin, end) + 1
            inside = xmp[start : min(end, start + XMP_TEXT)]
            yield unescape(re.sub(r"<[^<>]*>", "", inside)).strip()


def _identify(texts: dict[str, str], skipped: dict[str, str]) -> Infotext | None:
    """The settings in a file's texts, the surest first; `skipped` gains what is known and not
    read."""
    info = _read_keywords(texts, skipped)
    if info is not None:
        return info
    for text in _find_infotexts({**texts, "parameters": ""}):
        return parse(text)
    loose = ("exif:UserComment", "exif:ImageDescription", "comment", "exif:Make", "exif:Model")
    candidates = [(name, texts.get(name, "")) for name in loose]
    candidates += [("xmp", text) for text in _read_xmp(texts.get("xmp", ""))]
    for name, text in candidates:
        text = text.strip()
        graph = re.match(r"prompt:\s*", text, re.IGNORECASE)  # ComfyUI's, in EXIF
        data = _load_object(text[graph.end() :] if graph else text, name, skipped)
        if data and (info := _read_object(data, name, skipped)):
            return info
    if "workflow" in texts or texts.get("exif:Make", "").lower().startswith("workflow:"):
        skipped.setdefault("workflow", "ComfyUI's editor writes it, and it does not say what ran")
    return None


def _read_keywords(texts: dict[str, str], skipped: dict[str, str]) -> Infotext | None:
    """The settings under a keyword that programs have for them."""
    own = texts.get("parameters", "")
    if not _is_infotext(own):
        data = _load_object(own, "parameters", skipped)
        if data and (info := _read_object(data, "parameters", skipped)):
            return info
    elif len(own) > LONGEST:
        skipped["parameters"] = f"a text of {len(own):,} characters is too long for settings"
    elif own.strip():
        return parse(own)
    for name in ("invokeai_metadata", "sd-metadata", "generation_data"):
        data = _load_object(texts.get(name, "").rstrip("\0"), name, skipped)
        if data and (info := _read_object(data, name, skipped)):
            return info
    if info := others.read_dream(texts.get("dream", "")):
        return info
    if {"num_inference_steps", "guidance_scale", "guidance scale"} & texts.keys():
        return others.read_easy_diffusion(texts)
    graph = _load_object(texts.get("prompt", ""), "prompt", skipped)
    if graph and (info := _read_object(graph, "prompt", skipped)):
        return info
    if "novelai" in texts.get("software", "").lower():
        data = _load_object(texts.get("comment", ""), "comment", skipped)
        if data:
            return others.read_novelai(data, texts)
    return None


def _load_object(text: str, name: str, skipped: dict[str, str]) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    if len(text) > LONGEST:
        skipped[name] = f"JSON of {len(text):,} characters is too long for settings"
        return None
    data = parse_value(text)
    if not isinstance(data, dict):
        skipped[name] = "its JSON is broken"
        return None
    return data


def _read_object(data: dict[str, Any], name: str, skipped: dict[str, str]) -> Infotext | None:
    """A graph, also beside its workflow, or another program's JSON."""
    graph = data.get("prompt") if is_graph(data.get("prompt")) else data
    if is_graph(graph) and isinstance(graph, dict):
        if info := read_comfyui(graph):
            return info
        skipped[name] = "it is a ComfyUI graph without a sampler that is known"
        return None
    if info := others.read_json(data):
        return info
    skipped[name] = "it is JSON of a program that is not known"
    return None


def _read_hidden(place: Path | BinaryIO, found: FileTexts) -> Infotext | None:
    """What is hidden in the pixels, where nothing else is said."""
    from fromnoise.pipeline.provenance import hidden  # only here pixels are decoded

    width, height = found.size or (0, 0)
    if not 0 < width * height <= hidden.PIXELS:
        return None
    try:
        text = hidden.read_hidden_text(place)
    except BadInput:  # pixels that are broken hide nothing
        return None
    if not text or not text.strip():
        return None
    if _is_infotext(text):
        return parse(text)
    data = _load_object(text, "hidden text", found.skipped)
    if data is None:
        return None
    inner = {str(k).lower(): v for k, v in data.items() if isinstance(v, str)}
    return _identify(inner, found.skipped) or _read_object(data, "hidden text", found.skipped)
