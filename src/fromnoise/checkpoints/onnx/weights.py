"""Weights in a file of their own (ONNX external data), to which one graph or several refer."""

from collections.abc import Iterable
from typing import Any

from fromnoise.checkpoints.onnx.trace import Traced


def refer_to_file(traced: Traced, path: str, entries: Iterable[dict[str, Any]]) -> Any:
    """A copy of the graph in which each weight it needs is a float32 tensor in the file `path`;
    entries: name, shape and offset (bytes) of every weight in that file."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(traced.graph)
    for entry in entries:
        if entry["name"] not in traced.weights:
            continue
        shape, size = entry["shape"], 4
        tensor = model.graph.initializer.add(name=entry["name"], dims=shape)
        tensor.data_type = onnx.TensorProto.FLOAT
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for side in shape:
            size *= side
        place = {"location": path, "offset": str(entry["offset"]), "length": str(size)}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
    return model
