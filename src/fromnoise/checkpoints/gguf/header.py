"""The header of a GGUF file: facts by key, then the tensors with type, shape and place.

Shapes are written backwards, the fastest dimension first. ComfyUI-GGUF cuts some tensors into rows
that its blocks divide, and writes the right shape as a fact, `comfy.gguf.orig_shape.KEY`.
The format is that of ggml (docs/gguf.md there), versions 2 and 3."""

import os
import struct
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from fromnoise.checkpoints.entries import DAMAGED, DIMENSIONS, Entry, Header, is_shape
from fromnoise.errors import BadCheckpoint, escape

HEADER_BYTES = 16 << 20  # text encoders bring a vocabulary of some megabytes
FACTS, TENSORS = 10_000, 50_000
TEXTS = 400_000  # of one list; the largest vocabularies have 262,144 words
LONGEST = 4096  # characters of one fact that are kept
ORIGINAL = "comfy.gguf.orig_shape."
# number of a type → its name, values of one block, bytes of one block
TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
SIZES = {name: (values, size) for name, values, size in TYPES.values()}
# number of a fact's type → how `struct` calls it; 8 is a text, 9 a list
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
NUMBERS[12] = "d"
TEXT, LIST = 8, 9


class Reader:
    """Takes values from the bytes at the start of a file. Raises BadCheckpoint."""

    def __init__(self, path: Path, data: bytes):
        self.path, self.data, self.place = path, data, 0

    def refuse(self, reason: str) -> NoReturn:
        raise BadCheckpoint(f"{self.path} cannot be read: {reason}", DAMAGED)

    def skip(self, size: int) -> int:
        """Where the next so many bytes begin."""
        place = self.place
        if size > len(self.data) - place:
            self.refuse(f"its header is cut off at byte {place:,}, or has over {HEADER_BYTES:,}")
        self.place = place + size
        return place

    def take(self, kind: str) -> Any:
        return struct.unpack_from(f"<{kind}", self.data, self.skip(struct.calcsize(kind)))[0]

    def take_text(self) -> str:
        size = self.take("Q")
        place = self.skip(size)
        return self.data[place : min(place + size, place + 4 * LONGEST)].decode("utf-8", "replace")

    def take_fact(self) -> str | tuple[int, ...]:
        """A number or a text, as text; a short list of whole numbers; of others the length."""
        kind = self.take("I")
        if kind == TEXT:
            return self.take_text()[:LONGEST]
        if kind in NUMBERS:
            return str(self.take(NUMBERS[kind]))
        if kind != LIST:
            self.refuse(f"a fact has the type {kind}")
        kind, count = self.take("I"), self.take("Q")
        if kind in NUMBERS:
            each = struct.calcsize(NUMBERS[kind])
            place = self.skip(each * count)
            if count <= DIMENSIONS and NUMBERS[kind] in "BbHhIiQq":
                return struct.unpack_from(f"<{count}{NUMBERS[kind]}", self.data, place)
        elif kind == TEXT:
            if count > TEXTS:
                self.refuse(f"it has a list of {count:,} texts, {TEXTS:,} are most")
            for _ in range(count):
                self.skip(self.take("Q"))
        else:
            self.refuse(f"a list of values of the type {kind}")
        return f"a list of {count:,}"


def read_gguf(path: Path, file: BufferedReader) -> Header:
    """Raises BadCheckpoint."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    r = Reader(path, file.read(HEADER_BYTES))
    r.skip(4)
    version, count, facts = r.take("I"), r.take("Q"), r.take("Q")
    if version not in (2, 3):
        big = version in (2 << 24, 3 << 24)
        r.refuse("its numbers are big-endian" if big else f"GGUF has no version {version} here")
    if facts > FACTS or count > TENSORS:
        r.refuse(
            f"it has {facts:,} facts and {count:,} tensors; {FACTS:,} and {TENSORS:,} are most"
        )
    metadata: dict[str, str] = {}
    original: dict[str, tuple[int, ...]] = {}
    for _ in range(facts):
        key, value = r.take_text()[:LONGEST], r.take_fact()
        if key in metadata or key in original:
            r.refuse(f"the fact {escape(repr(key), 100)} stands there twice")
        if key.startswith(ORIGINAL) and isinstance(value, tuple):
            original[key.removeprefix(ORIGINAL)] = value
        else:
            metadata[key] = ", ".join(map(str, value)) if isinstance(value, tuple) else value
    alignment = metadata.get("general.alignment", "32")
    if alignment not in {str(2**i) for i in range(17)}:
        r.refuse(f"its alignment is {escape(alignment, 40)}, not a power of two up to 65,536")
    step = int(alignment)
    found = [read_entry(r, original) for _ in range(count)]
    start = -(-r.place // step) * step
    entries: dict[str, Entry] = {}
    place, before = 0, "the header"
    for key, entry in sorted(found, key=lambda item: (item[1].start, item[1].end)):
        shown = escape(repr(key), 100)
        if key in entries:
            r.refuse(f"{shown} stands there twice")
        if entry.start != -(-place // step) * step:
            what = "overlaps" if entry.start < place else "lies behind a hole after"
            r.refuse(f"{shown} {what} {before}")
        entries[key] = Entry(entry.dtype, entry.shape, start + entry.start, start + entry.end)
        place, before = entry.end, shown
    if not start + place <= size < start + place + max(step, 32):
        r.refuse(f"its tensors end at byte {start + place:,}, the file has {size:,}")
    return Header(path, "gguf", metadata, entries)


def read_entry(r: Reader, original: dict[str, tuple[int, ...]]) -> tuple[str, Entry]:
    """A tensor's key and what is said of it; its place counts from the end of the header."""
    key = r.take_text()
    shown = escape(repr(key), 100)
    if len(key) > LONGEST or (dimensions := r.take("I")) > DIMENSIONS:
        r.refuse(f"{shown} has a name or a shape that is too long")
    shape = tuple(r.take("Q") for _ in range(dimensions))[::-1]
    if not is_shape(shape):
        r.refuse(f"{shown} has the shape {shape}, which is too large")
    number, offset = r.take("I"), r.take("Q")
    if number not in TYPES:
        r.refuse(f"{shown} has the type {number}, which is none of ggml")
    name, values, each = TYPES[number]
    if (shape[-1] if shape else 1) % values:
        r.refuse(f"{shown} of {shape} is not cut into {name} blocks of {values}")
    size = prod(shape) // values * each
    if size >= 2**63 or offset >= 2**63:
        r.refuse(f"{shown} has {size:,} bytes at {offset:,}")
    if key in original:
        right = min(original[key], default=0) >= 0 and is_shape(original[key])
        if not right or prod(original[key]) != prod(shape):
            r.refuse(f"{shown} of {shape} cannot have the shape {original[key]}")
        shape = original[key]
    return key, Entry(name, shape, offset, offset + size)
