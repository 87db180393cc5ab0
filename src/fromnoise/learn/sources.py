"""Places in fromnoise's own source: "src/fromnoise/…/file.py:Class.function" → line and text."""

import ast
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from fromnoise.errors import NotFound

PACKAGE = Path(__file__).parents[1]
PREFIX = "src/fromnoise/"


class Place(NamedTuple):
    """One line of a source file."""

    path: str  # as in the repository, "src/fromnoise/…"
    line: int
    text: str


@lru_cache(64)
def read_source(path: str) -> str:
    """The text of a source file of fromnoise, by its path in the repository. Raises NotFound."""
    file = PACKAGE / path.removeprefix(PREFIX)
    if not path.startswith(PREFIX) or ".." in path or not file.is_file():
        raise NotFound(f"{path} is no source file of fromnoise", "see docs/map.md")
    return file.read_text(encoding="utf-8")


def find_place(reference: str, fragment: str = "") -> Place:
    """Where "path:Class.function" begins, or the one line of it that holds `fragment`.

    Raises NotFound where there is no such function, or not exactly one such line.
    """
    path, _, dotted = reference.partition(":")
    source = read_source(path)
    node: ast.AST = ast.parse(source)
    for name in dotted.split("."):
        body = getattr(node, "body", [])
        found = [child for child in body if getattr(child, "name", None) == name]
        if not found:
            raise NotFound(f"{path} defines no {dotted}", "correct the reference")
        node = found[-1]
    lines = source.splitlines()
    assert isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
    if not fragment:
        return Place(path, node.lineno, lines[node.lineno - 1].strip())
    rows = range(node.lineno, (node.end_lineno or node.lineno) + 1)
    places = [row for row in rows if fragment in lines[row - 1]]
    if len(places) != 1:
        raise NotFound(f"{len(places)} lines of {dotted} hold {fragment!r}", "quote one line")
    return Place(path, places[0], lines[places[0] - 1].strip())
