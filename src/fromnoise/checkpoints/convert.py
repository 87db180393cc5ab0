"""A model from one layout into another, file by file: no network is built, and no more than one
tensor (q, k and v of a layer) is in memory. What is not changed keeps its bytes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from shutil import copyfile
from typing import NamedTuple

import torch
from torch import Tensor

from fromnoise.checkpoints.configs import parse_json
from fromnoise.checkpoints.families import tell_family
from fromnoise.checkpoints.formats import contents as reading
from fromnoise.checkpoints.formats.contents import Contents
from fromnoise.checkpoints.formats.published import describe_folder
from fromnoise.checkpoints.keymap import back
from fromnoise.checkpoints.sources import TensorSource
from fromnoise.checkpoints.tensors import DTYPES, Stored
from fromnoise.checkpoints.writing import plan_header, write_stream
from fromnoise.errors import BadCheckpoint, BadInput, UnknownName
from fromnoise.folders import replace_folder

LAYOUTS = ("folder", "single-file")
TYPES = {"keep": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class Report:
    """What was written: the path, its bytes, the family of the model, what was left out."""

    path: Path
    family: str
    reason: str
    bytes: int = 0
    notes: list[str] = field(default_factory=list)


def convert(
    source: Path, target: Path, to: str, dtype: str = "keep", prediction: str | None = None
) -> Report:
    """Writes the model in `source` (a folder or a single file) to `target`, the whole of it or
    nothing. dtype: of the weights, see TYPES.

    Raises UnknownName, NotFound, BadCheckpoint, and BadInput for what a layout cannot hold."""
    if to not in LAYOUTS:
        raise UnknownName("layout", to, LAYOUTS)
    if dtype not in TYPES:
        raise UnknownName("type of weights", dtype, TYPES)
    contents = reading.read_contents(source, prediction)
    report = Report(target, contents.family.name, contents.family.reason)
    report.notes += contents.notes
    if to == "folder":
        write_folder(contents, target, TYPES[dtype], report)
        report.bytes = sum(f.stat().st_size for f in target.rglob("*") if f.is_file())
    else:
        write_single(contents, target, TYPES[dtype], report)
        report.bytes = target.stat().st_size
    return report


def cast(entry: Stored, dtype: torch.dtype | None) -> Stored:
    """The entry in the type that is asked for; whole numbers stay as they are."""
    change = dtype is not None and entry.dtype.is_floating_point
    return entry._replace(dtype=dtype) if change else entry


def write_folder(
    contents: Contents, target: Path, dtype: torch.dtype | None, report: Report
) -> None:
    """A diffusers folder. Raises BadInput where other files than a model's are in its place."""
    if missing := reading.find_missing(contents.family):
        fault = f"{contents.path} cannot become the folder of a pipeline: {missing}"
        raise BadCheckpoint(fault, "give a file that holds a whole model")
    free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if not free and not (target / "model_index.json").exists():
        raise BadInput(f"{target} is there already and is no model", "choose another name")
    texts, extras = dict(contents.texts), dict[str, Stored]()
    layout = parse_json(texts.pop(reading.LAYOUT, b"{}"), f"{contents.path}, layout")
    tensors: Iterator[tuple[str, Tensor]] = iter(())
    if contents.extras:
        extras = {k: cast_extra(k, e, dtype) for k, e in contents.extras.stored.items()}
        tensors = contents.extras.stream()
    if contents.header and plan_single(contents, None, reuse=False)[0] != contents.header:
        header = torch.frombuffer(bytearray(contents.header), dtype=torch.uint8)
        extras[reading.HEADER] = Stored(torch.uint8, (len(header),), 0, 0)
        tensors = chain_header(tensors, header)

    def write(folder: Path) -> None:
        for name, part in contents.parts.items():
            word = str(layout.get(name, ""))
            write_part(folder / reading.FILES[name], part, word, dtype)
        if extras:
            header = plan_header(extras, {"format": "pt"})
            write_stream(folder / reading.EXTRAS, header, tensors)
        for name in contents.others if contents.path.is_dir() else ():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copyfile(contents.path / name, folder / name)
        for name in sorted(texts, key=lambda name: name == "model_index.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(texts[name])

    replace_folder(target, write)


def chain_header(
    tensors: Iterator[tuple[str, Tensor]], header: Tensor
) -> Iterator[tuple[str, Tensor]]:
    yield from tensors
    yield reading.HEADER, header


def cast_extra(key: str, entry: Stored, dtype: torch.dtype | None) -> Stored:
    """Averaged weights become as small as the weights; tables of the noise stay exact."""
    return cast(entry, dtype) if key.startswith("model_ema.") or len(entry.shape) > 1 else entry


def write_part(path: Path, part: TensorSource, word: str, dtype: torch.dtype | None) -> None:
    """The weights of one part."""
    names = {key: reading.restore_key(word, key) for key in part.stored}
    stored = {names[key]: cast(entry, dtype) for key, entry in part.stored.items()}
    tensors = ((names[key], tensor) for key, tensor in part.stream())
    write_stream(path, plan_header(stored, {"format": "pt"}), tensors)


def write_single(
    contents: Contents, target: Path, dtype: torch.dtype | None, report: Report
) -> None:
    """A single file in the original layout."""
    if target.is_dir():
        raise BadInput(f"{target} is a folder", "give the name of a file")
    if target.suffix.lower() != ".safetensors":
        raise BadInput(f"{target} does not end in .safetensors", "choose such a name")
    if contents.others:
        names = ", ".join(contents.others[:5]) + (", …" if len(contents.others) > 5 else "")
        report.notes.append(f"a single file has no place for {names}: left out")
    if "model_index.json" in contents.texts:
        contents.texts["model_index.json"] = drop_components(contents)
    header, shapes, tables = plan_single(contents, dtype)
    write_stream(target, header, stream_single(contents, shapes, tables))


def drop_components(contents: Contents) -> bytes:
    """model_index.json without the parts that a single file leaves out."""
    name = "model_index.json"
    index = parse_json(contents.texts[name], f"{contents.path}, {name}")
    absent = (None, [None, None])
    dropped = {part: [None, None] for part in reading.LEFT_OUT if index.get(part) not in absent}
    if not dropped:
        return contents.texts[name]
    dropped |= {"requires_safety_checker": False}
    return (json.dumps(index | dropped, indent=2) + "\n").encode()


def plan_single(
    contents: Contents, dtype: torch.dtype | None, reuse: bool = True
) -> tuple[bytes, Mapping[str, tuple[int, ...]], dict[str, bytes]]:
    """(the first bytes of the single file, the shapes in it, texts as tensors of bytes). reuse: the
    header of the file that the model comes from serves again where it says the same."""
    old = parse_header(contents) if contents.header else None
    entries = plan_entries(contents, dtype, old)
    first = {"format": "pt"}
    if reuse and old:  # what others wrote there stays
        first = {k: v for k, v in old.metadata.items() if not k.startswith(reading.OURS)}
    metadata, tables = reading.pack_texts(contents.texts)
    if do_texts_follow(contents, entries, first):
        metadata, tables = {}, {}
    for key, data in tables.items():
        entries[key] = Stored(torch.uint8, (len(data),), 0, 0)
    shapes = {key: entry.shape for key, entry in entries.items()}
    if reuse and old and old.metadata == first | metadata:
        types = {key: entry[:2] for key, entry in old.stored.items()}
        if types == {key: entry[:2] for key, entry in entries.items()}:
            return contents.header, shapes, tables
    return plan_header(entries, first | metadata), shapes, tables


def do_texts_follow(
    contents: Contents, entries: Mapping[str, Stored], metadata: Mapping[str, str]
) -> bool:
    """Whether a single file with these tensors needs no texts: its family has the very same."""

    def read(key: str) -> list[float]:
        group = contents.family.make_keymap().groups[key]
        values = contents.parts[group.part].read(keys=group.keys)
        return back(group, [values[k] for k in group.keys]).double().flatten().tolist()

    family = tell_family({key: entry.shape for key, entry in entries.items()}, metadata, read)
    missing = reading.find_missing(family)
    return not missing and describe_folder(family) == contents.texts


class Header(NamedTuple):
    """The header of a single file that is elsewhere now."""

    metadata: dict[str, str]
    stored: dict[str, Stored]


def parse_header(contents: Contents) -> Header:
    """Raises BadCheckpoint for a header that no whole file can have."""
    file = f"{contents.path}, header of the single file"
    header, place = parse_json(contents.header[8:], file), 0
    metadata = header.pop("__metadata__", {})
    try:
        stored = {
            key: Stored(DTYPES[e["dtype"]], tuple(e["shape"]), *e["data_offsets"])
            for key, e in header.items()
        }
        for entry in sorted(stored.values(), key=lambda entry: entry[2:]):
            size = prod(entry.shape) * entry.dtype.itemsize
            if (entry.start, entry.end) != (place, place := place + size):
                raise ValueError("its tensors do not lie one after the other")
        if not all(isinstance(word, str) for word in metadata.values()):
            raise ValueError("its metadata are no texts")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadCheckpoint(
            f"{file} cannot be read: {error}", "remove extras.safetensors"
        ) from None
    return Header(metadata, stored)


def plan_entries(
    contents: Contents, dtype: torch.dtype | None, old: Header | None = None
) -> dict[str, Stored]:
    """What the single file holds of parts and extras."""
    keymap = contents.family.make_keymap()
    known: dict[str, dict[str, Stored]] = {}
    foreign: dict[str, Stored] = {}
    for part, source in contents.parts.items():
        for key, entry in source.stored.items():
            if (part, key) in keymap.homes:
                known.setdefault(part, {})[key] = cast(entry, dtype)
            else:
                foreign[f"{reading.OURS}{part}:{key}"] = cast(entry, dtype)
    extras = contents.extras.stored if contents.extras else {}
    kept = {key: cast_extra(key, entry, dtype) for key, entry in extras.items()}
    shapes = {key: entry.shape for key, entry in old.stored.items()} if old else contents.shapes
    return keymap.to_single(known, foreign | kept, shapes)


def stream_single(
    contents: Contents, shapes: Mapping[str, tuple[int, ...]], tables: Mapping[str, bytes]
) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the single file."""
    keymap = contents.family.make_keymap()
    for part, source in contents.parts.items():
        waiting: dict[str, dict[str, Tensor]] = {}  # q, k and v until all three are there
        for key, tensor in source.stream():
            group = keymap.homes.get((part, key))
            if group is None:
                yield f"{reading.OURS}{part}:{key}", tensor
                continue
            found = waiting.setdefault(group.single, {})
            found[key] = tensor
            if len(found) == len(group.keys):
                values = [found[k] for k in group.keys]
                yield group.single, back(group, values, shapes.get(group.single))
                del waiting[group.single]
    if contents.extras:
        yield from contents.extras.stream()
    for key, data in tables.items():
        yield key, torch.frombuffer(bytearray(data), dtype=torch.uint8)
