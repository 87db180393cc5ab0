"""The dialect of compel 2, `prompt_parser.py`: a++, (a b)1.3, ("a", "b").and(1, 0.5), ("a",
"b").blend(0.7, 0.3).

withLora(name, 0.5) is a network, and so are A1111's tags. What it refuses, .swap above all, raises
BadInput."""

import math
import re
from typing import TypeAlias

from fromnoise.errors import BadInput
from fromnoise.prompt.dialects.base import (
    DEEPEST,
    NUMBER,
    SIGNED,
    TAG,
    Dialect,
    bound_weight,
    read_number,
    write_number,
)
from fromnoise.prompt.tree import Chunk, Network, Nodes, Part, Prompt, merge_chunks

SIGN = r'[()",.+=-]'
WORD = re.compile(rf"(?:\\{SIGN}|[+-](?!\s|{SIGN}|$)|(?!{SIGN})\S)+")
RUN = re.compile(r"\S+")
QUOTED = re.compile(r'"((?:\\"|[^"\n\r])*)"')
MORE = re.compile(r"(\++|-+)")
TIMES = re.compile(rf"(\++|-+|{NUMBER})")
ATTEND = re.compile(rf"\s*\.attend\s*\(\s*(\++|-+|{NUMBER})\s*\)")
METHOD = re.compile(r"\s*\.(swap|and|add|blend)\s*\(")
CALL = re.compile(r"\s*\((.*)\)\s*\.(and|add|blend)\s*\(([^()]*)\)\s*", re.DOTALL)
ITEM = re.compile(r'"(?:\\"|[^"\n\r])*"|\\.|[^\\"(),]+|.', re.DOTALL)
Leaves: TypeAlias = list[
    tuple[str, tuple[float, ...]]
]  # words, and the weights around them, outermost first


def _read(text: str, tags: tuple[Network, ...]) -> Prompt:
    """compel's `PromptParser`: the whole is one prompt, or several that .and, .add or .blend
    joins."""
    text = re.sub(r"(?<!\\),(?=\S)", ", ", text)
    call = CALL.fullmatch(text)
    items = _items(call[1]) if call else []
    if not call or not items:
        return Prompt((Part(_Grammar(text).prompt()),), tags, "compel")
    method, given = call[2], [word.strip() for word in call[3].split(",") if word.strip()]
    raw = method == "blend" and given[-1:] == ["no_normalize"]
    numbers = [read_number(word) for word in (given[:-1] if raw else given)] or [1.0] * len(items)
    weights = [number for number in numbers if number is not None]
    if not len(weights) == len(numbers) == len(items):
        what = f".{method}({call[3]}) does not fit {len(items)} prompts"
        raise BadInput(what, f"give {len(items)} numbers, or none for 1 each")
    total = sum(weights) if method == "blend" and not raw else 1.0
    if not total:
        raise BadInput(
            f"the weights of .blend({call[3]}) add up to 0", "change one, or add no_normalize"
        )
    parts = (
        Part(_Grammar(item).prompt(), bound_weight(w / total))
        for item, w in zip(items, weights, strict=True)
    )
    return Prompt(tuple(parts), tags, "compel", method == "blend")


def _items(text: str) -> list[str]:
    """What is between the commas, out of its quotation marks; nothing if a bracket is closed that
    is not open."""
    items, level = [""], 0
    for token in ITEM.findall(text):
        level += (token == "(") - (token == ")")
        if level < 0:
            return []
        if token == "," and level == 0:
            items.append("")
        else:
            items[-1] += token
    return [quoted[1] if (quoted := QUOTED.fullmatch(item.strip())) else item for item in items]


class _Grammar:
    """compel's `build_parser_syntax` on one text. The methods give what begins at a position, and
    the position after it."""

    def __init__(self, text: str):
        self.text = text
        self.known: dict[
            int, tuple[Leaves, int] | None
        ] = {}  # brackets by where they begin: each is read once

    def prompt(self) -> Nodes:
        leaves, _ = self.body(0, free=True)
        return merge_chunks(
            (Chunk(words, bound_weight(math.prod(around, start=1.0))) for words, around in leaves),
            " ",
        )

    def body(self, at: int, depth: int = 0, free: bool = False) -> tuple[Leaves, int]:
        """As many elements as there are. If they are `free`, what is none is a word, up to the next
        space; else commas and full stops are words of their own."""
        leaves: Leaves = []
        while True:
            while self.text[at : at + 1].isspace():
                at += 1
            sign = self.text[at : at + 1]
            found = (
                ([(sign, ())], at + 1)
                if sign in (",", ".") and not free
                else self.element(at, depth, free)
            )
            if not found:
                return leaves, at
            leaves += found[0]
            at = found[1]

    def element(self, at: int, depth: int, free: bool) -> tuple[Leaves, int] | None:
        found = group = self.group(at, depth)
        if word := None if group else WORD.match(self.text, at):
            found = [(_plain(word[0]), ())], word.end()
        if found:
            leaves, end = found
            if by := ATTEND.match(self.text, end) or (TIMES if group else MORE).match(
                self.text, end
            ):
                power = min(len(by[1]), 500)  # within what a float holds
                weight = {"+": 1.1**power, "-": 0.9**power}.get(by[1][0]) or float(by[1])
                return [(words, (weight, *around)) for words, around in leaves], by.end()
            if (method := METHOD.match(self.text, end)) and (group or method[1] == "swap"):
                raise BadInput(
                    f"compel's .{method[1]}(…) cannot stand here: {self.text[at : method.end()]!r}",
                    "for .swap, the a1111 dialect has [from:to:0.5]; the others take the whole prompt, as in "
                    '("a", "b").and(1, 0.5)',
                )
        if free and not group and (run := RUN.match(self.text, at)):
            found = [(_plain(run[0]), ())], run.end()
        return found

    def group(self, at: int, depth: int) -> tuple[Leaves, int] | None:
        """`(…)` or `"…"`, if all in it is understood."""
        if quoted := QUOTED.match(self.text, at):
            leaves, end = _Grammar(quoted[1]).body(0, depth)
            return (leaves, quoted.end()) if end == len(quoted[1]) else None
        if self.text.startswith("(", at) and at not in self.known:
            leaves, end = self.body(at + 1, depth + 1) if depth < DEEPEST else ([], at)
            self.known[at] = (leaves, end + 1) if self.text.startswith(")", end) else None
        return self.known.get(at)


def _plain(words: str) -> str:
    return re.sub(rf"\\({SIGN})", r"\1", words)


def _write(prompt: Prompt) -> str:
    """Every weight as a number, and every sign escaped."""
    texts: list[str] = []
    for part in prompt.parts:
        words: list[str] = []
        for node in (node for node in part.nodes if isinstance(node, Chunk)):
            text = re.sub(rf"({SIGN})", r"\\\1", node.text)
            text += " " * text.endswith("\\")  # so that it escapes nothing after it
            words.append(text if node.weight == 1 else f"({text}){write_number(node.weight)}")
        texts.append(" ".join(words))
    weights = ", ".join(write_number(part.weight) for part in prompt.parts)
    if weights == "1" and not prompt.blend:
        return texts[0]
    call = f".blend({weights}, no_normalize)" if prompt.blend else f".and({weights})"
    return "(" + ", ".join(f'"{text}"' for text in texts) + ")" + call


LORA = rf"\b(?:use|with)Lora\(\s*([\w-]+)\s*(?:,\s*({SIGNED})\s*)?\)"
COMPEL = Dialect(re.compile(TAG.format("lora|lyco|hypernet") + "|" + LORA), _read, _write)
