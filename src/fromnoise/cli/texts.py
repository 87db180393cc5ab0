"""Texts from files and from standard input, whatever program wrote them."""

import codecs
import sys
from pathlib import Path

from fromnoise.errors import BadInput, NotFound

MARKS = (  # byte order marks; that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text_file(source: Path | str, limit: int) -> str:
    """The text of a file, or of standard input for "-". UTF-8, or another UTF with its byte order
    mark. Raises NotFound, and BadInput for more than `limit` bytes or another encoding."""
    name = "standard input" if str(source) == "-" else str(source)
    try:
        if str(source) == "-":
            raw = _read_standard_input(limit + 1)
        else:
            with open(source, "rb") as file:
                raw = file.read(limit + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {name}", "look for a slip in its name") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"cannot read {name}: {reason}", "name a text file") from error
    if len(raw) > limit:
        raise BadInput(f"{name} has more than {limit:,} bytes", "split it, or give less")
    return decode_text(raw, name)


def decode_text(raw: bytes, name: str) -> str:
    """Raises BadInput, with the line, for bytes that are no text."""
    mark, encoding = next(((m, e) for m, e in MARKS if raw.startswith(m)), (b"", "utf-8"))
    try:
        return raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[len(mark) :][: error.start].decode(encoding, "ignore").count("\n") + 1
        remedy = "save the text as UTF-8"
        raise BadInput(f"line {line} of {name} is not {encoding.upper()}", remedy) from error


def _read_standard_input(limit: int) -> bytes:
    if sys.stdin is None:
        raise BadInput("there is no standard input", "name a file instead of -")
    if hasattr(sys.stdin, "buffer"):
        return sys.stdin.buffer.read(limit)
    return sys.stdin.read(limit).encode("utf-8", "surrogatepass")  # a text, as tests give it
