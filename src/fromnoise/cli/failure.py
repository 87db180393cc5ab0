"""How the command line ends when something goes wrong: what it prints, and the exit code."""

import os
import sys

from fromnoise.cli.terminal import LONGEST, print_note
from fromnoise.errors import BadInput, FromnoiseError, UnknownName, escape


def report_failure(error: BaseException) -> int:
    """Prints what went wrong and gives the exit code. Raises the error itself where it is a fault
    of the program."""
    if isinstance(error, FromnoiseError):
        print_error(str(error))
        return 2 if isinstance(error, BadInput | UnknownName) else 1
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return report_stop()
    if hasattr(error, "format_message"):  # of typer, which may have its own copy of click
        return _report_usage(error)
    if isinstance(error, OSError):
        return _report_system_error(error)
    raise error


def report_stop() -> int:
    """Ends a run that the user stopped."""
    print_note("stopped", "\nfromnoise")
    return 130


def print_error(text: str) -> None:
    """Prints a message and its remedy, both escaped already."""
    print(f"error: {text}", file=sys.stderr)


def _report_usage(error) -> int:
    """For a command line that cannot be read. A command alone gets its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())
        return error.exit_code
    name = error.ctx.command_path if getattr(error, "ctx", None) else "fromnoise"
    text = escape(error.format_message().rstrip("."), LONGEST, keep="\n")
    print_error(f"{text[:1].lower()}{text[1:]}\n→ `{escape(name)} --help` shows what there is")
    return error.exit_code


def _report_system_error(error: OSError) -> int:
    """For an error of the system that no command expected. One without a file is of standard
    output: what is not written yet is thrown away, so that Python does not try again at its end."""
    if error.filename is not None:
        text = f"{escape(error.filename)}: {escape(error.strerror or error)}"
        print_error(f"{text}\n→ look at the file, its folder and the disk")
        return 1
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if not isinstance(error, BrokenPipeError):  # as of `| head`, where nobody reads on
        print_error(
            f"cannot write to standard output: {escape(error.strerror or error)}\n"
            "→ send it somewhere else; pictures that were drawn are on the disk"
        )
    return 1
