"""What a picture says of its ControlNets and T2I-Adapters, in the words of A1111's extension:
`ControlNet 0: "Module: canny, Model: name [hash], Weight: 1, …"`; and the way back."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fromnoise.checkpoints.formats.controlnet import (
    HASHED_FROM,
    find_weights_of,
    hash_as_a1111,
)
from fromnoise.checkpoints.library import list_models
from fromnoise.errors import BadCheckpoint, BadInput, NotFound, escape
from fromnoise.pipeline import pictures
from fromnoise.pipeline.addon_fields.control import Control
from fromnoise.pipeline.addons.control import find_network, hash_network
from fromnoise.pipeline.addons.preprocessors import PREPROCESSORS

KEY = re.compile(r"ControlNet (\d{1,2})")
# how the extension wrote before it had a line for each network
OLD = re.compile(r"ControlNet(?:[- ](\d{1,2}))? ([A-Z][A-Za-z ]{2,30})")
OLD_WORDS = {"Preprocessor": "Module", "Starting Step": "Guidance Start"}
OLD_WORDS |= {"Ending Step": "Guidance End"}
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
# what else other versions write for them
MODES_READ = {label: mode for mode, label in MODES.items()}
MODES_READ |= {f"ControlMode.{mode.upper()}": mode for mode in MODES}
RESIZES_READ = {label: resize for resize, label in RESIZES.items()}
RESIZES_READ |= {"ResizeMode.RESIZE": "stretch", "ResizeMode.INNER_FIT": "crop"}
RESIZES_READ |= {"ResizeMode.OUTER_FIT": "fill", "Scale to Fit (Inner Fit)": "crop"}
RESIZES_READ |= {"Inner Fit (Scale to Fit)": "crop", "Envelope (Outer Fit)": "fill"}
RESIZES_READ |= {"Outer Fit (Shrink to Fit)": "fill"}
LABELS = {entry.label: name for name, entry in PREPROCESSORS.items()} | {"invert": "invert"}
# the kind of a Union's picture → A1111's word
UNIONS = {"openpose": "OpenPose", "depth": "Depth", "softedge": "Soft Edge", "canny": "Hard Edge"}
UNIONS |= {"normal": "Normal Map", "segmentation": "Segmentation", "tile": "Tile"}
UNIONS |= {"inpaint": "Inpaint"}
UNIONS_READ = {label: kind for kind, label in UNIONS.items()}
UNIONS_READ |= {
    f"ControlNetUnionControlType.{label.upper().replace(' ', '_')}": kind
    for kind, label in UNIONS.items()
}
OURS = "Model hash"  # of the lines that this program alone writes
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
    if item.kind:
        values["Union Control Type"] = UNIONS[item.kind]
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


def list_lines(fields: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Key → what a picture says of each control, in their order. Those that were off, or had
    neither a network nor a preprocessor, are left out: they did nothing."""
    lines: dict[int, dict[str, str]] = {}
    for key, value in fields.items():
        if match := KEY.fullmatch(key):
            pairs = PAIR.findall(value[:LONGEST])
            lines.setdefault(int(match[1]), {}).update((k, unquote(v)) for k, v in pairs)
        elif match := OLD.fullmatch(key):
            word = OLD_WORDS.get(match[2], match[2])
            lines.setdefault(int(match[1] or 0), {})[word] = value[:LONGEST]
    return {
        f"ControlNet {number}": lines[number]
        for number in sorted(lines)
        if lines[number].get("Enabled") != "False"
        and not {lines[number].get(word, "") for word in ("Model", "Module")} <= {"None", "none"}
    }


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
    for key, said in list_lines(fields).items():
        read = read_own if OURS in said else read_foreign
        found.append(read(path, key, said, rest, places))
    if rest or places:
        more = next(iter(places.values()), rest[0] if rest else path)
        raise BadInput(f"{path} was drawn without {more}", "leave it out")
    return tuple(found)


def list_unused(fields: Mapping[str, str]) -> dict[str, str]:
    """What the lines of other programs say and `read_controls` cannot use, with the reason."""
    known = {*NUMBERS.values(), "Module", "Model", "Resize Mode", "Control Mode", "Enabled"}
    unused = {}
    for key, said in list_lines(fields).items():
        if OURS in said:
            continue
        for word, value in said.items():
            if word == "Module" and value not in LABELS:
                why = "it is not here: the picture that is given is used as the map that it makes"
            elif word in ("Resize Mode", "Control Mode"):
                if value in (RESIZES_READ if word == "Resize Mode" else MODES_READ):
                    continue
                why = "no such mode is here: the usual one is taken"
            elif word == "Pixel Perfect" and value == "True":
                continue  # as here
            elif word == "Union Control Type" and value in {*UNIONS_READ, "Unknown"}:
                continue
            elif word.startswith("Threshold") and not takes(said, word):
                why = "the preprocessor takes no such number"
            elif word in known:
                continue
            elif word == "Processor Res":
                why = "preprocessors work at the size of the run"
            else:
                why = "no setting is called so"
            unused[f"{key} {word}"] = f"{escape(value)} ({why})"
    return unused


def takes(said: Mapping[str, str], word: str) -> bool:
    """Whether the preprocessor of a line takes the number under "Threshold A" or "Threshold B"."""
    preprocess = LABELS.get(said.get("Module", ""), "none")
    place = 0 if word == NUMBERS["low"] else 1
    return place < len(PREPROCESSORS[preprocess].usual) and not said[word].startswith("-")


