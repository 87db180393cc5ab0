"""Options of the command line that are more than one value: name=value, and sizes."""

import json
import re
from contextlib import suppress
from typing import Any

from fromnoise.errors import BadInput


def parse_options(
    sampler_option: list[str] | None = None,
    spacing_option: list[str] | None = None,
    mask_file: list[str] | None = None,
    size: str | None = None,
) -> dict[str, Any]:
    """The fields of a request that these options stand for. Raises BadInput."""
    return {
        "sampler_options": parse_named_values(sampler_option),
        "spacing_options": parse_named_values(spacing_option),
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
