"""Runs a reader's code in this very interpreter and judges it: for a browser tab, where there is
only one, and where the tab itself is the wall.

Endless loops end with the worker that this runs in. Cases and right answers are computed before
the reader's code runs; arguments are copies; answers are read into plain numbers and lists; what
the code puts in place of functions of `math` and the like is put back before the judge goes on. So
no simple trick makes a wrong answer right. What cannot be prevented: Python lets code walk from any
object to every class and frame, so code that looks for the judge finds it. It is the reader's own
tab, and the verdict is for the reader's own eyes. In a terminal `sandbox.py` judges from outside.
"""

import builtins
import contextlib
import copy
import io
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

from fromnoise.errors import BadInput, escape
from fromnoise.learn.exercises import load
from fromnoise.learn.exercises.child import error_of, plain
from fromnoise.learn.exercises.exercise import CodeError, Stopped, Verdict, judge

LARGEST_SOURCE = 100_000  # characters of a reader's code
LARGEST_OUTPUT = 100_000  # characters that it may print
SHOWN_OUTPUT = 2_000  # characters of it that are shown
# What an exercise may import: mathematics and tools for lists, nothing that reaches outside.
MODULES = {"array", "bisect", "cmath", "collections", "copy", "dataclasses", "decimal", "enum"}
MODULES |= {"fractions", "functools", "heapq", "itertools", "math", "numbers", "operator"}
MODULES |= {"random", "re", "statistics", "string", "typing"}
# What code may raise. What ends it from outside is none of these, and passes.
RAISED = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit)
USED_BY_JUDGE = (copy, math, random, random.Random)


def check_source(
    name: str, source: str, seed: int | None = None, file: str = "exercise.py"
) -> tuple[Verdict, str]:
    """(the verdict on the function `name` of a source text, what the code printed). file: what the
    code is compiled as; a tracer knows it by that name.

    Raises UnknownName for no exercise, BadInput for a text that is too large.
    """
    exercise, printed = load(name), Output()
    if len(source) > LARGEST_SOURCE:
        raise BadInput(f"the code has more than {LARGEST_SOURCE:,} characters", "shorten it")
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            verdict = judge(exercise, run_lazily(name, source, file, printed), seed)
    except Stopped as error:
        hint = "It must run without an error." if error.tag == "error" else ""
        verdict = Verdict(False, str(error), error.tag, hint)
    return verdict, escape(printed.getvalue(), SHOWN_OUTPUT, keep="\n")


def run_lazily(name: str, source: str, file: str, printed: "Output") -> Callable:
    """The function `name` of a source text, which runs at the first call: by then the judge has
    drawn its cases."""
    space: dict[str, Any] = {}

    def call(*args: object) -> object:
        with put_back():
            try:
                if not space:
                    space.update(__name__="exercise", __builtins__=limit_builtins())
                    exec(compile(source, file, "exec"), space)
                if name not in space:
                    raise Stopped("missing", f"the code defines no function {name}")
            except Stopped:
                raise
            except RAISED as error:
                found = error_of(error, file)
                line = f" in line {found['line']}" if found["line"] else ""
                words = f"{found['error']}{line}: {escape(found['message'], 300)}"
                raise Stopped("error", f"the code raised {words}") from error
            try:
                return plain(space[name](*args))
            except RAISED as error:
                found = error_of(error, file)
                words = escape(found["message"], 300)
                raise CodeError(found["error"], words, found["line"]) from error
            finally:
                if printed.is_full:
                    what = f"the code printed more than {LARGEST_OUTPUT:,} characters"
                    raise Stopped("output", what)

    return call


def limit_builtins() -> dict[str, Any]:
    """A copy of the built-in names, without those that reach outside."""

    def import_module(name: str, *rest: Any) -> Any:
        if name.split(".")[0] not in MODULES:
            raise ImportError(f"an exercise cannot import {name}; math and the like are there")
        return builtins.__import__(name, *rest)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError("an exercise must not read files or wait for input")

    refused = dict.fromkeys(("open", "input", "breakpoint", "help"), refuse)
    return {**vars(builtins), **refused, "__import__": import_module}


@contextlib.contextmanager
def put_back() -> Iterator[None]:
    """Undoes what code puts in place of names that the judge uses."""
    built_in, names = builtins.__dict__, dict(builtins.__dict__)
    kept = [(place, dict(vars(place))) for place in USED_BY_JUDGE]
    try:
        yield
    finally:
        built_in.update(names)  # first: what follows uses them
        for place, before in kept:
            for name in vars(place).keys() - before.keys():
                delattr(place, name)
            for name, value in before.items():
                if vars(place).get(name) is not value:
                    setattr(place, name, value)


class Output(io.StringIO):
    """What code prints. When there is too much of it, no more is kept and the code is stopped."""

    is_full = False

    def write(self, text: str) -> int:
        room = LARGEST_OUTPUT - self.tell()
        self.is_full = self.is_full or len(text) > room
        super().write(text[:room])
        if self.is_full:
            raise Stopped("output", "too much output")
        return len(text)
