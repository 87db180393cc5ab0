"""Files of tensors of any kind, opened by their content: safetensors, pickles of torch, GGUF.

`open_tensors` gives each of them the face of `tensors.TensorFile`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor

from fromnoise.checkpoints.headers import peek
from fromnoise.checkpoints.tensors import Keys, See, Stored, TensorFile


class TensorSource(Protocol):
    """A file whose header is read and checked, and whose tensors can be read."""

    path: Path
    metadata: dict[str, str]
    stored: Mapping[str, Stored]

    def read(self, see: See = None, keys: Keys = None) -> dict[str, Tensor]: ...

    def stream(self, see: See = None, keys: Keys = None) -> Iterator[tuple[str, Tensor]]: ...


def open_tensors(path: Path) -> TensorSource:
    """The file's tensors, by its content, whatever its name ends with. Raises NotFound, and
    BadCheckpoint for a damaged file or one of another kind."""
    peek(path)
    return TensorFile(path)
