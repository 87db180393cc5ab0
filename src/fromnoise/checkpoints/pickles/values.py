"""What a pickle of torch is made into: plain values, tensors that still lie in the file, and inert
stand-ins for everything else."""

from dataclasses import dataclass
from math import prod
from typing import Any

from fromnoise.checkpoints.entries import BITS, DIMENSIONS, is_shape
from fromnoise.errors import BadCheckpoint

EXPANDED = 1 << 20  # values of a tensor that may be more than its storage has, by strides of 0


class Global:
    """A name that a pickle asks for, `module.name`: never imported, so nothing can be called."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


class Inert:
    """Stands for an object that a global would have made: it holds what the pickle gave it."""

    __slots__ = ("args", "items", "of", "state")

    def __init__(self, of: Any, args: Any = ()):
        self.of, self.args = of, args
        self.items: dict[Any, Any] | None = None
        self.state: Any = None

    def __repr__(self) -> str:
        return f"<{self.of!r}>" if isinstance(self.of, Global) else "<inert>"


@dataclass(frozen=True, slots=True)
class Text:
    """Bytes that a pickle writes as a text in Latin-1, encoded only where they are used."""

    text: str

    def __len__(self) -> int:
        return len(self.text)

    def encode(self) -> bytes:
        return self.text.encode("latin-1")


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of values in the file, which tensors are cut from."""

    key: str  # its name in the archive, "" where the bytes stand in the pickle itself
    dtype: str
    count: int  # values
    first: int = 0  # of a view: where it begins in the storage of that key
    data: bytes | bytearray | Text | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * BITS[self.dtype] // 8


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor: values of a storage, at an offset and strides that count values."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> str:
        return self.storage.dtype

    @property
    def count(self) -> int:
        return prod(self.shape)


def make_view(storage: Any, offset: Any, shape: Any, stride: Any) -> TensorView:
    """A tensor whose numbers are checked: every value lies in its storage. Raises BadCheckpoint."""
    shape, stride = as_sizes(shape), as_sizes(stride)
    if not isinstance(storage, Storage) or len(shape) != len(stride):
        raise BadCheckpoint("a tensor without a storage, or without a stride for each size")
    if type(offset) is not int or not 0 <= offset < 2**63:
        raise BadCheckpoint(f"a tensor at the offset {offset!r:.40}")
    count = prod(shape)
    if count:
        last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if last >= storage.count:
            reason = f"a tensor of {shape} reaches value {last:,} of a storage of {storage.count:,}"
            raise BadCheckpoint(reason)
    if count > max(storage.count, EXPANDED):
        raise BadCheckpoint(f"a tensor of {count:,} values in a storage of {storage.count:,}")
    return TensorView(storage, storage.first + offset, shape, stride)


def as_sizes(value: Any) -> tuple[int, ...]:
    """Raises BadCheckpoint for what is no short list of sizes."""
    if isinstance(value, tuple | list) and len(value) <= DIMENSIONS:
        value = tuple(value)
        if all(type(n) is int and 0 <= n < 2**63 for n in value) and is_shape(value):
            return value
    raise BadCheckpoint("a tensor whose shape or stride is no short list of sizes")
