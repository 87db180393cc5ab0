"""Prompt text → a small tree → the weighted words of each step. This file parses only: what a
weight does is decided elsewhere.

Each dialect has its own file in `dialects/`. Every text is a prompt: what is no syntax is words.
Only `compel` refuses some texts, with BadInput. Parsing takes time linear in the text."""

import re

from fromnoise.errors import BadInput
from fromnoise.prompt import dialects
from fromnoise.prompt.dialects.base import DEEPEST, read_number, write_number
from fromnoise.prompt.tree import Network, Prompt, Resolved


def parse_prompt(text: str, dialect: str = "a1111") -> Prompt:
    """Text → tree. Raises UnknownName for a dialect that does not exist and, in compel only,
    BadInput."""
    reader = dialects.find(dialect)
    tags: list[Network] = []

    def cut_tag(match: re.Match[str]) -> str:
        kind, arguments, *lora = match.groups()
        tags.append(
            _read_network(kind, arguments.split(":"))
            if kind
            else _read_network("lora", [lora[0], lora[1] or "1"])
        )
        return ""

    # cutting out a tag can close another one around it; tags deeper than DEEPEST stay words
    for _ in range(DEEPEST):
        # behind the last ">" no "<" opens a tag: without this cut each would search to the end
        end = text.rfind(">") + 1
        shorter = reader.tags.sub(cut_tag, text[:end])
        shorter += "<".join(reader.tags.sub(cut_tag, piece) for piece in text[end:].split("<"))
        if shorter == text:
            break
        text = shorter
    return reader.read(text, tuple(tags))


def list_stages(
    prompt: Prompt, steps: int, first: int = 0
) -> list[tuple[int, tuple[Resolved, ...]]]:
    """[(last step, counted from 1; the parts until then), …] in order: A1111's schedule, with equal
    neighbours as one."""
    stages: list[tuple[int, tuple[Resolved, ...]]] = []
    for step in range(steps):
        parts = prompt.resolve(step, steps, first)
        if stages and stages[-1][1] == parts:
            stages.pop()
        stages.append((step + 1, parts))
    return stages


def write_prompt(prompt: Prompt) -> str:
    """Tree → a text that parses to the same tree. Raises BadInput where the dialect has no such
    text."""
    # tags come first: words may hold the beginning of a tag, which the end of another would close
    text = ""
    for tag in prompt.tags:
        rest = [write_number(tag.unet)] if tag.extra or tag.unet != tag.text else []
        text += f"<{':'.join((tag.kind, tag.name, write_number(tag.text), *rest, *tag.extra))}>"
    text += dialects.find(prompt.dialect).write(prompt)
    if parse_prompt(text, prompt.dialect) != prompt:
        raise BadInput(
            f"the prompt dialect {prompt.dialect!r} has no text for this tree",
            "only a1111 has edits, breaks and regions; a chunk must hold words, differ in weight "
            "from its neighbours and have a finite weight; a lone part weighs 1",
        )
    return text


def _read_network(kind: str, arguments: list[str]) -> Network:
    """Reads a LoRA's arguments as A1111 does: its name, the text encoder's weight (or te=), the
    U-Net's weight (or unet=), which is the text encoder's where none is given."""
    name, *rest = arguments
    positions, weights, extra = iter(("te", "unet")), {"te": 1.0}, []
    for argument in sorted(rest, key=lambda argument: "=" in argument):  # named ones come last
        key, equals, value = argument.rpartition("=")
        key = key if equals else next(positions, "")
        if key not in ("te", "unet") or (number := read_number(value)) is None:
            extra.append(argument)
        else:
            weights[key] = number
    return Network(kind, name, weights["te"], weights.get("unet", weights["te"]), tuple(extra))
