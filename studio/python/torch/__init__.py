"""The tab's stand-in for PyTorch: as much of it as the sampler files of this repository use.

A Tensor holds its values in an `array` of Python: float32 ("f") or float64 ("d"). Sums, products
and quotients have PyTorch's bits: a number that meets a float32 Tensor is rounded to float32, and
so is each result.

What is not here says so: the full PyTorch does not fit in a browser tab."""

import math
import operator
from array import array
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import repeat
from numbers import Real
from typing import Any

from torch.missing import Missing

float32, float64 = "f", "d"
float, double = float32, float64  # PyTorch's other names for them
pi, inf, nan = math.pi, math.inf, math.nan

_HERE = (
    "It has Tensor, tensor, as_tensor, zeros, ones, full, arange, linspace, zeros_like, ones_like, "
    "full_like, cat, stack, maximum, minimum, lerp, sqrt, exp, log, abs, diag and linalg.eigh."
)


class Tensor:
    """Numbers in rows: `values` (row by row) and `shape`. dtype: "f" for float32, "d" for
    float64."""

    __slots__ = ("shape", "values")
    __array_priority__ = 1

    def __init__(self, values: array, shape: Sequence[int]):
        self.values, self.shape = values, tuple(shape)

    @property
    def dtype(self) -> str:
        return self.values.typecode

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def device(self) -> str:
        return "cpu"

    def numel(self) -> int:
        return len(self.values)

    def size(self, axis: int | None = None) -> Any:
        return self.shape if axis is None else self.shape[axis]

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a Tensor without axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> "Tensor":
        """Along the first axis: a whole number, or a slice of step 1. Further axes as a tuple."""
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        if not self.shape:
            raise IndexError("a Tensor without axes cannot be indexed")
        size = len(self.values) // self.shape[0] if self.shape[0] else 0
        if isinstance(first, slice):
            start, stop, step = first.indices(self.shape[0])
            if step != 1:
                raise Missing("indexing with a step", _HERE)
            stop = max(start, stop)
            values, shape = self.values[start * size : stop * size], (stop - start, *self.shape[1:])
            if not rest:
                return Tensor(values, shape)
            return stack([Tensor(values, shape)[i][rest] for i in range(stop - start)])
        if not isinstance(first, int):
            raise Missing(f"indexing with {type(first).__name__}", _HERE)
        if not -self.shape[0] <= first < self.shape[0]:
            raise IndexError(f"index {first} is outside of an axis of {self.shape[0]}")
        first %= self.shape[0]
        part = Tensor(self.values[first * size : (first + 1) * size], self.shape[1:])
        return part[rest] if rest else part

    # one number

    def item(self) -> Any:
        if len(self.values) != 1:
            raise ValueError(f"a Tensor of {len(self.values)} values is not one number")
        return self.values[0]

    def __float__(self) -> Any:
        return self.item()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __lt__(self, other: Any) -> bool:
        return self.item() < _read_number(other)

    def __gt__(self, other: Any) -> bool:
        return self.item() > _read_number(other)

    def __le__(self, other: Any) -> bool:
        return self.item() <= _read_number(other)

    def __ge__(self, other: Any) -> bool:
        return self.item() >= _read_number(other)

    def __eq__(self, other: Any) -> bool:
        return self.item() == _read_number(other)

    __hash__ = None  # type: ignore[assignment]

    # arithmetic

    def __add__(self, other: Any) -> "Tensor":
        return _combine(operator.add, self, other)

    def __radd__(self, other: Any) -> "Tensor":
        return _combine(operator.add, self, other)

    def __sub__(self, other: Any) -> "Tensor":
        return _combine(operator.sub, self, other)

    def __rsub__(self, other: Any) -> "Tensor":
        return _combine(lambda a, b: b - a, self, other)

    def __mul__(self, other: Any) -> "Tensor":
        return _combine(operator.mul, self, other)

    def __rmul__(self, other: Any) -> "Tensor":
        return _combine(operator.mul, self, other)

    def __truediv__(self, other: Any) -> "Tensor":
        return _combine(_divide, self, other)

    def __rtruediv__(self, other: Any) -> "Tensor":
        return _combine(lambda a, b: _divide(b, a), self, other)

    def __pow__(self, other: Any) -> "Tensor":
        return _combine(operator.pow, self, other)

    def __rpow__(self, other: Any) -> "Tensor":
        return _combine(lambda a, b: b**a, self, other)

    def __neg__(self) -> "Tensor":
        return self._map(operator.neg)

    def __abs__(self) -> "Tensor":
        return self.abs()

    def add(self, other: Any, *, alpha: Any = 1) -> "Tensor":
        """self + alpha·other, with one rounding to float32 as on a processor with AVX2."""
        if alpha == 1:
            return self + other
        factor = _round(alpha, self.dtype)
        return _combine(lambda a, b: a + factor * b, self, other)

    def add_(self, other: Any, *, alpha: Any = 1) -> "Tensor":
        """`add` in place."""
        return self._replace(self.add(other, alpha=alpha))

    def sub_(self, other: Any) -> "Tensor":
        return self._replace(self - other)

    def mul_(self, other: Any) -> "Tensor":
        return self._replace(self * other)

    def div_(self, other: Any) -> "Tensor":
        return self._replace(self / other)

    def sub(self, other: Any) -> "Tensor":
        return self - other

    def mul(self, other: Any) -> "Tensor":
        return self * other

    def div(self, other: Any) -> "Tensor":
        return self / other

    def lerp(self, end: "Tensor", weight: Any) -> "Tensor":
        return self + (end - self) * weight

    # value by value

    def abs(self) -> "Tensor":
        return self._map(operator.abs)

    def sqrt(self) -> "Tensor":
        return self._map(lambda a: math.sqrt(a) if a >= 0 else nan)

    def square(self) -> "Tensor":
        return self._map(lambda a: a * a)

    def exp(self) -> "Tensor":
        return self._map(math.exp)

    def log(self) -> "Tensor":
        return self._map(lambda a: math.log(a) if a > 0 else (-inf if a == 0 else nan))

    def clamp(self, min: Any = -inf, max: Any = inf) -> "Tensor":
        return self._map(lambda a: min if a < min else max if a > max else a)

    # over all values

    def sum(self) -> "Tensor":
        return Tensor(array(self.dtype, [math.fsum(self.values)]), ())

    def mean(self) -> "Tensor":
        return Tensor(array(self.dtype, [math.fsum(self.values) / len(self.values)]), ())

    def max(self) -> "Tensor":
        return Tensor(array(self.dtype, [max(self.values)]), ())

    def min(self) -> "Tensor":
        return Tensor(array(self.dtype, [min(self.values)]), ())

    def std(self) -> "Tensor":
        mean = math.fsum(self.values) / len(self.values)
        square = math.fsum((a - mean) ** 2 for a in self.values) / (len(self.values) - 1)
        return Tensor(array(self.dtype, [math.sqrt(square)]), ())

    def norm(self) -> "Tensor":
        return Tensor(array(self.dtype, [math.sqrt(math.fsum(a * a for a in self.values))]), ())

    # other forms

    def to(self, *targets: Any, dtype: str | None = None, **_: Any) -> "Tensor":
        """The same values in the dtype of a Tensor, or in a dtype. A device means nothing here."""
        for target in (*targets, dtype):
            if isinstance(target, Tensor):
                return self._cast(target.dtype)
            if target in (float32, float64):
                return self._cast(target)
        return self

    def float(self) -> "Tensor":
        return self._cast(float32)

    def double(self) -> "Tensor":
        return self._cast(float64)

    def clone(self) -> "Tensor":
        return Tensor(self.values[:], self.shape)

    def detach(self) -> "Tensor":
        return self

    def cpu(self) -> "Tensor":
        return self

    def flatten(self) -> "Tensor":
        return Tensor(self.values[:], (len(self.values),))

    def reshape(self, *shape: Any) -> "Tensor":
        sizes = [*shape[0]] if len(shape) == 1 and not isinstance(shape[0], int) else [*shape]
        if -1 in sizes:
            known = -math.prod(sizes)
            sizes[sizes.index(-1)] = len(self.values) // known if known else 0
        if math.prod(sizes) != len(self.values):
            raise ValueError(f"{len(self.values)} values do not fill the shape {tuple(sizes)}")
        return Tensor(self.values[:], sizes)

    def tolist(self) -> Any:
        if not self.shape:
            return self.values[0]
        return self.values.tolist() if self.ndim == 1 else [row.tolist() for row in self]

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:.4g}" for value in self.values[:6])
        more = ", …" if len(self.values) > 6 else ""
        return f"tensor([{shown}{more}], shape={self.shape})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python itself asks, to see what a Tensor can do
            raise AttributeError(name)
        raise Missing(f"Tensor.{name}", _HERE)

    def _map(self, function: Callable) -> "Tensor":
        return Tensor(array(self.dtype, map(function, self.values)), self.shape)

    def _cast(self, dtype: str) -> "Tensor":
        return self if dtype == self.dtype else Tensor(array(dtype, self.values), self.shape)

    def _replace(self, result: "Tensor") -> "Tensor":
        self.values = result._cast(self.dtype).values
        return self


