"""The globals that a pickle of tensors may call: what each one gives, made by functions of ours.

Each takes the machine and the arguments that the pickle gives, and trusts none of them."""

import struct
from collections.abc import Callable
from math import prod
from typing import Any

from fromnoise.checkpoints.entries import BITS
from fromnoise.checkpoints.pickles.machine import Machine
from fromnoise.checkpoints.pickles.values import (
    Global,
    Inert,
    Storage,
    TensorView,
    Text,
    as_sizes,
    make_view,
)
from fromnoise.errors import BadCheckpoint

# torch's name of a storage, without "Storage" → the type of its values
STORAGES = {
    "Double": "F64",
    "Float": "F32",
    "Half": "F16",
    "BFloat16": "BF16",
    "Long": "I64",
    "Int": "I32",
    "Short": "I16",
    "Char": "I8",
    "Byte": "U8",
    "Bool": "BOOL",
    "Untyped": "U8",
    "ComplexFloat": "C64",
}
TYPES = {
    "float64": "F64",
    "double": "F64",
    "float32": "F32",
    "float": "F32",
    "float16": "F16",
    "half": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "long": "I64",
    "int32": "I32",
    "int": "I32",
    "int16": "I16",
    "short": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
    "complex64": "C64",
}
# NumPy's kind and bytes → the type, and how `struct` calls one such value
ARRAYS = {
    "b1": ("BOOL", "?"),
    "i1": ("I8", "b"),
    "u1": ("U8", "B"),
    "i2": ("I16", "h"),
    "u2": ("U16", "H"),
    "i4": ("I32", "i"),
    "u4": ("U32", "I"),
    "i8": ("I64", "q"),
    "u8": ("U64", "Q"),
    "f2": ("F16", "e"),
    "f4": ("F32", "f"),
    "f8": ("F64", "d"),
}
STORAGE_TYPES = {
    f"{module}.{name}Storage": dtype
    for module in ("torch", "torch.cuda", "torch.storage")
    for name, dtype in STORAGES.items()
}
DTYPES = {f"torch.{name}": dtype for name, dtype in TYPES.items()}


def rebuild_tensor(m: Machine, storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any):
    return make_view(storage, offset, shape, stride)


