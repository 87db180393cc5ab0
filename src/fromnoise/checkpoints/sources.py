"""Files of tensors of any kind, opened by their content: safetensors, pickles of torch, GGUF.

`open_tensors` gives each of them the face of `tensors.TensorFile`."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn, Protocol

import torch
from torch import Tensor

from fromnoise.checkpoints.configs import open_file
from fromnoise.checkpoints.entries import DAMAGED, Header
from fromnoise.checkpoints.headers import peek
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
    header = peek(path)
    for note in describe_dangers(header.placeholders):
        warnings.warn(f"{path}: {note}", stacklevel=2)
    return PickleFile(path) if header.kind == "pickle" else TensorFile(path)


def find_type(header: Header, key: str, dtypes: Mapping[str, torch.dtype] = DTYPES) -> torch.dtype:
    """torch's type of a tensor. Raises BadCheckpoint where it has none that we read."""
    name = header.entries[key].dtype
    if name not in dtypes:
        reason = f"{key[:200]} has the type {name}, not one of {', '.join(dtypes)}"
        raise BadCheckpoint(f"{header.path} cannot be read: {reason}", "convert it to one of them")
    return dtypes[name]


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
                block = torch.empty(members[name].size, dtype=torch.uint8)
                memory = memoryview(block.numpy())  # type: ignore[arg-type]  # numpy has the buffer
                file.seek(members[name].start)
                if file.readinto(memory) < len(memory):
                    self._refuse("it became shorter while it was read")
                if see is not None:
                    see(memory)
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
            self._refuse("an array is written with signs that are no bytes")
        return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0)

    def _refuse(self, reason: str) -> NoReturn:
        raise BadCheckpoint(f"{self.path} cannot be read: {reason}", DAMAGED)
