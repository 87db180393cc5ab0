"""Runs a reader's file in a limited process of its own, and judges from outside.

The process only answers calls: arguments go in, numbers come out, through two private pipes and
with a fresh nonce each. References, cases and the verdict stay here. What the file prints is read
from another pipe, cut, and never believed.
"""

import contextlib
import json
import os
import re
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fromnoise.errors import BadInput, escape
from fromnoise.learn.exercises import EXERCISES, load
from fromnoise.learn.exercises.exercise import CodeError, Stopped, Verdict, judge

LARGEST_FILE = 100_000  # bytes of a reader's file
LARGEST_REPLY = 1_000_000  # bytes of one answer
MOST_QUESTIONS = 8  # calls of `denoise` in one step; Heun's needs two


@dataclass(frozen=True)
class Limits:
    """What a reader's code may use."""

    cpu: int = 5  # seconds
    wall: float = 10.0  # seconds
    memory: int = 256 << 20  # bytes of address space
    output: int = 100_000  # bytes that it may print


@dataclass(frozen=True)
class Report:
    """The verdicts on one file, what it printed (escaped, cut) and the walls that stood around
    it."""

    verdicts: dict[str, Verdict]
    printed: str
    walls: tuple[str, ...]


def read_submission(path: Path) -> str:
    """The text of a reader's file. Raises BadInput for what is no small text file."""
    try:
        if not path.is_file():
            raise BadInput(f"{path} is no file", "give a Python file, for instance cfg.py")
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", "check its name") from error
    if len(data) > LARGEST_FILE:
        raise BadInput(f"{path} is larger than {LARGEST_FILE:,} bytes", "keep to the exercise")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no UTF-8 text: {error}", "save it as UTF-8") from error


def find_exercises(source: str) -> list[str]:
    """The exercises whose functions a file defines, in their order. The text is not parsed: that
    is left to the limited process."""
    names = set(re.findall(r"^def +([A-Za-z_]\w*)", source, re.MULTILINE))
    return [name for name in EXERCISES if name in names]


def check_file(path: Path, limits: Limits | None = None, seed: int | None = None) -> Report:
    """Checks every exercise whose function the file defines, each in a process of its own.

    Raises BadInput where the file cannot be read or defines none of them, or on a system without
    POSIX limits.
    """
    if os.name != "posix":
        raise BadInput("this system cannot limit a process", "do the exercises in the browser")
    source = read_submission(path)
    names = find_exercises(source)
    if not names:
        raise BadInput(
            f"{path} defines none of the exercises' functions",
            f"write `def` and one of: {', '.join(EXERCISES)}",
        )
    verdicts, printed, walls = {}, "", ()
    for name in names:
        with Sandbox(limits or Limits()) as sandbox:
            try:
                walls = sandbox.run(source, path.name)
                verdicts[name] = judge(load(name), sandbox.function(name), seed)
            except CodeError as error:
                line = f" in line {error.line}" if error.line else ""
                message = f"the file raised {error.kind}{line}: {error}"
                verdicts[name] = Verdict(False, message, "error", "It must run without an error.")
            except Stopped as error:
                verdicts[name] = Verdict(False, str(error), error.tag)
        printed = printed or escape(sandbox.printed.decode("utf-8", "replace"), 2_000, keep="\n")
    return Report(verdicts, printed, walls)


