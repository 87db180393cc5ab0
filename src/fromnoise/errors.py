"""Exceptions that say the remedy: every error a user can cause names what to do next."""

from collections.abc import Iterable
from difflib import get_close_matches


class FromnoiseError(Exception):
    """Any error a user can cause. `message` says what is wrong, `remedy` what to do about it."""

    def __init__(self, message: str, remedy: str = ""):
        super().__init__(message)
        self.message, self.remedy = message, remedy

    def __str__(self) -> str:
        return f"{self.message}\n→ {self.remedy}" if self.remedy else self.message


class BadInput(FromnoiseError):
    """A value that cannot be used as it is."""


class NotFound(FromnoiseError):
    """A file, folder, font or model that is not there; the message says where it was looked for."""


class BadCheckpoint(FromnoiseError):
    """A weight file whose keys, shapes or configuration do not fit."""


class UnknownName(FromnoiseError):
    """A name that no registry knows; lists the choices, nearest first."""

    def __init__(self, kind: str, name: str, choices: Iterable[str]):
        choices = list(choices)
        near = get_close_matches(name, choices, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        super().__init__(f"unknown {kind} {name!r}", f"{hint}choose one of: {', '.join(choices)}")