def _read_number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _round(number: Any, dtype: str) -> Any:
    """A number as a Tensor of that dtype sees it."""
    return array(dtype, [number])[0]


def _divide(a: Any, b: Any) -> Any:
    try:
        return a / b
    except ZeroDivisionError:
        return math.copysign(inf, a) * math.copysign(1, b) if a else nan


def _combine(function: Callable, a: Tensor, b: Any) -> Tensor:
    """function(a, b) value by value. b: a number, or a Tensor of the same shape or without axes."""
    if isinstance(b, Tensor):
        if a.shape == b.shape:
            dtype = max(a.dtype, b.dtype, key=(float32, float64).index)
            return Tensor(array(dtype, map(function, a.values, b.values)), a.shape)
        if b.shape and a.shape:
            raise Missing(f"arithmetic between the shapes {a.shape} and {b.shape}", _HERE)
        if not a.shape:  # a without axes takes b's place
            return _combine(lambda x, y: function(y, x), b, a.item())
        b = b.item()
    elif not isinstance(b, Real):
        return NotImplemented
    return Tensor(array(a.dtype, map(function, a.values, repeat(_round(b, a.dtype)))), a.shape)


def tensor(data: Any, dtype: str = float32, device: Any = None) -> Tensor:
    """A Tensor of a number or of nested lists."""
    if isinstance(data, Tensor):
        return data.clone()._cast(dtype)
    if isinstance(data, (list, tuple)):
        if data and isinstance(data[0], (list, tuple, Tensor)):
            return stack([tensor(row, dtype) for row in data])
        return Tensor(array(dtype, map(_read_number, data)), (len(data),))
    return Tensor(array(dtype, [data]), ())


