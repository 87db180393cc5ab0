"""What a picture says of its ControlNets and T2I-Adapters, in the words of A1111's extension:
`ControlNet 0: "Module: canny, Model: name [hash], Weight: 1, …"`; and the way back."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fromnoise.checkpoints.formats.controlnet import find_weights_of, hash_as_a1111
from fromnoise.errors import BadInput, NotFound, escape
from fromnoise.pipeline import pictures
from fromnoise.pipeline.addon_fields.control import Control
from fromnoise.pipeline.addons.control import find_network, hash_network
from fromnoise.pipeline.addons.preprocessors import PREPROCESSORS

KEY = re.compile(r"ControlNet (\d{1,2})")
PAIR = re.compile(r'(\w[\w ]{0,40}): ("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)')
MODEL = re.compile(r"(.+?)(?: \[([0-9a-f]{8})\])?", re.DOTALL)
LONGEST = 4_000  # signs of what is said of one control
MODES = {
    "balanced": "Balanced",
    "prompt": "My prompt is more important",
    "control": "ControlNet is more important",
    "guess": "Guess",
}
RESIZES = {"stretch": "Just Resize", "crop": "Crop and Resize", "fill": "Resize and Fill"}
# our field → A1111's key
NUMBERS = {
    "weight": "Weight",
    "low": "Threshold A",
    "high": "Threshold B",
    "start": "Guidance Start",
    "end": "Guidance End",
}


def describe_controls(items: Sequence[Control]) -> dict[str, str]:
    """Name → value of what a picture says of its controls."""
    return {f"ControlNet {i}": describe(item) for i, item in enumerate(items)}


def describe(item: Control) -> str:
    place = find_network(item)
    legacy = hash_as_a1111(find_weights_of(place))
    entry = PREPROCESSORS[item.preprocess]
    source = item.image if item.picture is None else item.picture
    usual: dict[str, float] = dict(zip(("low", "high"), entry.usual, strict=False))
    values: dict[str, Any] = {"Module": entry.label, "Model": f"{item.name} [{legacy}]"}
    for name, key in NUMBERS.items():
        value = getattr(item, name)
        value = usual.get(name) if value is None else value
        if value is not None:
            values[key] = repr(value).removesuffix(".0")
        if name == "weight":
            values["Resize Mode"] = RESIZES[item.resize]
    # what is found in the picture is found at the size of the run
    values |= {"Pixel Perfect": bool(entry.usual), "Control Mode": MODES[item.mode]}
    values["Model hash"] = hash_network(place)
    if source is not None:
        values["Image hash"] = pictures.hash_pixels(pictures.read_picture(source))
    return ", ".join(f"{key}: {quote(str(value))}" for key, value in values.items())


def quote(text: str) -> str:
    return json.dumps(text) if re.search('[,:"]', text) or text != text.strip() else text


def unquote(text: str) -> str:
    try:
        return str(json.loads(text)) if text.startswith('"') else text
    except ValueError:
        return text


def read_controls(
    path: Path,
    fields: Mapping[str, str],
    images: Sequence[Path] = (),
    files: Mapping[str, Path] | None = None,
) -> tuple[Control, ...]:
    """The controls of a replay of the picture at `path`. images: what they saw, in their order, of
    those that saw a picture of their own. files: networks that lie in no folder of models, by
    name. Raises BadInput and NotFound, where others, more or fewer are given."""
    found, rest, places = [], [*images], dict(files or {})
    for key in sorted((k for k in fields if KEY.fullmatch(k)), key=lambda k: int(k.split()[1])):
        said = {k: unquote(v) for k, v in PAIR.findall(fields[key][:LONGEST])}
        found.append(read_one(path, key, said, rest, places))
    if rest or places:
        more = next(iter(places.values()), rest[0] if rest else path)
        raise BadInput(f"{path} was drawn without {more}", "leave it out")
    return tuple(found)


def read_one(
    path: Path, key: str, said: dict[str, str], rest: list[Path], places: dict[str, Path]
) -> Control:
    labels = {entry.label: name for name, entry in PREPROCESSORS.items()}
    match = MODEL.fullmatch(said.get("Model", ""))
    if match is None or "Model hash" not in said or said.get("Module") not in labels:
        raise BadInput(
            f"{path} was drawn with {key}: {escape(', '.join(said.values()))}",
            "only this program's own controls can be replayed",
        )
    values: dict[str, Any] = {"name": match[1], "preprocess": labels[said["Module"]]}
    values |= {name: said[k] for name, k in NUMBERS.items() if k in said}
    for name, words, where in (("mode", MODES, "Control Mode"), ("resize", RESIZES, "Resize Mode")):
        known = {label: ours for ours, label in words.items()}
        values |= {name: known[said[where]]} if said.get(where) in known else {}
    if "Image hash" in said:
        if not rest:
            raise BadInput(
                f"{path} was drawn by {match[1]} with a picture (hash {said['Image hash']})",
                "give it with --control-image, in the order of the networks",
            )
        values["image"] = rest.pop(0)
        now = pictures.hash_pixels(pictures.read_picture(values["image"]))
        if now != said["Image hash"]:
            raise BadInput(
                f"{values['image']} is not the picture that {match[1]} saw for {path} "
                f"(hash {now}, then {said['Image hash']})",
                "give the very same pixels",
            )
    try:
        item = Control(**values, file=places.pop(match[1], None))
    except ValueError as error:
        raise BadInput(f"{path}, {key}: {error}", "correct its text") from None
    try:
        place = find_network(item)
        now = hash_network(place)
    except NotFound as error:
        raise NotFound(
            f"{path} was drawn with {escape(match[1])}, which is not here",
            f"give its file with --control, or: {error.remedy}",
        ) from None
    if now != said["Model hash"]:
        raise BadInput(
            f"{place} is not the network {escape(match[1])} that {path} was drawn with "
            f"(hash {now}, then {said['Model hash']})",
            "give the very same file with --control",
        )
    return item
