"""Files of tensors of any kind, opened by their content: safetensors, pickles of torch, GGUF.

`open_tensors` gives each of them the face of `tensors.TensorFile`."""

import warnings
from collections.abc import Collection, Iterator, Mapping
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import NoReturn, Protocol

import torch
from torch import Tensor

from fromnoise.checkpoints.configs import open_file
from fromnoise.checkpoints.entries import DAMAGED, MARKS, SCALES, Header, is_shape
from fromnoise.checkpoints.gguf.blocks import BLOCKS, dequantize
from fromnoise.checkpoints.headers import find_kind, peek
from fromnoise.checkpoints.pickles.dangers import describe_dangers
from fromnoise.checkpoints.pickles.torch_files import read_torch_file
from fromnoise.checkpoints.pickles.values import Text
from fromnoise.checkpoints.tensors import DTYPES, Keys, See, Stored, TensorFile
from fromnoise.errors import BadCheckpoint


class TensorSource(Protocol):
    """A file whose header is read and checked, and whose tensors can be read."""

    path: Path
    metadata: dict[str, str]
    stored: Mapping[str, Stored]

    def read(self, see: See = None, keys: Keys = None) -> dict[str, Tensor]: ...

    def stream(self, see: See = None, keys: Keys = None) -> Iterator[tuple[str, Tensor]]: ...


def open_tensors(path: Path) -> TensorSource:
    """The file's tensors, by its content, whatever its name ends with. Raises NotFound, and
    BadCheckpoint for a damaged file or one of another kind. Warns of a pickle that could run code
    elsewhere."""
    path = Path(path)
    with open_file(path) as file:
        kind = find_kind(path, file)
    if kind == "gguf":
        return GGUFFile(path)
    if kind == "safetensors":
        plain = TensorFile(path)
        if not all(is_shape(entry.shape) for entry in plain.stored.values()):
            peek(path)  # which refuses it, in words
        scaled = any(key.rpartition(".")[2] in (*SCALES, *MARKS) for key in plain.stored)
        return ScaledFile(plain) if scaled else plain
    pickled = PickleFile(path)
    for note in describe_dangers(pickled.placeholders):
        warnings.warn(f"{path}: {note}", stacklevel=2)
    return pickled


def refuse(path: Path, reason: str, remedy: str = DAMAGED) -> NoReturn:
    raise BadCheckpoint(f"{path} cannot be read: {reason}", remedy)


def find_type(header: Header, key: str, others: Collection[str] = ()) -> torch.dtype:
    """torch's type of a tensor; fp32 for `others`. Raises BadCheckpoint where there is none."""
    name = header.entries[key].dtype
    if name in others:
        return torch.float32
    if name not in DTYPES:
        known = ", ".join((*DTYPES, *others))
        refuse(header.path, f"{key[:200]} has the type {name}, not one of {known}", "convert it")
    return DTYPES[name]


def read_block(path: Path, file: BufferedReader, start: int, end: int, see: See) -> Tensor:
    """Bytes of a file, in memory of their own. Raises BadCheckpoint where they are not there."""
    block = torch.empty(end - start, dtype=torch.uint8)
    memory = memoryview(block.numpy())  # type: ignore[arg-type]  # numpy has the buffer
    file.seek(start)
    if file.readinto(memory) < len(memory):
        refuse(path, "it became shorter while it was read")
    if see is not None:
        see(memory)
    return block