def read_own(
    path: Path, key: str, said: dict[str, str], rest: list[Path], places: dict[str, Path]
) -> Control:
    """A line that this program wrote. Raises as `read_controls`."""
    match = MODEL.fullmatch(said.get("Model", ""))
    if match is None or said.get("Module") not in LABELS:
        raise BadInput(
            f"{path} was drawn with {key}: {escape(', '.join(said.values()))}",
            "its line is damaged: the network and its preprocessor are not told",
        )
    image = None
    if "Image hash" in said:
        if not rest:
            raise BadInput(
                f"{path} was drawn by {match[1]} with a picture (hash {said['Image hash']})",
                "give it with --control-image, in the order of the networks",
            )
        image = rest.pop(0)
        now = pictures.hash_pixels(pictures.read_picture(image))
        if now != said["Image hash"]:
            raise BadInput(
                f"{image} is not the picture that {match[1]} saw for {path} "
                f"(hash {now}, then {said['Image hash']})",
                "give the very same pixels",
            )
    item = make_item(path, key, said, match[1], image, places.pop(match[1], None))
    try:
        place = find_network(item)
        now = hash_network(place)
    except NotFound as error:
        raise NotFound(
            f"{path} was drawn with {escape(match[1])}, which is not here",
            f"give its file with --control, or: {error.remedy}",
        ) from None
    if now != said[OURS]:
        raise BadInput(
            f"{place} is not the network {escape(match[1])} that {path} was drawn with "
            f"(hash {now}, then {said[OURS]})",
            "give the very same file with --control",
        )
    return item


def read_foreign(
    path: Path, key: str, said: dict[str, str], rest: list[Path], places: dict[str, Path]
) -> Control:
    """A line of A1111's extension or of Forge: the network is known by the hash of a part of its
    file, and nothing is told of the picture. Raises as `read_controls`."""
    match, module = MODEL.fullmatch(said.get("Model", "")), said.get("Module", "none")
    if match is None or match[1] == "None":
        raise BadInput(
            f"{path} was drawn with {key}, which has no network: {escape(module)}",
            "such a picture cannot be drawn again: no network of this program does the same",
        )
    name, legacy = match.groups()
    if module.startswith("ip-adapter") or "ip-adapter" in name.lower():
        part = f"{said.get('Guidance Start', '0')}-{said.get('Guidance End', '1')}"
        asked = f"{name}:{said.get('Weight', '1')}@{part}"
        raise BadInput(
            f"{path} was drawn with the IP-Adapter {escape(name)} ({key}), and does not hold the "
            "picture that it looked at",
            f"draw it anew: fromnoise generate … --ip-adapter {escape(asked)} --ip-image PICTURE",
        )
    place = find_as_a1111(path, name, legacy, places)
    if not rest:
        what = escape(module)
        made = f"the map that {what} made" if module not in LABELS else f"what {what} was made of"
        raise BadInput(
            f"{path} was drawn by {escape(name)} ({key}), and does not hold the picture that it "
            "saw",
            f"give {made if module != 'none' else 'it'} with --control-image, in the order of the "
            "networks",
        )
    return make_item(path, key, said, name, rest.pop(0), place)


def find_as_a1111(path: Path, name: str, legacy: str | None, places: dict[str, Path]) -> Path:
    """The file of a network, by A1111's name and hash: of those that are given, then in the models'
    folders by its name, then by its hash. Raises NotFound."""
    for given in [given for given in (name, *places) if given in places]:
        if legacy in (None, hash_as_a1111(find_weights_of(places[given]))):
            return places.pop(given)
    with suppress(NotFound, BadInput, BadCheckpoint, ValueError):
        place = find_network(Control.model_validate({"name": name}))
        if legacy in (None, hash_as_a1111(find_weights_of(place))):
            return place
    for model in list_models() if legacy else ():
        fits = model.kind in ("controlnet", "t2i-adapter", "") and model.size > HASHED_FROM
        if fits and model.path.is_file() and hash_as_a1111(model.path) == legacy:
            return model.path
    known = f"{escape(name)} [{legacy}]" if legacy else escape(name)
    raise NotFound(
        f"{path} was drawn with the ControlNet {known}, which is not here",
        "give its file with --control, or put it into the models' folder controlnet; a file of "
        "that name with other bytes is another network",
    )


def make_item(
    path: Path, key: str, said: dict[str, str], name: str, image: Path | None, file: Path | None
) -> Control:
    """The control that a line asks for. Raises BadInput."""
    values: dict[str, Any] = {"name": name, "image": image, "file": file}
    values["preprocess"] = LABELS.get(said.get("Module", ""), "none")
    for field, word in NUMBERS.items():
        own = OURS in said or not word.startswith("Threshold") or takes(said, word)
        if word in said and own:
            values[field] = said[word]
    values |= list_modes(said)
    try:
        return Control(**values)
    except ValueError as error:
        raise BadInput(f"{path}, {key}: {error}", "correct its text") from None


def list_modes(said: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for field, known, word in (
        ("mode", MODES_READ, "Control Mode"),
        ("resize", RESIZES_READ, "Resize Mode"),
        ("kind", UNIONS_READ, "Union Control Type"),
    ):
        if said.get(word) in known:
            yield field, known[said[word]]
