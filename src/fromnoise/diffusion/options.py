"""Checks of the options of samplers and spacings: their names and types. Runs without options do
not load it."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from fromnoise.diffusion.samplers import SAMPLERS, Entry, load
from fromnoise.errors import BadInput


def check_kinds(function: Callable, options: dict[str, Any]) -> None:
    """Raises BadInput for an option whose type differs from that of its default. An option without
    a default is a number."""
    for name, value in options.items():
        default = signature(function).parameters[name].default
        kind = (
            str if isinstance(default, str) else bool if isinstance(default, bool) else (int, float)
        )
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            usual = 7 if default is None else default
            raise BadInput(f"{name} = {value!r} cannot be used", f"give a value such as {usual!r}")


def check_sampler(entry: Entry, options: dict[str, Any]) -> None:
    """Raises BadInput for an option that the sampler does not have (the message names those it
    has), or of another type than its default. The sampler itself checks the option's value."""
    for name in options:
        if name not in entry.options:
            takers = ", ".join(e.name for e in SAMPLERS.values() if name in e.options)
            own = f"its options: {', '.join(entry.options) or 'none'}"
            raise BadInput(
                f"the sampler {entry.name} has no option {name}",
                f"use one of: {takers}" if takers else own,
            )
    check_kinds(load(entry.name), options)
