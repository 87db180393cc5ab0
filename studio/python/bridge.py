"""What the Python worker's TypeScript calls. Everything goes in and out as JSON or as arrays of
numbers; an error comes back as a value, with its line."""

import json
from array import array
from collections.abc import Callable
from importlib import import_module
from typing import Any

import limits
from limits import describe, limit
from pyodide.ffi import to_js
from sampling import Run, build_sampler

runs: dict[int, Run] = {}  # the runs that have a question open


def call(name: str, arguments: str, seconds: float | None = None) -> str:
    """The function `name` ("ask": of tab.py; "sampling.list_samplers": of that module) on JSON
    arguments → {"value": …} or {"error": …} as JSON."""
    module, _, function = name.rpartition(".")
    try:
        called = getattr(import_module(module or "tab"), function)
        with limit(seconds):
            value = called(*json.loads(arguments))
        return json.dumps({"value": value}, ensure_ascii=False)
    except BaseException as error:
        return json.dumps({"error": describe(error, seconds)}, ensure_ascii=False)


def start(
    key: int,
    name: str | None,
    source: str | None,
    function: str,
    x: Any,
    shape: str,
    sigmas: str,
    options: str,
    draw: Callable | None,
    seconds: float | None,
) -> Any:
    """Starts a run; `key` names it from now on. Gives what Run.start does."""

    def begin() -> dict[str, Any]:
        with limit(seconds):
            sampler = build_sampler(name, source, function)
        read = None if draw is None else lambda s, t: _read(draw(s, t))
        runs[key] = Run(
            sampler, _read(x), json.loads(shape), json.loads(sigmas), json.loads(options), read,
            seconds,
        )  # fmt: skip
        return runs[key].start()

    return _reply(key, begin, seconds)


def finish(key: int, answer: Callable[[Any, float], Any], seconds: float | None) -> Any:
    """Answers the questions of a run to its end. answer: (x, sigma) → x0, of JavaScript."""

    def go_on() -> dict[str, Any]:
        run, calls = runs[key], 0
        reply: dict[str, Any] = {"query": run.query.x.values, "sigma": run.query.sigma}
        while "query" in reply:
            x0 = _read(answer(to_js(reply["query"]), float(reply["sigma"])))
            reply = run.send(x0, x0)
            calls += 1
        return {**reply, "calls": calls}

    return _reply(key, go_on, seconds)


def send(key: int, x0: Any, x0_uncond: Any, seconds: float | None) -> Any:
    def go_on() -> dict[str, Any]:
        runs[key].seconds = seconds
        return runs[key].send(_read(x0), None if x0_uncond is None else _read(x0_uncond))

    return _reply(key, go_on, seconds)


def supply(key: int, steps: str, noises: Any, seconds: float | None) -> Any:
    def go_on() -> dict[str, Any]:
        runs[key].seconds = seconds
        return runs[key].supply(
            [(s, t) for s, t in json.loads(steps)], [_read(noise) for noise in noises]
        )

    return _reply(key, go_on, seconds)


def drop(key: int) -> None:
    runs.pop(key, None)


def watch_lines(report: Callable[[int], Any]) -> None:
    limits.report_line = report


def _reply(key: int, action: Callable[[], dict[str, Any]], seconds: float | None) -> Any:
    try:
        reply = action()
    except BaseException as error:
        reply = {"error": describe(error, seconds)}
    if "query" not in reply and "steps" not in reply:
        drop(key)
    return to_js(reply, dict_converter=_make_object)


def _make_object(entries: Any) -> Any:
    from js import Object

    return Object.fromEntries(entries)


def _read(buffer: Any) -> array:
    """A Float32Array or Float64Array of JavaScript → an array."""
    view = buffer.to_memoryview()
    values = array(view.format)
    values.frombytes(view.tobytes())
    return values
