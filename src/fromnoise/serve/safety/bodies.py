"""The gate of request bodies: bytes, time, and what JSON may look like."""

import asyncio
import json
import re
from typing import Any

from starlette.types import Message, Receive

from fromnoise.serve.refusals import Refusal
from fromnoise.serve.settings import Limits

# strings are matched whole, so that brackets in them do not count; linear also in a broken text
TOKENS = re.compile(rb'"(?:[^"\\]|\\.|\\\Z)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)


class Body:
    """A request's body as it comes in. Raises Refusal for one that is too long or too slow."""

    def __init__(self, receive: Receive, most: int, limits: Limits):
        self.receive_raw, self.most, self.limits = receive, most, limits
        self.size, self.done = 0, False
        self.end = asyncio.get_running_loop().time() + limits.body_seconds

    async def receive(self) -> Message:
        """The next message. After the body's end it waits for the client to go, without limit."""
        if self.done:
            return await self.receive_raw()
        left = self.end - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self.receive_raw(), max(left, 0.001))
        except TimeoutError:
            raise Refusal(
                408,
                "too_slow",
                f"the body took longer than {self.limits.body_seconds:g} seconds",
                "send it faster",
            ) from None
        self.size += len(message.get("body", b""))
        if self.size > self.most:
            raise refuse_size(self.most)
        self.done = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def read(self) -> bytes:
        """All of it. Raises Refusal, and ConnectionError where the client went away."""
        parts: list[bytes] = []
        while not self.done:
            message = await self.receive()
            if message["type"] != "http.request":
                raise ConnectionError("the client went away")
            parts.append(message.get("body", b""))
        return b"".join(parts)


def refuse_size(most: int) -> Refusal:
    """For a body of too many bytes."""
    return Refusal(413, "too_large", f"the body has more than {most:,} bytes", "send less")


def check_json(data: bytes, limits: Limits) -> None:
    """Raises Refusal for what is no JSON, is nested too deep, or has NaN, a NUL or half a letter
    in it."""
    depth = 0
    for token in TOKENS.finditer(data):
        sign = token[0]
        if sign in b"[{":
            depth += 1
            if depth > limits.json_depth:
                raise _refuse(f"it is nested more than {limits.json_depth} levels deep")
        elif sign in b"]}":
            depth -= 1
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
        check_texts(value)
    except (ValueError, RecursionError) as error:
        raise _refuse(str(error)[:200]) from None


def check_texts(value: Any) -> None:
    """Raises Refusal for a NUL or half a letter (a lone surrogate) in any text of a JSON value: no
    prompt or name has one, and databases take none."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if "\0" in value:
                raise _refuse("a text has a NUL in it")
            try:
                value.encode()
            except UnicodeEncodeError:
                raise _refuse("a text has half a letter in it (a lone surrogate)") from None
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value


def _refuse_constant(name: str) -> Any:
    raise _refuse(f"{name} is no number of JSON")


def _refuse(why: str) -> Refusal:
    return Refusal(400, "bad_json", f"the body is no JSON that can be used: {why}", "send JSON")
