"""Safetensors files, written as a stream: the header first, then each tensor at its place, in
whatever order they come. The bytes are those that the library writes."""

import json
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from fromnoise.checkpoints.tensors import DTYPES, Stored
from fromnoise.errors import BadInput
from fromnoise.files import REMEDY, write_file

NAMES = {dtype: name for name, dtype in DTYPES.items()}
# the order of types in a file: the library's, large ones first, so that every tensor is aligned
ORDER = (
    "I64",
    "F64",
    "F32",
    "I32",
    "BF16",
    "F16",
    "I16",
    "F8_E4M3",
    "F8_E5M2",
    "I8",
    "U8",
    "BOOL",
)


def plan_header(entries: Mapping[str, Stored], metadata: Mapping[str, str] | None = None) -> bytes:
    """The first bytes of a file with these tensors, up to the first of them. Raises BadInput for a
    type that safetensors cannot hold."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for dtype, key in sorted((find_rank(entry, key), key) for key, entry in entries.items()):
        shape = list(entries[key].shape)
        size = prod(shape) * entries[key].dtype.itemsize
        offsets = [place, place := place + size]
        header[key] = {"dtype": ORDER[dtype], "shape": shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def find_rank(entry: Stored, key: str) -> int:
    name = NAMES.get(entry.dtype)
    if name not in ORDER:
        raise BadInput(f"{key[:200]} has the type {entry.dtype}", "convert it to fp32 before")
    return ORDER.index(name)


def write_stream(
    path: Path, header: bytes, tensors: Iterable[tuple[str, Tensor]], remedy: str = REMEDY
) -> None:
    """Writes a file with that header, the whole of it or nothing: each tensor goes where the header
    says, in the type that it says. Raises BadInput where the file cannot be written."""
    places = json.loads(header[8:])
    places.pop("__metadata__", None)
    size = max((place["data_offsets"][1] for place in places.values()), default=0)

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + size)
            for key, tensor in tensors:
                place = places.pop(key)
                data = tensor.detach().to("cpu", DTYPES[place["dtype"]]).contiguous()
                start, end = place["data_offsets"]
                assert [*data.shape] == place["shape"], key
                file.seek(len(header) + start)
                if end > start:
                    memory = data.view(-1).view(torch.uint8)
                    file.write(memory.numpy())  # type: ignore[arg-type]
        assert not places, f"never given: {[*places][:3]}"

    write_file(path, write, remedy=remedy)
