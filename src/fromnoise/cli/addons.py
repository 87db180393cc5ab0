"""Options of the command line that put something on the model."""

import re
from pathlib import Path
from typing import Any

from fromnoise.errors import BadInput

WEIGHED = re.compile(r"(.+?)(?::([+-]?[\d.]+))?(?:@([\d.]+)-([\d.]+))?")  # name:weight@start-end


def parse_addons(
    embedding: list[str] | None = None,
    ip_adapter: list[str] | None = None,
    ip_image: list[str] | None = None,
    image_encoder: str | None = None,
) -> dict[str, Any]:
    """The add-ons that these options stand for. Raises BadInput."""
    adapters = [parse_weighed(text) for text in ip_adapter or []]
    shown: dict[str, list[Path]] = {}
    for text in ip_image or []:
        owner, equals, file = text.partition("=")
        named = equals and any(item["name"] == owner for item in adapters)
        shown.setdefault(owner if named else "", []).append(Path(file if named else text))
    if shown and not adapters:
        raise BadInput("there is a picture to look at, and no IP-Adapter", "give it: --ip-adapter")
    for item in adapters:
        item["pictures"] = shown.get("", []) + shown.get(item["name"], [])
        item["encoder"] = image_encoder and find_place(image_encoder)
        if not item["pictures"]:
            raise BadInput(
                f"the IP-Adapter {item['name']} has no picture to look at",
                "give it with --ip-image FILE",
            )
    return {
        "embeddings": [parse_place(text) for text in embedding or []],
        "ip_adapters": adapters,
    }


def find_place(text: str) -> Path | str:
    """The path of a file or a folder that is there, else a name."""
    path = Path(text).expanduser()
    return path if path.exists() else text


def parse_place(text: str) -> dict[str, Any]:
    """A name in the models' folders, or the path of a file."""
    path = Path(text).expanduser()
    return {"name": path.stem, "file": path} if path.is_file() else {"name": text}


def parse_weighed(text: str) -> dict[str, Any]:
    """ "NAME:0.6@0-0.8" → its name or file, weight, start and end."""
    if Path(text).expanduser().is_file():
        return parse_place(text)
    match = WEIGHED.fullmatch(text)
    if match is None:
        raise BadInput(f"cannot read {text!r}", "write it as NAME, NAME:0.6 or NAME:0.6@0-0.8")
    name, *numbers = match.groups()
    found = zip(("weight", "start", "end"), numbers, strict=True)
    return parse_place(name) | {field: value for field, value in found if value is not None}
