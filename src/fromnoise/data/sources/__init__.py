"""The registry of data sources: a name → "module:Class", loaded when it is opened."""

from importlib import import_module
from inspect import signature
from typing import Any

from fromnoise.data.source import Source
from fromnoise.errors import BadInput, UnknownName

SOURCES = {"stickers": "fromnoise.data.sources.stickers:Stickers"}


def open_source(name: str, **options: Any) -> Source:
    """The source of that name, e.g. `open_source("stickers", size=128)`.

    Raises UnknownName, with the choices, for a name; BadInput for an option that the source lacks.
    """
    if name not in SOURCES:
        raise UnknownName("source", name, SOURCES)
    module, cls = SOURCES[name].split(":")
    source = getattr(import_module(module), cls)
    known = list(signature(source).parameters)
    for option in options:
        if option not in known:
            error = UnknownName("option of the source", option, known)
            raise BadInput(f"[source] {name}: {error.message}", error.remedy)
    return source(**options)
