"""Weights in a file of their own (ONNX external data), to which one graph or several refer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fromnoise.checkpoints.onnx.trace import Traced

DTYPES = ("fp32", "fp16", "int8")
ALIGNMENT = 64  # bytes: where a tensor may begin
SMALL = 1024  # values; a smaller tensor (norms, biases) stays in fp32
HALF = 65504  # the largest number of fp16


@dataclass
class Stored:
    """A weight in its file. What a graph computes with is in fp32: fp16 values are cast, int8
    values are multiplied by the scales (C,) of their rows."""

    name: str
    values: np.ndarray
    scales: np.ndarray | None = None


def store(weights: Mapping[str, np.ndarray], dtype: str) -> list[Stored]:
    """The weights in the type that a file has them in: "fp32", "fp16" or "int8"."""
    return [store_one(name, values, dtype) for name, values in weights.items()]


def store_one(name: str, values: np.ndarray, dtype: str) -> Stored:
    largest = np.abs(values).max() if values.size >= SMALL and values.dtype == np.float32 else 0
    if dtype == "fp16" and 0 < largest <= HALF:
        return Stored(name, values.astype(np.float16))
    if dtype == "int8" and largest > 0 and values.ndim > 1:
        rows = np.abs(values.reshape(len(values), -1)).max(1)
        scales = np.where(rows > 0, rows / 127, 1).astype(np.float32)
        steps = np.rint(values / scales.reshape(-1, *(1,) * (values.ndim - 1)))
        return Stored(name, steps.astype(np.int8), scales)
    return Stored(name, values)


def write_weights(path: Path, stored: Iterable[Stored]) -> list[dict[str, Any]]:
    """Writes the file → the entries that `refer_to_file` wants."""
    entries = []
    with path.open("wb") as file:
        for weight in stored:
            for values, kind in ((weight.values, ""), (weight.scales, "scales")):
                if values is not None:
                    file.write(bytes(-file.tell() % ALIGNMENT))
                    place = {"name": weight.name, "kind": kind, "offset": file.tell()}
                    entries.append(place | {"shape": values.shape, "dtype": values.dtype})
                    file.write(np.ascontiguousarray(values).data)
    return entries


def refer_to_file(traced: Traced, path: str, entries: Iterable[dict[str, Any]]) -> Any:
    """A copy of the graph in which each weight that it needs lies in the file `path`.

    An entry has the weight's name, shape, offset (bytes) and NumPy dtype (float32 if left out);
    where `kind` is "scales" it is of the scales of the weight before it."""
    import onnx
    from onnx.helper import make_node, np_dtype_to_tensor_dtype

    model, nodes = onnx.ModelProto(), []
    model.CopyFrom(traced.graph)
    scaled = {entry["name"] for entry in entries if entry.get("kind")}
    for entry in entries:
        if (name := entry["name"]) not in traced.weights:
            continue
        dtype, shape = np.dtype(entry.get("dtype", np.float32)), entry["shape"]
        if entry.get("kind"):
            stored_name = f"{name}.scales"
            inputs = [f"{name}.int8", stored_name]
            nodes.append(make_node("DequantizeLinear", inputs, [name], axis=0))
        elif name in scaled:
            stored_name = f"{name}.int8"
        elif dtype == np.float16:
            stored_name = f"{name}.fp16"
            nodes.append(make_node("Cast", [stored_name], [name], to=onnx.TensorProto.FLOAT))
        else:
            stored_name = name
        tensor = model.graph.initializer.add(name=stored_name, dims=shape)
        tensor.data_type = np_dtype_to_tensor_dtype(dtype)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        size = prod(shape) * dtype.itemsize
        for key, value in (("location", path), ("offset", entry["offset"]), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    return model
