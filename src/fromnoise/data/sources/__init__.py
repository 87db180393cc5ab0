"""The registry of data sources: a name → "module:Class", loaded when it is opened."""

from importlib import import_module
from typing import Any

from fromnoise.data.source import Source
from fromnoise.errors import UnknownName

SOURCES = {"stickers": "fromnoise.data.sources.stickers:Stickers"}


def open_source(name: str, **options: Any) -> Source:
    """The source of that name, e.g. `open_source("stickers", size=128)`. UnknownName lists the
    choices."""
    if name not in SOURCES:
        raise UnknownName("source", name, SOURCES)
    module, cls = SOURCES[name].split(":")
    return getattr(import_module(module), cls)(**options)
