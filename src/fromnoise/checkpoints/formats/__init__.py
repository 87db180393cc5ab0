"""FORMATS: the registry of what can be read; a format is imported when it is used."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from fromnoise.errors import NotFound

# kind → module here with `load(path, …)` → the sign of such a path: a file in it, or how it ends
FORMATS = {
    "model": {"diffusers_folder": "model_index.json"},
    "upscaler": {"upscaler": ".safetensors"},
}


def find_loader(kind: str, path: Path) -> Callable[..., Any]:
    """The `load` of the first format of that kind whose sign the path has. Raises NotFound."""
    for module, sign in FORMATS[kind].items():
        if path.name.lower().endswith(sign) or os.path.lexists(path / sign):
            return import_module(f"{__name__}.{module}").load
    signs = " or ".join(FORMATS[kind].values())
    raise NotFound(f"no {kind} in {path}: it has no {signs}", "give the folder of a whole pipeline")
