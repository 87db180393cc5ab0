"""Options of the command line that are more than one value: name=value, and sizes."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from fromnoise.errors import BadInput

NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
SPAN = re.compile(rf"({NUMBER})?-({NUMBER})?")  # of shares: 0.2-0.8
WEIGHTS = re.compile(rf"(.+?):({NUMBER})(?::({NUMBER}))?")


def parse_options(
    sampler_option: list[str] | None = None,
    spacing_option: list[str] | None = None,
    mask_file: list[str] | None = None,
    size: str | None = None,
    size_condition: list[str] | None = None,
    lora: list[str] | None = None,
    embedding: list[str] | None = None,
    ip_adapter: list[str] | None = None,
    ip_image: list[str] | None = None,
    image_encoder: str | None = None,
    **controls: list[str] | None,
) -> dict[str, Any]:
    """The fields of a request that these options stand for; controls: see
    `controls.parse_controls`. Raises BadInput."""
    addons: dict[str, Any] = {"loras": [parse_lora(text) for text in lora]} if lora else {}
    if embedding or ip_adapter or ip_image or image_encoder:
        from fromnoise.cli.addons import parse_addons

        addons |= parse_addons(embedding, ip_adapter, ip_image, image_encoder)
    if controls:
        from fromnoise.cli.controls import parse_controls

        addons |= {"controls": parse_controls(**controls)}
    return {
        **({"addons": addons} if addons else {}),
        "sampler_options": parse_named_values(sampler_option),
        "spacing_options": parse_named_values(spacing_option),
        "size_conditions": parse_pairs(size_condition, "original_width=512"),
        "masks": parse_pairs(mask_file, "left=left.png"),
        **parse_size(size),
    }


def parse_pairs(options: list[str] | None, example: str) -> dict[str, str]:
    """["left=left.png"] → {"left": "left.png"}. Raises BadInput."""
    found = {}
    for text in options or []:
        name, equals, value = text.partition("=")
        if not name.strip() or not equals or not value:
            raise BadInput(
                f"cannot read the option {text!r}", f"write it as name=value, such as {example}"
            )
        found[name.strip()] = value
    return found


def parse_lora(text: str) -> dict[str, Any]:
    """ "paper:0.8@0.2-1" → the LoRA of that name or file, its weight, its weight in the text
    encoders, and the part of the run where it acts. Raises BadInput."""
    values: dict[str, Any] = {}
    body, at, span = text.rpartition("@")
    if at and (found := SPAN.fullmatch(span)):
        text = body
        values |= {k: float(v) for k, v in zip(("start", "end"), found.groups(), strict=True) if v}
    if found := WEIGHTS.fullmatch(text):
        text = found[1]
        weights = zip(("weight", "text_weight"), found.groups()[1:], strict=True)
        values |= {name: float(value) for name, value in weights if value}
    return values | name_file(text)


def name_file(text: str) -> dict[str, Any]:
    """A name, or a path where it leads to a file: the name is then the file's, without its
    ending."""
    path = Path(text).expanduser()
    if ("/" in text or path.suffix) and path.is_file():
        return {"name": path.stem, "file": path}
    return {"name": text}


def parse_named_values(options: list[str] | None) -> dict[str, bool | int | float | str]:
    """["order=2", "exact=true", "solver=heun"] → {"order": 2, "exact": True, "solver": "heun"}.
    Raises BadInput."""
    found: dict[str, Any] = parse_pairs(options, "order=2")
    for name, value in found.items():
        with suppress(ValueError):
            found[name] = json.loads(value.lower() if value.lower() in ("true", "false") else value)
    return found


def parse_size(size: str | None) -> dict[str, int]:
    """ "128" or "192x128" → width and height. Raises BadInput."""
    if size is None:
        return {}
    found = re.fullmatch(r"(\d+)(?:[x×](\d+))?", size.strip().lower())
    if not found:
        raise BadInput(
            f"cannot read the size {size!r}", "write it as 128, or as 192x128 (width x height)"
        )
    return {"width": int(found[1]), "height": int(found[2] or found[1])}