def as_tensor(data: Any, dtype: str | None = None, device: Any = None) -> Tensor:
    if isinstance(data, Tensor):
        return data if dtype is None else data._cast(dtype)
    return tensor(data, dtype or float32)


def full(shape: Sequence[int], value: Any, dtype: str = float32) -> Tensor:
    return Tensor(array(dtype, [value]) * math.prod(shape), shape)


def _unpack(shape: tuple) -> Sequence[int]:
    return shape if all(isinstance(size, int) for size in shape) else shape[0]


def zeros(*shape: Any, dtype: str = float32) -> Tensor:
    return full(_unpack(shape), 0.0, dtype)


def ones(*shape: Any, dtype: str = float32) -> Tensor:
    return full(_unpack(shape), 1.0, dtype)


def full_like(like: Tensor, value: Any) -> Tensor:
    return full(like.shape, value, like.dtype)


def zeros_like(like: Tensor) -> Tensor:
    return full_like(like, 0.0)


def ones_like(like: Tensor) -> Tensor:
    return full_like(like, 1.0)


def empty_like(like: Tensor) -> Tensor:
    return full_like(like, 0.0)


def arange(start: Any, end: Any = None, step: Any = 1, dtype: str = float32) -> Tensor:
    start, end = (0, start) if end is None else (start, end)
    count = max(0, math.ceil((end - start) / step))
    return Tensor(array(dtype, [start + step * i for i in range(count)]), (count,))


def linspace(start: Any, end: Any, steps: int, dtype: str = float32) -> Tensor:
    stride = (end - start) / max(steps - 1, 1)
    return Tensor(array(dtype, [start + stride * i for i in range(steps)]), (steps,))


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    if dim != 0:
        raise Missing(f"cat along axis {dim}", _HERE)
    values = array(tensors[0].dtype)
    for part in tensors:
        values.extend(part.values)
    return Tensor(values, (sum(map(len, tensors)), *tensors[0].shape[1:]))


def stack(tensors: Sequence[Tensor]) -> Tensor:
    return cat([Tensor(part.values, (1, *part.shape)) for part in tensors])


def maximum(a: Tensor, b: Tensor) -> Tensor:
    return _combine(max, a, b)


def minimum(a: Tensor, b: Tensor) -> Tensor:
    return _combine(min, a, b)


def lerp(start: Tensor, end: Tensor, weight: Any) -> Tensor:
    return start.lerp(end, weight)


def sqrt(values: Tensor) -> Tensor:
    return values.sqrt()


def exp(values: Tensor) -> Tensor:
    return values.exp()


def log(values: Tensor) -> Tensor:
    return values.log()


def abs(values: Tensor) -> Tensor:
    return values.abs()


def diag(values: Tensor, diagonal: int = 0) -> Tensor:
    """A square Tensor with these values beside its main diagonal, `diagonal` places to the
    right."""
    n = len(values) + (diagonal if diagonal >= 0 else -diagonal)
    result = full((n, n), 0.0, values.dtype)
    for i, value in enumerate(values.values):
        row, column = (i, i + diagonal) if diagonal >= 0 else (i - diagonal, i)
        result.values[row * n + column] = value
    return result


def __getattr__(name: str) -> Any:
    if name == "linalg":  # it needs Tensor first
        return import_module("torch.linalg")
    if name.startswith("__"):
        raise AttributeError(name)
    raise Missing(f"torch.{name}", _HERE)