class Sandbox:
    """One limited process. `run` gives it the file, `function` makes a stand-in of one of its
    functions; leaving the `with` ends it and whatever it started."""

    def __init__(self, limits: Limits):
        self.limits, self.printed, self.buffer = limits, b"", b""
        self.deadline = time.monotonic() + limits.wall

    def __enter__(self) -> "Sandbox":
        requests, self.requests = os.pipe()
        self.replies, replies = os.pipe()
        script = Path(__file__).with_name("child.py")
        sizes = map(str, (requests, replies, self.limits.cpu, self.limits.memory))
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-u", "-X", "utf8", str(script), *sizes],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(requests, replies),
                env={},
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(requests)
            os.close(replies)
        assert self.process.stdout is not None
        self.output = self.process.stdout.fileno()
        self.selector = selectors.DefaultSelector()
        for handle in (self.replies, self.output, self.requests):
            os.set_blocking(handle, False)
        self.selector.register(self.replies, selectors.EVENT_READ)
        self.selector.register(self.output, selectors.EVENT_READ)
        return self

    def __exit__(self, *error: object) -> None:
        self._kill()
        with contextlib.suppress(BlockingIOError):
            while len(self.printed) < self.limits.output and (data := os.read(self.output, 65536)):
                self.printed += data
        self.selector.close()
        os.close(self.requests)
        os.close(self.replies)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def run(self, source: str, name: str) -> tuple[str, ...]:
        """Runs the file; returns the names of the walls around it. Raises CodeError and Stopped."""
        reply = self._ask({"source": source, "name": name})
        walls = reply.get("walls")
        return tuple(map(str, walls)) if isinstance(walls, list) else ()

    def function(self, name: str) -> Callable:
        """A function that has the process call its function of that name."""

        def call(*args: Any) -> Any:
            asked = [arg for arg in args if callable(arg)]
            plain = [{"ask": True} if callable(arg) else arg for arg in args]
            return self._ask({"call": name, "args": plain}, *asked)["value"]

        return call

    def _ask(self, message: dict[str, Any], answer: Callable | None = None) -> dict[str, Any]:
        nonce, reply = secrets.token_hex(16), {}
        self._send({"nonce": nonce, **message})
        for _ in range(MOST_QUESTIONS + 1):
            reply = self._receive(nonce)
            if "ask" not in reply or answer is None:
                break
            try:
                value = answer(*reply["ask"])
            except (TypeError, ValueError, ArithmeticError, IndexError) as error:
                raise CodeError("TypeError", f"denoise cannot be asked this: {error}") from error
            self._send({"answer": value})
        else:
            many = f"more than {MOST_QUESTIONS} calls of `denoise` in one step"
            raise Stopped("questions", many)
        if "error" in reply:
            line = reply.get("line")
            kind, words = escape(reply["error"], 60), escape(reply.get("message", ""), 300)
            raise CodeError(kind, words, line if isinstance(line, int) else None)
        if "value" not in reply or not _is_plain(reply["value"]):
            raise Stopped("answer", "the answer is no number and no list of numbers")
        return reply

    def _send(self, message: dict) -> None:
        data = memoryview((json.dumps(message) + "\n").encode())
        with selectors.DefaultSelector() as writable:
            writable.register(self.requests, selectors.EVENT_WRITE)
            while data:
                try:
                    if writable.select(0.05):
                        data = data[os.write(self.requests, data) :]
                except BrokenPipeError:
                    raise self._ended() from None
                self._check_time()

    def _receive(self, nonce: str) -> dict:
        while b"\n" not in self.buffer:
            self._check_time()
            for key, _ in self.selector.select(0.05):
                data = os.read(key.fd, 65536)
                if key.fd == self.output:
                    self._keep(data)
                elif data:
                    self.buffer += data
                else:
                    raise self._ended()
            if len(self.buffer) > LARGEST_REPLY:
                raise Stopped("answer", f"an answer of more than {LARGEST_REPLY:,} bytes")
        line, _, self.buffer = self.buffer.partition(b"\n")
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict) or reply.get("nonce") != nonce:
            raise Stopped("forged", "the process sent something that was not asked for")
        return reply

    def _keep(self, data: bytes) -> None:
        if not data:
            self.selector.unregister(self.output)
        self.printed += data
        if len(self.printed) > self.limits.output:
            self.printed = self.printed[: self.limits.output]
            message = f"the code printed more than {self.limits.output:,} bytes"
            raise Stopped("output", message)

    def _check_time(self) -> None:
        if time.monotonic() > self.deadline:
            message = f"no answer within {self.limits.wall:g} s: does a loop never end?"
            raise Stopped("time", message)

    def _ended(self) -> Stopped:
        """Why the process is no more."""
        try:
            code = self.process.wait(timeout=max(0.1, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return Stopped("ended", "the code closed the line to its judge")
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            message = f"more than {self.limits.cpu} s of computing: does a loop never end?"
            return Stopped("time", message)
        if code < 0:
            message = f"the process crashed ({signal.Signals(-code).name}): too deep a recursion?"
            return Stopped("crash", message)
        return Stopped("ended", f"the code ended its process (exit code {code}) without an answer")

    def _kill(self) -> None:
        """Ends the process and its group."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.process.kill()
        self.process.wait()


def _is_plain(value: object, depth: int = 0) -> bool:
    if isinstance(value, list):
        return depth < 8 and all(_is_plain(part, depth + 1) for part in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**63
    return value is None or isinstance(value, float)