def rebuild_typed(m: Machine, storage: Any, *rest: Any) -> Any:
    """Of a storage without a type."""
    offset, shape, stride, _, _, dtype, *_ = rest
    name = DTYPES.get(getattr(dtype, "name", ""))
    if name is None or not isinstance(storage, Storage) or storage.data is not None:
        raise BadCheckpoint("a tensor without a storage, or of an unknown type")
    size, each = storage.size, BITS[name] // 8
    if storage.first or size % each:
        raise BadCheckpoint(f"a storage of {size:,} bytes for values of {each}")
    return make_view(Storage(storage.key, name, size // each), offset, shape, stride)


def rebuild_first(m: Machine, value: Any, *rest: Any) -> Any:
    """Of a parameter, which is its tensor, or of a tensor that lay on a device."""
    return as_tensor(value) or value


def rebuild_by_type(m: Machine, function: Any, kind: Any, arguments: Any, *state: Any) -> Any:
    """Of a tensor with attributes, which are left out."""
    if isinstance(function, Global) and function.name in INNER:
        return m.call(function, arguments)
    return Inert(function, arguments)


def make_dict(m: Machine, pairs: Any = (), *rest: Any) -> dict[Any, Any]:
    """An OrderedDict, or a defaultdict whose first argument is what it makes."""
    made: dict[Any, Any] = {}
    if isinstance(pairs, list | tuple):
        m.spend(len(pairs))
        for key, value in pairs:
            m.add(made, key, value)
    return made


def make_plain(m: Machine, value: Any = (), *rest: Any) -> Any:
    """Of a set or a size: its values."""
    return value


def encode(m: Machine, text: Any, encoding: Any = "utf-8", *rest: Any) -> Any:
    if isinstance(text, str) and encoding == "latin1":
        return Text(text)
    raise BadCheckpoint("bytes in an encoding other than latin1")


def make_scalar(m: Machine, dtype: Any, data: Any = b"") -> Any:
    """A NumPy number."""
    code, order = read_dtype(dtype)
    if isinstance(data, bytes | Text) and len(data) == int(code[1:] or 0) and code in ARRAYS:
        data = data.encode() if isinstance(data, Text) else data
        return struct.unpack(order + ARRAYS[code][1], data)[0]
    return Inert(dtype, data)


def make_array(m: Machine, data: Any, dtype: Any, shape: Any, order: Any, *rest: Any) -> Inert:
    """A NumPy array, in the words of protocol 5: as `_reconstruct` with its state."""
    made = Inert(Global("numpy._reconstruct"))
    made.state = (1, shape, dtype, order == "F", data)
    return made


def read_dtype(dtype: Any) -> tuple[str, str]:
    """NumPy's name of a type, such as "f4" or "" for one that is not known, and its byte order."""
    if not isinstance(dtype, Inert) or not isinstance(dtype.args, tuple) or not dtype.args:
        return "", "<"
    code, order = dtype.args[0], "<"
    if isinstance(dtype.state, tuple) and len(dtype.state) > 1 and dtype.state[1] == ">":
        order = ">"
    return (code if isinstance(code, str) and code in ARRAYS else ""), order


def as_tensor(value: Any) -> TensorView | None:
    """A tensor, or the array that is written in its place; None for anything else."""
    if isinstance(value, TensorView):
        return value
    if not isinstance(value, Inert) or not isinstance(value.of, Global):
        return None
    state = value.state
    if not value.of.name.endswith("._reconstruct") or not isinstance(state, tuple):
        return None
    if len(state) != 5:
        return None
    _, shape, dtype, by_column, data = state
    code, order = read_dtype(dtype)
    if not code or order != "<" or not isinstance(data, bytes | bytearray | Text):
        return None
    kind = ARRAYS[code][0]
    shape = as_sizes(shape)
    if len(data) * 8 != prod(shape) * BITS[kind]:
        raise BadCheckpoint(f"an array of {shape} has {len(data):,} bytes")
    strides, step = [0] * len(shape), 1
    for i in range(len(shape)) if by_column else reversed(range(len(shape))):
        strides[i], step = step, step * shape[i]
    storage = Storage("", kind, prod(shape), data=data)
    return make_view(storage, 0, shape, strides)


INNER = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3")
CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": rebuild_typed,
    "torch._utils._rebuild_parameter": rebuild_first,
    "torch._utils._rebuild_parameter_with_state": rebuild_first,
    "torch._utils._rebuild_device_tensor_from_numpy": rebuild_first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": rebuild_first,
    "torch._utils._rebuild_xla_tensor": rebuild_first,
    "torch._tensor._rebuild_from_type": rebuild_by_type,
    "torch._tensor._rebuild_from_type_v2": rebuild_by_type,
    "torch.Size": make_plain,
    "collections.OrderedDict": make_dict,
    "collections.defaultdict": lambda m, *rest: {},
    "_codecs.encode": encode,
    "builtins.set": make_plain,
    "__builtin__.set": make_plain,
    "builtins.frozenset": make_plain,
    "__builtin__.frozenset": make_plain,
    "builtins.list": make_plain,
    "__builtin__.list": make_plain,
    "numpy.core.numeric._frombuffer": make_array,
    "numpy._core.numeric._frombuffer": make_array,
    "numpy.core.multiarray.scalar": make_scalar,
    "numpy._core.multiarray.scalar": make_scalar,
}
# named by such files, and no cause for surprise: nothing is made of them but what they are
PLAIN = """
torch.Tensor torch.nn.parameter.Parameter torch.nn.parameter.Buffer torch.device
torch.storage._TypedStorage torch.storage.TypedStorage numpy.ndarray numpy.dtype
numpy.core.multiarray._reconstruct numpy._core.multiarray._reconstruct
builtins.int builtins.float builtins.str builtins.bool builtins.dict builtins.tuple builtins.bytes
__builtin__.int __builtin__.float __builtin__.str __builtin__.bool __builtin__.dict
__builtin__.unicode
"""
KNOWN: dict[str, Any] = STORAGE_TYPES | DTYPES | dict.fromkeys(PLAIN.split())
