"""The reader's own code in the tab: compiled, limited in time, its faults told with their line."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import CodeType
from typing import Any

READER_FILE = "<your code>"  # what the reader's source is compiled as
LINE_SECONDS = 0.02  # between two reports of the running line, after the first FIRST_LINES
FIRST_LINES = 200

# Set by the worker: tells the page which line runs, for code that has to be ended from outside.
report_line: Callable[[int], Any] = lambda line: None  # noqa: E731


class OutOfTime(BaseException):
    """The reader's code ran too long. Not an Exception, so that `except Exception` in it does not
    stop this."""


class ReaderFault(Exception):
    """What is wrong with the reader's code, in words. line: of the reader's source."""

    def __init__(self, message: str, line: int | None, kind: str):
        super().__init__(message)
        self.line, self.kind = line, kind


def compile_source(source: str) -> CodeType:
    """The reader's source, compiled under READER_FILE. Raises SyntaxError."""
    return compile(source, READER_FILE, "exec")


def load_function(source: str, function: str) -> Callable:
    """Runs the reader's source and returns the function of that name from it."""
    namespace: dict[str, Any] = {"__name__": "your_code"}
    exec(compile_source(source), namespace)  # the browser tab is the sandbox
    if not callable(found := namespace.get(function)):
        names = [name for name, value in namespace.items() if callable(value)]
        raise ReaderFault(
            f"there is no function {function} in your code. It has: {', '.join(names) or 'none'}.",
            None,
            "NoFunction",
        )
    return found


@contextmanager
def limit(seconds: float | None) -> Iterator[None]:
    """Ends code of READER_FILE with OutOfTime at its next line after `seconds`. Code that never
    comes to a next line is ended by the page, which stops the worker."""
    if seconds is None:
        yield
        return
    end, reported, count = monotonic() + seconds, 0.0, 0

    def trace_line(frame: Any, event: str, _: Any) -> Any:
        nonlocal reported, count
        now = monotonic()
        if event == "line" and (count < FIRST_LINES or now - reported > LINE_SECONDS):
            reported, count = now, count + 1
            report_line(frame.f_lineno)
        if now > end:
            raise OutOfTime
        return trace_line

    def trace_call(frame: Any, event: str, _: Any) -> Any:
        return trace_line if frame.f_code.co_filename == READER_FILE else None

    # a generator that was paused goes on in a frame that has been traced before, or not
    before = sys.gettrace()
    sys.settrace(trace_call)
    try:
        yield
    finally:
        sys.settrace(before)


def describe(error: BaseException, seconds: float | None = None) -> dict[str, Any]:
    """An error for the page: its message, the line of the reader's source (None where that has no
    part in it), its kind, and whether it is the reader's."""
    if isinstance(error, SyntaxError) and error.filename == READER_FILE:
        return _make(f"{error.msg}", error.lineno, "SyntaxError", True)
    lines = [
        entry.lineno
        for entry in traceback.extract_tb(error.__traceback__)
        if entry.filename == READER_FILE
    ]
    line = lines[-1] if lines else None
    if isinstance(error, OutOfTime):
        message = f"your code did not end within {seconds:g} seconds. Is there an endless loop?"
        return _make(message, line, "OutOfTime", True)
    if isinstance(error, ReaderFault):
        return _make(str(error), error.line or line, error.kind, True)
    return _make(str(error) or type(error).__name__, line, type(error).__name__, line is not None)


def _make(message: str, line: int | None, kind: str, reader: bool) -> dict[str, Any]:
    return {"message": message[:4_000], "line": line, "kind": kind, "reader": reader}
