"""The options of ControlNets and T2I-Adapters, paired in their order."""

import re
from pathlib import Path
from typing import Any

from fromnoise.errors import BadInput

NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
PLACE = re.compile(rf"(.+?)(?::({NUMBER}))?(?:@({NUMBER})?-({NUMBER})?)?")  # name:weight@start-end
PREPROCESS = re.compile(rf"([a-z_]+)(?::({NUMBER}))?(?::({NUMBER}))?")


def parse_controls(
    control: list[str] | None = None,
    control_image: list[str] | None = None,
    control_mode: list[str] | None = None,
    control_resize: list[str] | None = None,
    control_preprocess: list[str] | None = None,
    control_kind: list[str] | None = None,
) -> list[dict[str, Any]]:
    """The controls that these options stand for. The first picture, mode and so on is of the first
    network, the second of the second; a picture `-` is none, which shows what is edited, and a
    kind `-` is none. Raises BadInput for more of them than networks."""
    networks = control or []
    more = {"image": control_image, "mode": control_mode, "resize": control_resize}
    more |= {"preprocess": control_preprocess, "kind": control_kind}
    found = [parse_network(text) for text in networks]
    for name, values in more.items():
        if len(values or []) > len(networks):
            option = "control-" + name
            raise BadInput(
                f"--{option} is given {len(values or [])} times, and --control {len(networks)}",
                "give one --control for each of them",
            )
        for item, value in zip(found, values or [], strict=False):
            if name == "preprocess":
                item |= parse_preprocess(value)
            elif name not in ("image", "kind") or value != "-":
                item[name] = value
    return found


def parse_network(text: str) -> dict[str, Any]:
    """ "NAME:0.6@0-0.8" → its name or file, weight, start and end. Raises BadInput."""
    if Path(text).expanduser().exists() and ("/" in text or Path(text).suffix):
        return name_path(text)
    match = PLACE.fullmatch(text)
    if match is None:
        raise BadInput(f"cannot read {text!r}", "write it as NAME, NAME:0.6 or NAME:0.6@0-0.8")
    named = zip(("weight", "start", "end"), match.groups()[1:], strict=True)
    return name_path(match[1]) | {name: float(value) for name, value in named if value}


def name_path(text: str) -> dict[str, Any]:
    """A name, or a path where it leads to a file or a folder of diffusers."""
    path = Path(text).expanduser()
    if ("/" in text or path.suffix) and path.exists():
        return {"name": path.name if path.is_dir() else path.stem, "file": path}
    return {"name": text}


def parse_preprocess(text: str) -> dict[str, Any]:
    """ "canny:50:120" → the preprocessor and its numbers. Raises BadInput."""
    match = PREPROCESS.fullmatch(text)
    if match is None:
        raise BadInput(f"cannot read {text!r}", "write it as canny, or canny:100:200")
    numbers = zip(("low", "high"), match.groups()[1:], strict=True)
    return {"preprocess": match[1]} | {name: float(value) for name, value in numbers if value}
