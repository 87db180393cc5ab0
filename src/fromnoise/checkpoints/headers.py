"""What a file of tensors says of itself, read without torch and without its tensors.

Every number in a header is checked before anything is built from it: types, shapes, places in the
file, sums. The time is linear in the header, whose size is bounded; no tensor's byte is read.
"""

import os
from collections.abc import Collection, Iterable
from io import BufferedReader
from pathlib import Path
from reprlib import repr as shorten  # bounded, however long or deep the value
from typing import Any, NoReturn, TypeGuard

from fromnoise.checkpoints.configs import HEADER_BYTES, open_file, parse_json
from fromnoise.checkpoints.entries import BITS, DAMAGED, DIMENSIONS, Entry, Header, is_shape
from fromnoise.errors import BadCheckpoint

# first bytes → what such a file is, and what to do about it
OTHERS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file", "fetch it: `git lfs pull`"),
    (b"<", "a page of the web, not the file", "fetch the file itself; the site may ask to log in"),
    (b"7z\xbc\xaf'\x1c", "a 7z archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it"),
    (b"\x89PNG", "a picture", "give the model's file"),
    (b"\xff\xd8\xff", "a picture", "give the model's file"),
    (b"\x93NUMPY", "an array of NumPy", "give the model's file"),
    (b"\x89HDF", "an HDF5 file", "give the model as safetensors"),
)


def peek(path: Path) -> Header:
    """The header of a file, by its content: its name may have any ending. Raises NotFound, and
    BadCheckpoint for a damaged file or another kind."""
    path = Path(path)
    with open_file(path) as file:
        kind = find_kind(path, file)
        if kind == "pickle":
            from fromnoise.checkpoints.pickles.torch_files import read_torch_file

            return read_torch_file(path, file).header
        if kind == "gguf":
            from fromnoise.checkpoints.gguf.header import read_gguf

            return read_gguf(path, file)
        return peek_safetensors(path, file)


def find_kind(path: Path, file: BufferedReader) -> str:
    """ "safetensors", "pickle" or "gguf", by the first bytes. Raises BadCheckpoint for others."""
    start = file.read(512)
    file.seek(0)
    for kind, place, signs in (
        ("safetensors", 8, b"{"),
        ("gguf", 0, b"GGUF"),
        ("pickle", 0, (b"PK\3\4", b"PK\5\6", b"\x80")),
    ):
        if start[place:].startswith(signs):
            return kind
    refuse_others(path, start)


def refuse_others(path: Path, start: bytes) -> NoReturn:
    """Raises BadCheckpoint for a file that holds no tensors. start: its first bytes."""
    for sign, kind, remedy in OTHERS:
        if start.lstrip().startswith(sign):
            raise BadCheckpoint(f"{path} is {kind}", remedy)
    if start[257:262] == b"ustar":
        raise BadCheckpoint(f"{path} is a tar archive", "unpack it")
    what = f"it begins with {start[:16]!r}" if start.strip(b"\0") else "it is empty"
    raise BadCheckpoint(f"{path} is no file of tensors: {what}", DAMAGED)


def refuse_header(path: Path, dtypes: Collection[str], error: Exception) -> NoReturn:
    """Raises BadCheckpoint for a safetensors file that the library refuses, in words of ours where
    there are some. dtypes: those that can be read."""
    for key, entry in peek(path).entries.items():
        if entry.dtype not in dtypes:
            reason = f"{shorten(key)} has the dtype {entry.dtype}, not one of {', '.join(dtypes)}"
            raise BadCheckpoint(f"{path} cannot be read: {reason}", "convert it to one of them")
    raise BadCheckpoint(f"{path} cannot be read: {shorten(error)}", DAMAGED)


def peek_safetensors(path: Path, file: BufferedReader) -> Header:
    """The header of a safetensors file that is open at its start. Raises BadCheckpoint."""

    def refuse(reason: str) -> NoReturn:
        raise BadCheckpoint(f"{path} cannot be read: {reason}", DAMAGED)

    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    text = file.read(min(length, HEADER_BYTES))
    if not 2 <= length == len(text):
        refuse(
            f"of a header of {length:,} bytes, {len(text):,} are there (at most {HEADER_BYTES:,})"
        )
    values, start = parse_json(text, f"{path}, header"), 8 + length
    metadata = values.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        refuse(f"its __metadata__ is {shorten(metadata)}, not an object of texts")
    entries: dict[str, Entry] = {}
    for key, value in values.items():
        if fault := find_fault(value, BITS):
            refuse(f"{shorten(key)} {fault}")
        first, last = value["data_offsets"]
        entries[key] = Entry(value["dtype"], tuple(value["shape"]), start + first, start + last)
        if (needed := count_bits(entries[key])) != 8 * (last - first):
            refuse(f"{shorten(key)} needs {needed / 8:,.0f} bytes, its place has {last - first:,}")
    check_places(entries.items(), start, size, refuse)
    return Header(path, "safetensors", metadata, entries)


def is_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def find_fault(entry: Any, dtypes: Iterable[str]) -> str | None:
    """What is wrong in an entry of a safetensors header; None where each field has its type."""
    if not isinstance(entry, dict):
        return f"is {shorten(entry)}, not an object"
    dtype, shape, places = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in dtypes:
        return f"has the dtype {shorten(dtype)}, not one of {', '.join(dtypes)}"
    if not is_sizes(shape) or not is_sizes(places):
        name, value = ("data_offsets", places) if is_sizes(shape) else ("shape", shape)
        return f"has the {name} {shorten(value)}, not a list of sizes"
    if not is_shape(shape):
        return f"has the shape {shorten(shape)}, too large or of more than {DIMENSIONS} dimensions"
    if len(places) != 2 or places[0] > places[1]:
        return f"has the data_offsets {shorten(places)}, not a start and an end"
    return None


def count_bits(entry: Entry) -> int:
    return entry.count * BITS[entry.dtype]


def check_places(entries: Iterable[tuple[str, Entry]], start: int, size: int, refuse: Any) -> None:
    """Calls `refuse` unless the tensors lie one behind the other, from `start` to the end of the
    file, without a hole."""
    place, before = start, "the header"
    for key, entry in sorted(entries, key=lambda item: (item[1].start, item[1].end)):
        if entry.start != place:
            what = "overlaps" if entry.start < place else "lies behind a hole after"
            refuse(f"{shorten(key)} {what} {before if before == 'the header' else shorten(before)}")
        place, before = entry.end, key
    if place != size:
        refuse(f"its tensors end at byte {place:,}, the file has {size:,}")