class PickleFile:
    """A file of torch.save, of either format: only its tensors are made, see pickles/machine.py.
    `placeholders` are the other globals that it names."""

    def __init__(self, path: Path):
        self.path = path
        with open_file(path) as file:
            self._file = read_torch_file(path, file)
        header = self._file.header
        self.metadata, self.placeholders = header.metadata, header.placeholders
        self.stored: Mapping[str, Stored] = {
            key: Stored(find_type(header, key), entry.shape, entry.start, entry.end)
            for key, entry in header.entries.items()
        }

    def read(self, see: See = None, keys: Keys = None) -> dict[str, Tensor]:
        """As that of TensorFile. `see` is called with the values, storage after storage."""
        return dict(self.stream(see, keys))

    def stream(self, see: See = None, keys: Keys = None) -> Iterator[tuple[str, Tensor]]:
        """As `read`, one tensor at a time, in the order of the file."""
        wanted = [key for key in self.stored if keys is None or key in keys]
        users: dict[str, list[str]] = {}
        for key in wanted:
            view = self._file.views[key]
            if view.storage.data is None:
                users.setdefault(view.storage.key, []).append(key)
            else:
                yield key, self._cut(key, self._decode(view.storage.data), alone=False)
        members = self._file.members
        with open_file(self.path) as file:
            for name in sorted(users, key=lambda name: members[name].start):
                start, size = members[name]
                block = read_block(self.path, file, start, start + size, see)
                for key in users[name]:
                    yield key, self._cut(key, block, alone=len(users[name]) == 1)

    def _cut(self, key: str, block: Tensor, alone: bool) -> Tensor:
        """A tensor out of its storage, in memory of its own. alone: no other one shares it."""
        view = self._file.views[key]
        values = block.view(self.stored[key].dtype)
        whole = view.count == values.numel() and view.offset == 0
        values = values.as_strided(view.shape, view.stride, view.offset)
        if alone and whole and values.is_contiguous():
            return values.view(view.shape)
        return values.clone(memory_format=torch.contiguous_format)

    def _decode(self, data: bytes | bytearray | Text) -> Tensor:
        try:
            data = data.encode() if isinstance(data, Text) else data
        except UnicodeEncodeError:
            refuse(self.path, "an array is written with signs that are no bytes")
        return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0)


class GGUFFile:
    """A GGUF file. Blocks of few bits become fp32 numbers, which is what `stored` says of them;
    `header` has their own type."""

    def __init__(self, path: Path):
        self.path, self.header = path, peek(path)
        header = self.header
        self.metadata = header.metadata
        self.stored: Mapping[str, Stored] = {
            key: Stored(find_type(header, key, BLOCKS), entry.shape, entry.start, entry.end)
            for key, entry in header.entries.items()
        }

    def read(self, see: See = None, keys: Keys = None) -> dict[str, Tensor]:
        """As that of TensorFile; `see` is called with the tensors' bytes."""
        return dict(self.stream(see, keys))

    def stream(self, see: See = None, keys: Keys = None) -> Iterator[tuple[str, Tensor]]:
        """As `read`, one tensor at a time, in the order of the file."""
        with open_file(self.path) as file:
            for key, stored in sorted(self.stored.items(), key=lambda item: item[1][2:]):
                if keys is None or key in keys:
                    block = read_block(self.path, file, stored.start, stored.end, see)
                    kind = self.header.entries[key].dtype
                    if kind in BLOCKS:
                        block = torch.from_numpy(dequantize(kind, block.numpy()))
                    yield key, block.view(stored.dtype).view(stored.shape)


class ScaledFile:
    """A safetensors file whose weights of 8 bits have a scale beside them (`layer.scale_weight`, or
    `layer.weight_scale`): each is multiplied by its scale, in fp32, and the scale is no tensor of
    its own. Scales of the activations are left out: they are computed in full."""

    def __init__(self, file: TensorFile):
        self.file, self.path, self.metadata = file, file.path, file.metadata
        self.scales: dict[str, str] = {}  # weight → its scale
        stored: dict[str, Stored] = {}
        for key, entry in file.stored.items():
            layer, _, last = key.rpartition(".")
            if last in SCALES:
                self.scales[f"{layer}.weight"] = key
            elif last not in MARKS:
                stored[key] = entry
        for key, scale in self.scales.items():
            shape, weight = file.stored[scale].shape, stored.get(key)
            rows = weight is not None and weight.shape[:1] == shape[:1] and prod(shape[1:]) == 1
            if weight is None or not (prod(shape) == 1 or (shape and rows)):
                what = "no weight beside it" if weight is None else f"the shape {shape}"
                refuse(self.path, f"the scale {scale[:200]} has {what}", "convert it to fp16")
            stored[key] = weight._replace(dtype=torch.float32)
        self.stored: Mapping[str, Stored] = stored

    def read(self, see: See = None, keys: Keys = None) -> dict[str, Tensor]:
        """As that of TensorFile."""
        return dict(self.stream(see, keys))

    def stream(self, see: See = None, keys: Keys = None) -> Iterator[tuple[str, Tensor]]:
        """As `read`, one tensor at a time, in the order of the file."""
        wanted = {self.scales[key] for key in self.scales if keys is None or key in keys}
        scales = self.file.read(keys=wanted)
        for key, tensor in self.file.stream(see, keys):
            if key in self.stored:
                if key in self.scales:
                    each = scales[self.scales[key]].float().view(-1, *[1] * (tensor.ndim - 1))
                    tensor = (tensor.float() * each).view(tensor.shape)
                yield key, tensor
