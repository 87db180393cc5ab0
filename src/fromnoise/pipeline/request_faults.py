"""What is wrong with a request, in words: only options and faults need it."""

from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import ValidationError

from fromnoise.errors import BadInput


def describe_faults(error: ValidationError) -> tuple[str, str]:
    """(which fields cannot be used, what each must be)."""
    errors = [(e["loc"][0] if e["loc"] else "the request", e) for e in error.errors()]
    faults = [f"{place} = {repr(e['input'])[:99]}" for place, e in errors]
    rules = [f"{place}: {e['msg'][0].lower()}{e['msg'][1:]}" for place, e in errors]
    return f"cannot use {', '.join(faults)}", "; ".join(rules)


def refuse_side(side: str, pixels: int, multiple: int) -> NoReturn:
    """Raises BadInput for a width or height that is no multiple of what the model needs."""
    near = max(round(pixels / multiple), 1) * multiple
    raise BadInput(
        f"{side} {pixels} does not fit this model", f"use a multiple of {multiple}, such as {near}"
    )


def check_twice(fields: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raises BadInput where an option of the sampler is a field of its own too. A field that is
    None is not given."""
    if both := {name for name, value in fields.items() if value is not None} & options.keys():
        names = ", ".join(sorted(both))
        raise BadInput(f"{names} is given twice", "leave it out of sampler_options")
