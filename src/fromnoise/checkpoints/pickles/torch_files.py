"""Files of `torch.save`, both formats, read without torch: which tensors there are and where each
lies.

Since torch 1.6 such a file is a zip archive: `NAME/data.pkl` holds the structure, `NAME/data/KEY`
the values of each storage. Before, it was a row of pickles (a magic number, a version, facts of the
machine, the structure, the keys of the storages), and behind them the storages."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from fromnoise.checkpoints.entries import BITS, DAMAGED, Entry, Header
from fromnoise.checkpoints.pickles.builders import CALLS, KNOWN, STORAGE_TYPES, as_tensor
from fromnoise.checkpoints.pickles.dangers import describe_dangers
from fromnoise.checkpoints.pickles.machine import Machine
from fromnoise.checkpoints.pickles.values import Global, Inert, Storage, TensorView
from fromnoise.checkpoints.pickles.zips import Member, read_members
from fromnoise.errors import BadCheckpoint, escape

PICKLE_BYTES = 16 << 20  # of the structure; Stable Diffusion's has 0.2 MB, 1 MB with an optimizer
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the old format
NODES, DEPTH = 100_000, 32  # values in the structure, and how deep they may lie
TENSORS, KEY = 50_000, 500  # most of one file, and characters of a key
WRAPS = ("state_dict", "model", "module")  # what programs put a model's tensors into
FACTS, FACT = 100, 4096  # numbers and texts beside the tensors, and characters of one
GROWTH = 4  # how much larger than the file its tensors may be: some share a storage


@dataclass(frozen=True)
class TorchFile:
    """header: as of any file. views: the tensors by key. members: where each storage lies."""

    header: Header
    views: dict[str, TensorView]
    members: dict[str, Member]


def read_torch_file(path: Path, file: BufferedReader) -> TorchFile:
    """What a file of torch.save holds. Raises BadCheckpoint."""

    def refuse(reason: str, remedy: str = DAMAGED) -> NoReturn:
        raise BadCheckpoint(f"{path} cannot be read: {reason}", remedy)

    storages: dict[str, Storage] = {}
    members, top = dict[str, Member](), ""
    file.seek(0)
    old = file.read(4) != b"PK\3\4"
    if not old:
        members = read_members(path, file)
        top = find_top(path, members)
        data = read_structure(file, members[f"{top}data.pkl"], refuse)
    else:
        file.seek(0)
        data = file.read(PICKLE_BYTES)
    machine = Machine(data, CALLS, KNOWN, find_storage(storages))
    try:
        if old:
            root, keys = run_old(machine, refuse)
            places = place_in_row(storages, machine.place, keys, file, refuse)
        else:
            root = machine.run()
            places = place_in_archive(storages, members, top, refuse)
        views, metadata, left_out = collect(root)
        check_sums(views, os.fstat(file.fileno()).st_size)
    except BadCheckpoint as error:
        if error.message.startswith(str(path)):
            raise
        dangers = "".join(f"; {text}" for text in describe_dangers(machine.strangers))
        refuse(error.message + dangers)
    placeholders = tuple(machine.strangers)
    notes = describe_dangers(placeholders)
    if left_out:
        notes.append(f"not read: {', '.join(left_out)}")
    entries = {key: describe(view, places) for key, view in views.items()}
    header = Header(path, "pickle", metadata, entries, placeholders, tuple(notes))
    return TorchFile(header, views, places)


def find_top(path: Path, members: dict[str, Member]) -> str:
    """The folder in the archive that all of it lies in, with its slash."""
    tops = [name.removesuffix("data.pkl") for name in members if name.endswith("data.pkl")]
    tops = [top for top in tops if not top or (top.count("/") == 1 and top.endswith("/"))]
    if len(tops) != 1:
        what = "no data.pkl" if not tops else f"{len(tops)} of data.pkl"
        raise BadCheckpoint(
            f"{path} is a zip archive, not one of torch: {what} in it",
            "unpack it and give the model's file",
        )
    if any(name.startswith(f"{tops[0]}code/") for name in members):
        raise BadCheckpoint(
            f"{path} is a program of TorchScript, not a file of tensors",
            "save its state_dict with safetensors where you trust it",
        )
    return tops[0]


def read_structure(file: BufferedReader, member: Member, refuse: Callable) -> bytes:
    if member.size > PICKLE_BYTES:
        refuse(f"its data.pkl has {member.size:,} bytes, {PICKLE_BYTES:,} are most")
    file.seek(member.start)
    return file.read(member.size)


def run_old(machine: Machine, refuse: Callable) -> tuple[Any, Any]:
    """(structure, keys of the storages) of the old format."""
    if machine.run() != MAGIC:
        refuse("it is a pickle, but not one of torch", "save its tensors with safetensors")
    if machine.run() != VERSION:
        refuse("it has another version than 1001")
    facts = machine.run()
    if isinstance(facts, dict) and facts.get("little_endian") is False:
        refuse("its numbers are big-endian", "save it again on a common machine")
    return machine.run(), machine.run()


def find_storage(storages: dict[str, Storage]) -> Callable[[Any], Any]:
    """A function for the machine: persistent id → storage, written down in `storages`."""

    def find(identity: Any) -> Any:
        if not isinstance(identity, tuple) or not identity:
            raise BadCheckpoint("a persistent id that is none of torch")
        if identity[0] == "module" and len(identity) == 4:
            return identity[1]  # an old file has the source of each class beside it
        if identity[0] != "storage" or len(identity) not in (5, 6):
            raise BadCheckpoint("a persistent id that is none of torch")
        kind, key, _, count = identity[1:5]
        dtype = STORAGE_TYPES.get(kind.name) if isinstance(kind, Global) else None
        if dtype is None or type(key) not in (str, int) or len(str(key)[:101]) > 100:
            raise BadCheckpoint(f"a storage of {kind!r:.100}, which is no type of torch")
        if type(count) is not int or not 0 <= count < 2**48:
            raise BadCheckpoint(f"a storage of {count!r:.40} values")
        whole = Storage(str(key), dtype, count)
        if storages.setdefault(whole.key, whole) != whole:
            raise BadCheckpoint(f"the storage {whole.key[:100]!r} has two types or sizes")
        view = identity[5] if len(identity) == 6 else None
        if isinstance(view, tuple) and len(view) == 3:
            _, first, size = view
            if not all(type(n) is int and 0 <= n <= count for n in (first, size)):
                raise BadCheckpoint("a view of a storage that leads out of it")
            if first + size > count:
                raise BadCheckpoint("a view of a storage that leads out of it")
            return replace(whole, count=size, first=first)
        return whole

    return find


def place_in_archive(
    storages: dict[str, Storage], members: dict[str, Member], top: str, refuse: Callable
) -> dict[str, Member]:
    order = f"{top}byteorder"
    places = {}
    if order in members and members[order].size != len("little"):
        refuse("its numbers are big-endian", "save it again on a common machine")
    for key, storage in storages.items():
        places[key] = members.get(f"{top}data/{key}", Member(0, -1))
        if places[key].size != storage.size:
            there = "is not there" if places[key].size < 0 else f"has {places[key].size:,} bytes"
            refuse(f"data/{key} {there}; a tensor needs {storage.size:,} bytes of it")
    return places


def place_in_row(
    storages: dict[str, Storage], place: int, keys: Any, file: BufferedReader, refuse: Callable
) -> dict[str, Member]:
    """The storages of the old format: each is its number of values, then these."""
    places: dict[str, Member] = {}
    if not isinstance(keys, list):
        refuse("its list of storages is missing")
    size = os.fstat(file.fileno()).st_size
    for key in keys:
        name = str(key) if type(key) in (str, int) else ""
        if name not in storages or name in places:
            refuse(f"it has a storage {name[:100]!r} that no tensor uses, or twice")
        file.seek(place)
        count = int.from_bytes(file.read(8).ljust(8, b"\xff"), "little", signed=True)
        if count != storages[name].count:
            refuse(f"the storage {name[:100]!r} has {count:,} values, not {storages[name].count:,}")
        places[name] = Member(place + 8, storages[name].size)
        place += 8 + storages[name].size
        if place > size:
            refuse(f"the storage {name[:100]!r} is cut off")
    if missing := [key for key in storages if key not in places]:
        refuse(f"it lacks the storage {missing[0][:100]!r}")
    return places


def collect(root: Any) -> tuple[dict[str, TensorView], dict[str, str], list[str]]:
    """(tensors by key, numbers and texts beside them, names of what is left out). Keys of dicts in
    dicts are joined by dots. Raises BadCheckpoint where there are no tensors."""
    facts: dict[str, str] = {}
    left_out: list[str] = []
    if type(root) is list:  # the first LoRA: its keys are the places in it
        root = dict(enumerate(root))
    for _ in range(DEPTH):
        if type(root) is not dict or any(as_tensor(value) for value in root.values()):
            break
        wrap = next((name for name in WRAPS if find_branches(root.get(name))), None)
        if wrap is None:
            break
        for name, value in root.items():
            if is_fact(value):
                add_fact(facts, str(name), value)
            elif name != wrap and len(left_out) < FACTS:
                left_out.append(escape(name, 100))
        root = root[wrap]
    views: dict[str, TensorView] = {}
    left, layer = NODES, [("", root)]
    for _ in range(DEPTH):
        deeper = []
        for prefix, branches in ((p, b) for p, value in layer for b in find_branches(value)):
            left -= len(branches)
            if left < 0:
                raise BadCheckpoint(f"more than {NODES:,} values")
            for name, value in branches.items():
                if type(name) not in (str, int):
                    continue
                key = f"{prefix}{name}"
                view = as_tensor(value)
                if len(key) > KEY and (view or find_branches(value)):
                    raise BadCheckpoint(f"a key of {len(key):,} characters")
                if view is not None:
                    if key in views or len(views) == TENSORS:
                        why = f"{escape(repr(key), 100)} twice"
                        raise BadCheckpoint(why if key in views else f"over {TENSORS:,} tensors")
                    views[key] = view
                elif find_branches(value):
                    deeper.append((f"{key}.", value))
                elif is_fact(value):
                    add_fact(facts, key, value)
        layer = deeper
    if layer:
        raise BadCheckpoint(f"values lie more than {DEPTH} deep")
    if not views:
        raise BadCheckpoint("there are no tensors in it")
    return views, facts, left_out


def find_branches(value: Any) -> list[dict[Any, Any]]:
    """What hangs on a value: of a dict its values, of a module its parts and parameters, of which a
    pickle of a whole network consists."""
    if type(value) is dict:
        return [value] if value else []
    if not isinstance(value, Inert):
        return []
    if type(value.state) is dict:
        groups = (value.state.get(name) for name in ("_parameters", "_buffers", "_modules"))
        if inner := [group for group in groups if type(group) is dict and group]:
            return inner
    return [value.items] if value.items else []


def is_fact(value: Any) -> bool:
    return type(value) in (bool, int, float, str) and not (
        type(value) is int and abs(value) >= 2**63
    )


def add_fact(facts: dict[str, str], name: str, value: Any) -> None:
    if len(facts) < FACTS and len(name) <= KEY:
        facts[name] = str(value)[:FACT]


def check_sums(views: dict[str, TensorView], size: int) -> None:
    """Raises BadCheckpoint where the tensors are far larger than the file."""
    total = sum(view.count * BITS[view.dtype] // 8 for view in views.values())
    if total > GROWTH * size + (16 << 20):
        raise BadCheckpoint(f"its tensors have {total:,} bytes, the file has {size:,}")


def describe(view: TensorView, places: dict[str, Member]) -> Entry:
    """As an entry of a header. Where the tensor is strided, its place is that of its storage."""
    place = places.get(view.storage.key, Member(0, 0))
    return Entry(view.dtype, view.shape, place.start, place.start + place.size)
