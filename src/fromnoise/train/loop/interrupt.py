"""Ctrl-C and SIGTERM: the step is finished and the state is saved before training ends."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self

from fromnoise.errors import FromnoiseError

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interrupted(FromnoiseError):
    """Training was stopped by a signal. `code` is the exit code that shells expect."""

    def __init__(self, number: int, message: str, remedy: str):
        self.code = 128 + number
        super().__init__(message, remedy)


class Interrupt:
    """Inside `with Interrupt() as interrupt:` the first signal only sets `interrupt.number`.

    The loop looks at it after each step. A second signal ends the process at once. In a thread that
    is not the main one nothing is changed, because Python delivers signals to the main thread only.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        try:
            for number in NAMES:
                self.before[number] = signal.signal(number, self.handle)
        except ValueError:  # not the main thread
            self.before = {}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for other in NAMES:
            signal.signal(other, signal.SIG_DFL)
        again = " (Ctrl-C again ends at once)" if number == signal.SIGINT else ""
        # a bar may hide the terminal's cursor; a second signal leaves no time to show it again
        cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
        print(
            f"\n{NAMES[signal.Signals(number)]}: training finishes this step and saves its"
            f" state{again}{cursor}",
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def raise_interrupted() -> Iterator[None]:
    """Inside it a signal raises Interrupted at once: for work whose files are whole at any moment.

    `Interrupt` takes over while the loop trains.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        for other in NAMES:
            signal.signal(other, signal.SIG_DFL)
        raise Interrupted(
            number,
            f"{NAMES[signal.Signals(number)]} came before the work was finished",
            "run the same command again: it goes on with what is on disk",
        )

    before = {}
    with suppress(ValueError):  # not the main thread
        before = {number: signal.signal(number, handle) for number in NAMES}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
