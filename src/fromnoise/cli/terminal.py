"""What the command line prints, and the streams that it prints to."""

import os
import sys
import warnings
from io import TextIOWrapper
from typing import Any

from fromnoise.errors import escape

LONGEST = 4_000  # characters of one line


def print_line(text: object) -> None:
    """Prints one line to standard output; control characters are escaped."""
    print(escape(text, LONGEST))


def print_note(text: object, kind: str = "note") -> None:
    """Prints one line to standard error; control characters are escaped."""
    print(f"{kind}: {escape(text, LONGEST)}", file=sys.stderr)


def prepare_streams() -> None:
    """Makes every character printable, and closed streams harmless: a file that is opened later
    must not become standard output. Warnings become notes, without their line of code."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    sys.stdout, sys.stderr = sys.stdout or os.fdopen(1, "w"), sys.stderr or os.fdopen(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            handler = "backslashreplace"
            if not is_unicode(stream):
                from fromnoise.cli.plain import HANDLER as handler
            stream.reconfigure(errors=handler)
    warnings.showwarning = show_warning


def is_unicode(stream: Any) -> bool:
    """Whether the stream's encoding has every character."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")


def show_warning(message: Any, category: type[Warning], *rest: Any) -> None:
    """Prints a warning as a note."""
    print_note(message, "note" if issubclass(category, UserWarning) else category.__name__)
