"""What the command line prints with --json."""

import json
import sys
import time
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fromnoise.cli.terminal import is_unicode

if TYPE_CHECKING:
    from fromnoise.pipeline.request import GenerationRequest


def format_json(value: Any, indent: int | None = None) -> str:
    """JSON without any character that could change a terminal, or that standard output lacks."""
    text = json.dumps(value, indent=indent, ensure_ascii=not is_unicode(sys.stdout))
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(
        sign
        if sign == "\n" or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else json.dumps(sign)[1:-1]
        if ord(sign) > 0x7F
        else f"\\u{ord(sign):04x}"
        for sign in text
    )


def print_json(value: Any, indent: int | None = None) -> None:
    """Prints a value as one line of JSON, or with so much indentation."""
    print(format_json(value, indent))


def describe_run(
    paths: list[Path],
    request: "GenerationRequest",
    facts: dict,
    notes: Iterable[str],
    started: float,
) -> dict[str, Any]:
    """What a run did, for scripts: files, the request with its defaults decided, notes."""
    pictures = [
        {"path": str(path), "seed": (request.seed or 0) + i} for i, path in enumerate(paths)
    ]
    values = {"pictures": pictures, "request": json.loads(request.model_dump_json()), **facts}
    seconds = round(time.perf_counter() - started, 3)
    return values | {"notes": list(notes), "seconds": seconds}
