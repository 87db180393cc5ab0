"""EXPORTS: the registry of what models can be written as, for other programs."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from fromnoise.errors import UnknownName

# kind of files → module with its `export(model, folder, dtype, parts) → Report`
EXPORTS = {"onnx": "fromnoise.checkpoints.onnx.export"}


def load_exporter(kind: str) -> Callable[..., Any]:
    """The `export` of that kind of files. Raises UnknownName."""
    if kind not in EXPORTS:
        raise UnknownName("kind of files", kind, EXPORTS)
    return import_module(EXPORTS[kind]).export
