"""Prompt text → a small tree → the weighted words of each step. Parsing only: what a weight does is
decided elsewhere.

How a text is read is its dialect's, one file each in `dialects/`. Every text is a prompt: what is
no syntax is words. Only `compel` refuses some, with BadInput."""

import re

from fromnoise.errors import BadInput
from fromnoise.prompt import dialects
from fromnoise.prompt.dialects.base import read_number, write_number
from fromnoise.prompt.tree import Network, Prompt, Resolved


def parse_prompt(text: str, dialect: str = "a1111") -> Prompt:
    """Text → tree. Raises UnknownName for a dialect that is not there and, in compel only,
    BadInput."""
    found_in = dialects.find(dialect)
    tags: list[Network] = []

    def cut(found: re.Match[str]) -> str:
        kind, arguments, *lora = found.groups()
        tags.append(
            _network(kind, arguments.split(":"))
            if kind
            else _network("lora", [lora[0], lora[1] or "1"])
        )
        return ""

    while (
        rest := found_in.tags.sub(cut, text)
    ) != text:  # to the last: cutting one out can close another around it
        text = rest
    return found_in.read(text, tuple(tags))


def list_stages(
    prompt: Prompt, steps: int, first: int = 0
) -> list[tuple[int, tuple[Resolved, ...]]]:
    """(last step, counted from 1; the parts until then), in order: A1111's schedule, with equal
    neighbours as one."""
    stages: list[tuple[int, tuple[Resolved, ...]]] = []
    for step in range(steps):
        now = prompt.resolve(step, steps, first)
        if stages and stages[-1][1] == now:
            stages.pop()
        stages.append((step + 1, now))
    return stages


def write_prompt(prompt: Prompt) -> str:
    """Tree → a text that parses to the same tree. Raises BadInput where the dialect has no such
    text."""
    # tags first: words may have the beginning of one, which the end of another would close
    text = ""
    for tag in prompt.tags:
        rest = [write_number(tag.unet)] if tag.extra or tag.unet != tag.text else []
        text += f"<{':'.join((tag.kind, tag.name, write_number(tag.text), *rest, *tag.extra))}>"
    text += dialects.find(prompt.dialect).write(prompt)
    if parse_prompt(text, prompt.dialect) != prompt:
        raise BadInput(
            f"the prompt dialect {prompt.dialect!r} has no text for this tree",
            "edits, breaks and regions are a1111's alone; no chunk may be empty, nor like its neighbour in weight, nor "
            "infinite",
        )
    return text


def _network(kind: str, arguments: list[str]) -> Network:
    """As A1111 reads a LoRA: its name, the text encoder's weight (or te=), the U-Net's, else the
    same (or unet=)."""
    name, *rest = arguments
    free, weights, extra = iter(("te", "unet")), {"te": 1.0}, []
    for argument in sorted(rest, key=lambda argument: "=" in argument):  # the named ones go before
        key, named, value = argument.rpartition("=")
        key = key if named else next(free, "")
        if key not in ("te", "unet") or (number := read_number(value)) is None:
            extra.append(argument)
        else:
            weights[key] = number
    return Network(kind, name, weights["te"], weights.get("unet", weights["te"]), tuple(extra))
