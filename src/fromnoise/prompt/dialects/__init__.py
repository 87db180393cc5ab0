"""The registry of prompt dialects: a name → "module:Dialect", loaded when a prompt is read in
it."""

from importlib import import_module
from typing import TYPE_CHECKING

from fromnoise.errors import UnknownName

if TYPE_CHECKING:
    from fromnoise.prompt.dialects.base import Dialect

DIALECTS = {
    "a1111": "fromnoise.prompt.dialects.a1111:A1111",
    "comfy": "fromnoise.prompt.dialects.comfy:COMFY",
    "compel": "fromnoise.prompt.dialects.compel:COMPEL",
}


def find(name: str) -> "Dialect":
    """The dialect of that name. UnknownName lists the choices."""
    if name not in DIALECTS:
        raise UnknownName("prompt dialect", name, DIALECTS)
    module, value = DIALECTS[name].split(":")
    return getattr(import_module(module), value)
