"""A network → an ONNX graph and, apart from it, its weights by their parameter names."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from fromnoise.checkpoints.onnx.parts import Part
from fromnoise.errors import BadInput

OPSET = 20
LARGE = 512  # bytes of a constant that is stored with the weights
INSTALL = "install them: pip install 'fromnoise[onnx]'"


class Traced(NamedTuple):
    """A graph (an onnx.ModelProto) whose weights are named and not there, and the weights."""

    graph: Any
    weights: dict[str, np.ndarray]


def require_onnx() -> None:
    """Raises BadInput where the packages of the extra are not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise BadInput(f"the export needs packages that are not here: {error}", INSTALL) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, the exporter keeps to itself what no user can act on: that torchvision is not there,
    and what PyTorch finds outdated in its own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def trace(part: Part, fixed: bool = False) -> Traced:
    """Exports a part with PyTorch's exporter. fixed: only the batch may change from call to call,
    which makes a smaller graph; the example's other sizes are then the graph's own."""
    require_onnx()
    from onnxscript.optimizer import optimize_ir

    auto = torch.export.Dim.DYNAMIC
    shapes = {
        name: {axis: auto for axis in axes if not (fixed and axis)}
        for name, axes in part.axes.items()
    }
    network, names = part.network.eval(), list(part.inputs)
    with quiet(), torch.no_grad():
        program = torch.export.export(
            network, tuple(part.inputs.values()), dynamic_shapes=shapes, strict=False
        )
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            output_names=part.outputs,
            optimize=False,
            verbose=False,
        )
        assert exported is not None
        model = exported.model
        own = {*network.state_dict()}
        # weights stay as they are, under their names: who runs the graph folds what can be folded

        def should_fold(node: Any) -> bool | None:
            return False if any(v is not None and v.name in own for v in node.inputs) else None

        optimize_ir(model, should_fold=should_fold)
    return split_weights(model, part, own)


def split_weights(model: Any, part: Part, own: set[str]) -> Traced:
    """Takes the weights, and large constants, out of a graph; gives them, and the axes of inputs,
    readable names."""
    from onnxscript import ir

    weights, short = {}, {}
    for name, value in list(model.graph.initializers.items()):
        if name in own or value.const_value.nbytes > LARGE:
            short[name] = name.removeprefix("network.")
            weights[short[name]] = value.const_value.numpy()
            del model.graph.initializers[name]
    graph = ir.to_proto(model)
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for i, name in enumerate(node.input):
            node.input[i] = short.get(name, name)
    del graph.graph.value_info[:], graph.graph.metadata_props[:], graph.metadata_props[:]
    name_axes(graph, part)
    return Traced(graph, dict(sorted(weights.items())))


def name_axes(graph: Any, part: Part) -> None:
    """Gives the axes of inputs their names, and those of outputs as formulas of them."""
    names = {}
    for value in graph.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param:
                names.setdefault(dim.dim_param, part.axes[value.name].get(axis, dim.dim_param))
    for value in (*graph.graph.input, *graph.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r"\bs\d+\b", lambda m: names.get(m[0], m[0]), dim.dim_param)


def drop_outputs(traced: Traced, count: int) -> Traced:
    """The same graph without its last `count` outputs and all that only they need."""
    import onnx

    graph = onnx.ModelProto()
    graph.CopyFrom(traced.graph)
    body = graph.graph
    del body.output[len(body.output) - count :]
    needed, kept = {value.name for value in body.output}, []
    for node in reversed(body.node):  # a graph's nodes stand in the order of their computation
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    constants = [tensor for tensor in body.initializer if tensor.name in needed]
    del body.node[:], body.initializer[:]
    body.node.extend(reversed(kept))
    body.initializer.extend(constants)
    return Traced(graph, {k: v for k, v in traced.weights.items() if k in needed})
