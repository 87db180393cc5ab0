"""Options of samplers and spacings: whether they are taken, and of what kind. Loaded only where
some are given."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from fromnoise.diffusion.samplers import SAMPLERS, Entry, load
from fromnoise.errors import BadInput


def check_kinds(function: Callable, options: dict[str, Any]) -> None:
    """Raises BadInput for an option of another kind than its default; without a default it is a
    number."""
    for name, value in options.items():
        default = signature(function).parameters[name].default
        kind = (
            str if isinstance(default, str) else bool if isinstance(default, bool) else (int, float)
        )
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            usual = 7 if default is None else default
            raise BadInput(f"{name} = {value!r} cannot be used", f"give a value such as {usual!r}")


def check_sampler(entry: Entry, options: dict[str, Any]) -> None:
    """Raises BadInput for an option that the sampler does not take, naming those that do, or of
    another kind than its default; what values an option may have the sampler says itself."""
    for name in options:
        if name not in entry.options:
            takers = ", ".join(e.name for e in SAMPLERS.values() if name in e.options)
            own = f"its options: {', '.join(entry.options) or 'none'}"
            raise BadInput(
                f"the sampler {entry.name} takes no {name}",
                f"use one of: {takers}" if takers else own,
            )
    check_kinds(load(entry.name), options)
