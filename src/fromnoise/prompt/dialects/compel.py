"""The dialect of compel 2, `prompt_parser.py`: a++, (a b)1.3, ("a", "b").and(1, 0.5), ("a",
"b").blend(0.7, 0.3).

withLora(name, 0.5) is a network, and so are A1111's tags. What compel refuses, above all .swap,
raises BadInput."""

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
# words, and the weights around them, outermost first
Leaves: TypeAlias = list[tuple[str, tuple[float, ...]]]


def _read(text: str, tags: tuple[Network, ...]) -> Prompt:
    """Reads as compel's `PromptParser`: the whole text is one prompt, or several that .and, .add or
    .blend joins."""
    text = re.sub(r"(?<!\\),(?=\S)", ", ", text)
    call = CALL.fullmatch(text)
    items = _split_items(call[1]) if call else []
    if not call or not items:
        return Prompt((Part(_Grammar(text).prompt()),), tags, "compel")
    method, arguments = call[2], [word.strip() for word in call[3].split(",") if word.strip()]
    raw = method == "blend" and arguments[-1:] == ["no_normalize"]
    numbers = [read_number(word) for word in (arguments[:-1] if raw else arguments)]
    numbers = numbers or [1.0] * len(items)
    weights = [number for number in numbers if number is not None]
    if not len(weights) == len(numbers) == len(items):
        raise BadInput(
            f".{method}({call[3]}) does not fit {len(items)} prompts",
            f"give {len(items)} numbers, or none for 1 each",
        )
    total = sum(weights) if method == "blend" and not raw else 1.0
    if not total:
        raise BadInput(
            f"the weights of .blend({call[3]}) add up to 0", "change one, or add no_normalize"
        )
    parts = (
        Part(_Grammar(item).prompt(), bound_weight(weight / total))
        for item, weight in zip(items, weights, strict=True)
    )
    return Prompt(tuple(parts), tags, "compel", method == "blend")


def _split_items(text: str) -> list[str]:
    """The items between the commas, without their quotation marks; no items if a bracket closes
    that is not open."""
    items: list[list[str]] = [[]]
    level = 0
    for token in ITEM.findall(text):
        level += (token == "(") - (token == ")")
        if level < 0:
            return []
        if token == "," and level == 0:
            items.append([])
        else:
            items[-1].append(token)
    texts = map("".join, items)
    return [quoted[1] if (quoted := QUOTED.fullmatch(text.strip())) else text for text in texts]


class _Grammar:
    """compel's `build_parser_syntax` on one text. The methods read what begins at a position, and
    give the position after it."""

    def __init__(self, text: str):
        self.text = text
        # brackets by where they begin: each is read once
        self.brackets: dict[int, tuple[Leaves, int] | None] = {}

    def prompt(self) -> Nodes:
        leaves, _ = self.body(0, free=True)
        return merge_chunks((Chunk(words, _multiply(weights)) for words, weights in leaves), " ")

    def body(self, start: int, depth: int = 0, free: bool = False) -> tuple[Leaves, int]:
        """Reads as many elements as there are. free: what is no element is a word, up to the next
        space; otherwise commas and full stops are words of their own."""
        leaves: Leaves = []
        while True:
            while self.text[start : start + 1].isspace():
                start += 1
            sign = self.text[start : start + 1]
            if sign in (",", ".") and not free:
                element = [(sign, ())], start + 1
            else:
                element = self.element(start, depth, free)
            if not element:
                return leaves, start
            leaves += element[0]
            start = element[1]

    def element(self, start: int, depth: int, free: bool) -> tuple[Leaves, int] | None:
        element = group = self.group(start, depth)
        if word := None if group else WORD.match(self.text, start):
            element = [(_remove_escapes(word[0]), ())], word.end()
        if element:
            leaves, end = element
            times = ATTEND.match(self.text, end)
            if times := times or (TIMES if group else MORE).match(self.text, end):
                power = min(len(times[1]), 500)  # within what a float holds
                weight = {"+": 1.1**power, "-": 0.9**power}.get(times[1][0]) or float(times[1])
                return [(words, (weight, *weights)) for words, weights in leaves], times.end()
            if (method := METHOD.match(self.text, end)) and (group or method[1] == "swap"):
                raise BadInput(
                    f"compel's .{method[1]}(…) cannot stand here: "
                    f"{self.text[start : method.end()]!r}",
                    "for .swap, the a1111 dialect has [from:to:0.5]; the others take the whole "
                    'prompt, as in ("a", "b").and(1, 0.5)',
                )
        if free and not group and (run := RUN.match(self.text, start)):
            element = [(_remove_escapes(run[0]), ())], run.end()
        return element

    def group(self, start: int, depth: int) -> tuple[Leaves, int] | None:
        """`(…)` or `"…"`, if all in it is understood."""
        if quoted := QUOTED.match(self.text, start):
            leaves, end = _Grammar(quoted[1]).body(0, depth)
            return (leaves, quoted.end()) if end == len(quoted[1]) else None
        if self.text.startswith("(", start) and start not in self.brackets:
            leaves, end = self.body(start + 1, depth + 1) if depth < DEEPEST else ([], start)
            closed = self.text.startswith(")", end)
            self.brackets[start] = (leaves, end + 1) if closed else None
        return self.brackets.get(start)


def _multiply(weights: tuple[float, ...]) -> float:
    """The product, bounded at each factor, so that none is infinite."""
    product = 1.0
    for weight in weights:
        product = bound_weight(product * bound_weight(weight))
    return product


def _remove_escapes(words: str) -> str:
    return re.sub(rf"\\({SIGN})", r"\1", words)


def _write(prompt: Prompt) -> str:
    """Writes every weight as a number, and escapes every sign."""
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
