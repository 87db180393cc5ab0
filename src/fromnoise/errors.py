"""Exceptions that say the remedy: every error a user can cause names what to do next."""

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 4_000  # characters of one message: a file may hold a name of megabytes


def escape(text: object, limit: int = 200, keep: str = "") -> str:
    """Text from a file or a request, made safe to print on a terminal.

    Control characters (escape sequences, line breaks), marks that turn the direction of writing
    and lone surrogates become `\\x1b` and the like, except those in `keep`. A text of more than
    `limit` characters is cut, and the cut says how long it was.
    """
    text = str(text)
    whole, text = len(text), text[:limit]
    safe = "".join(
        c
        if c in keep or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in text
    )
    return safe if whole <= limit else f"{safe}… ({whole:,} characters)"


class FromnoiseError(Exception):
    """Any error a user can cause. `message` says what is wrong, `remedy` what to do about it.

    Both are escaped and cut here, because they may quote a file.
    """

    def __init__(self, message: str, remedy: str = ""):
        self.message = escape(message, LONGEST, keep="\n")
        self.remedy = escape(remedy, LONGEST, keep="\n")
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n→ {self.remedy}" if self.remedy else self.message


class BadInput(FromnoiseError):
    """A value that cannot be used as it is."""


class NotFound(FromnoiseError):
    """A file, folder, font or model that is not there; the message says where the search was."""


class BadCheckpoint(FromnoiseError):
    """A weight file whose keys, shapes or configuration do not fit."""


class UnknownName(FromnoiseError):
    """A name that no registry knows; lists the choices, nearest first."""

    def __init__(self, kind: str, name: str, choices: Iterable[str]):
        choices = list(choices)
        near = get_close_matches(name[:100], choices, n=1)  # difflib is quadratic in the length
        hint = f"did you mean {near[0]!r}? " if near else ""
        remedy = f"{hint}choose one of: {', '.join(choices)}"
        super().__init__(f"unknown {kind} {escape(name)!r}", remedy)


class NotFinite(FromnoiseError):
    """A run computed NaN or infinite numbers; the message says which part of the model did."""
