"""Refusals: errors with the status of HTTP that they are answered with."""

from fromnoise.errors import FromnoiseError


class Refusal(FromnoiseError):
    """A request that is not taken. `code` is a word for programs, `retry_after` in seconds, `field`
    the one that cannot be used, where it is known."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        remedy: str = "",
        retry_after: float | None = None,
        field: str | None = None,
    ):
        super().__init__(message, remedy)
        self.status, self.code, self.retry_after, self.field = status, code, retry_after, field


def refuse_missing(kind: str, identifier: str) -> Refusal:
    """For something that is not there, or is another client's: both look the same."""
    return Refusal(404, "not_found", f"there is no {kind} {identifier}", "look at the list")
