"""Where in the code something is computed: read from the running program, so that it stays true."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fromnoise

ROOT = Path(fromnoise.__file__).parent


@dataclass(frozen=True)
class Place:
    """A function of this package: `file` as seen from the package, `line` of its beginning."""

    what: str  # it computes
    file: str
    line: int
    name: str


def locate(what: str, function: Callable[..., Any]) -> Place:
    """The place of a function; a decorated one is the one that was written."""
    plain = inspect.unwrap(function)
    file = Path(inspect.getsourcefile(plain) or "").resolve()
    line = inspect.getsourcelines(plain)[1]
    return Place(what, file.relative_to(ROOT.resolve()).as_posix(), line, plain.__qualname__)
