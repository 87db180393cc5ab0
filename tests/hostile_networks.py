"""Files of add-ons that mean harm, by kind: `list_files(kind, good, canary)` gives (class, what,
write). `write(place)` makes the file, or the folder, from a good one; each must be refused in
words."""

import json
import os
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from hostile_files import BROKEN, HUGE, header
from hostile_tensors import OTHERS, PLACES, archive, call_by, sparse, state, value

Case = tuple[str, str, Callable[[Path], object]]
Entries = dict[str, dict]
SIZES = {"F64": 8, "F32": 4, "F16": 2, "I64": 8}
NOT_SAFETENSORS = ("an array", "HDF5", "a program", "a script", "empty", "gzip")


def read_entries(good: Path) -> Entries:
    """The tensors of a good safetensors file: name → its header's entry."""
    data = good.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8 : 8 + length])
    entries.pop("__metadata__", None)
    return entries


def write_entries(entries: Entries, path: Path, fill: bytes = b"") -> None:
    """A file with these tensors, one behind the other; it is sparse where nothing fills it."""
    placed, end = {}, 0
    for name, entry in entries.items():
        count = 1
        for side in entry["shape"]:
            count *= side
        begin, end = end, end + count * SIZES[entry["dtype"]]
        placed[name] = entry | {"data_offsets": [begin, end]}
    start = header(placed)
    with path.open("wb") as file:
        file.write(start)
        if fill:
            file.write(fill * (end // len(fill)))
        file.truncate(len(start) + end)


def change_shapes(entries: Entries, keys: tuple[str, ...]) -> Iterator[tuple[str, Entries]]:
    """Tensors that are missing, of another shape, in another place or of another type."""
    for key in keys:
        entry = entries[key]
        shape = entry["shape"]
        yield f"{key} is missing", {k: v for k, v in entries.items() if k != key}
        others: dict[str, list[int]] = {
            "no dimension": [],
            "one dimension": [shape[0]] if len(shape) > 1 else [shape[0], 1],
            "a dimension more": [*shape, 2],
            "nothing in it": [0, *shape[1:]],
            "a channel more": [shape[0] + 1, *shape[1:]],
            "a last side more": [*shape[:-1], shape[-1] + 1],
            "2^20 channels": [2**20, *shape[1:]],
        }
        for what, other in others.items():
            if other != shape:
                yield f"{key} has {what}", entries | {key: entry | {"shape": other}}
        yield f"{key} is whole numbers", entries | {key: entry | {"dtype": "I64"}}
        moved = {k: v for k, v in entries.items() if k != key}
        yield f"{key} under another name", moved | {f"x.{key}": entry}


def add_keys(entries: Entries, names: dict[str, list[int]]) -> Iterator[tuple[str, Entries]]:
    """Tensors more than there should be. names: of the kind's own, and their shapes."""
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    for name, shape in names.items():
        yield f"{name} {shape} beside the others", entries | {name: one | {"shape": shape}}
    yield (
        "20,000 tensors more",
        entries | {f"{next(iter(entries))}.{i}": one for i in range(20_000)},
    )


def list_files(
    kind: str, good: Path, canary: Path, keys: tuple[str, ...], more: dict[str, list[int]]
) -> Iterator[Case]:
    """Single files. keys: tensors of the good file to change; more: names to add to it."""
    entries = read_entries(good)
    for what, data in BROKEN.items():
        yield "broken files", what, partial(Path.write_bytes, data=data)
    for what in NOT_SAFETENSORS:
        yield "other files", what, partial(Path.write_bytes, data=OTHERS[what])
    for what, make in PLACES.items():
        if what != "a folder":
            yield "places", what, make
    yield "places", "8 GB of zeros", sparse(b"", 2**33)
    yield "places", "8 GB of a zip", sparse(b"PK\3\4", 2**33)
    for way, call in call_by("os.system", value((f"touch {canary}",))).items():
        data = archive(state(call))
        yield "code", way, partial(Path.write_bytes, data=data)
    for what, changed in change_shapes(entries, keys):
        yield "shapes", what, partial(write_entries, changed)
    for what, changed in add_keys(entries, more):
        yield "keys", what, partial(write_entries, changed)


def list_folders(rules: list[tuple[str, tuple]]) -> Iterator[tuple[str, str, Callable]]:
    """Changes of config.json in a folder of diffusers or transformers: (class, what, change).
    rules: fields, and values that cannot be."""
    for key, values in rules:
        for bad in values:
            yield "configurations", f"{key} = {str(bad)[:30]}", partial(set_field, key, bad)
    for what, data in {
        "no JSON": b"\x80\x04",
        "nested": b"[" * 100_000,
        "a list": b"[1]",
        "5,000 digits": b'{"in_channels": ' + b"9" * 5000 + b"}",
        "50 MB": b'{"a": "' + b"x" * 50_000_000 + b'"}',
    }.items():
        yield "configurations", what, partial(replace_config, data)
    yield "configurations", "a device", link_config


def set_field(key: str, bad, folder: Path) -> None:
    file = folder / "config.json"
    text = json.dumps(json.loads(file.read_text()) | {key: None})
    said = str(bad) if bad == HUGE else json.dumps(bad)
    file.write_text(text.replace(f'"{key}": null', f'"{key}": {said}'))


def replace_config(data: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(data)


def link_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.symlink("/dev/zero", folder / "config.json")
