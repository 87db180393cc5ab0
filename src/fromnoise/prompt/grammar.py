"""Prompt text → a small tree → the weighted words of each step. Parsing only: what a weight does is decided elsewhere.

Three dialects, each as its home reads it:
- `a1111`: the AUTOMATIC1111 web UI 1.10, `modules/prompt_parser.py`: (a) [a] (a:1.3), [a:b:0.5], [a|b], BREAK, AND,
  <lora:name:1>. From ComfyUI's prompt-control, in each part of AND: MASK(x1 x2, y1 y2, weight), IMASK(name, weight).
- `comfy`: ComfyUI, `comfy/sd1_clip.py`: (a), (a:1.3), where an explicit weight replaces the outer one; embedding:name.
- `compel`: compel 2, `prompt_parser.py`: a++, (a b)1.3, ("a", "b").and(1, 0.5), ("a", "b").blend(0.7, 0.3).

Every text is a prompt: what is no syntax is words. Only `compel` refuses some, with BadInput.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby, pairwise
from typing import TypeAlias, TypeVar

from fromnoise.errors import BadInput, UnknownName


@dataclass(frozen=True, slots=True)
class Chunk:
    """Words that share one weight, a finite one. They are as they are to be tokenized, with no escapes left."""

    text: str
    weight: float = 1.0
    embedding: bool = False  # the text names a textual inversion, whose vectors stand here


@dataclass(frozen=True, slots=True)
class Break:
    """BREAK: the words after it begin a new block of the text encoder's length."""


@dataclass(frozen=True, slots=True)
class Edit:
    """`[before:after:when]`: before through step `when`, counted from 1, then after."""

    before: "Nodes"
    after: "Nodes"
    when: float  # a number of steps, or with `fraction` a share of all of them
    fraction: bool  # it has a decimal point; not to be read off `when`, since 1 is one step and 1.0 is all


@dataclass(frozen=True, slots=True)
class Alternate:
    """`[a|b|…]`: one option a step, in turn."""

    options: tuple["Nodes", ...]


Node: TypeAlias = Chunk | Break | Edit | Alternate
Nodes: TypeAlias = tuple[Node, ...]
N = TypeVar("N", bound=Node)


@dataclass(frozen=True, slots=True)
class Box:
    """MASK(x1 x2, y1 y2, weight): where a part holds, in fractions of width and height or in pixels."""

    x: tuple[float, float] = (0.0, 1.0)
    y: tuple[float, float] = (0.0, 1.0)
    weight: float = 1.0
    pixels: bool = False


@dataclass(frozen=True, slots=True)
class Mask:
    """IMASK(name, weight): where a part holds, by the name of a picture that the caller knows."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Network:
    """<kind:name:text:unet:…>: a network to patch in, its weights on the text encoder and on the U-Net. `extra` has the
    arguments that are neither. Kind "embedding" is a textual inversion, with the weight of its chunk."""

    kind: str
    name: str
    text: float = 1.0
    unet: float = 1.0
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What AND joins. Its leaves carry their whole weight, that of emphasis around an edit too."""

    nodes: Nodes
    weight: float = 1.0
    regions: tuple[Box | Mask, ...] = ()


@dataclass(frozen=True, slots=True)
class Resolved:
    """A part at one step: nothing in it changes any more. It has at least one chunk."""

    chunks: tuple[Chunk | Break, ...]
    weight: float = 1.0
    regions: tuple[Box | Mask, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A parsed prompt."""

    parts: tuple[Part, ...]
    tags: tuple[Network, ...] = ()
    dialect: str = "a1111"
    blend: bool = False  # True: the parts' embeddings are added by weight (compel's .blend); False: their predictions

    @property
    def networks(self) -> tuple[Network, ...]:
        """All that has to be loaded: the tags, then the embeddings among the words."""
        chunks = [node for part in self.parts for node in part.nodes if isinstance(node, Chunk)]
        return self.tags + tuple(Network("embedding", c.text, c.weight, c.weight) for c in chunks if c.embedding)

    def at(self, step: int, steps: int, first: int = 0) -> tuple[Resolved, ...]:
        """The parts at `step` ∈ [0, steps). `first`: the steps of an earlier pass that this one goes on from (A1111's
        "hires fix"); numbers of steps then count on from it, and fractions from 1.0.
        A1111 counts calls of the network, two a step of some solvers: give the call and the number of calls. Its
        sampler also looks its schedule up late by one: its call c, from 0, draws what is here at max(c − 1, 0)."""

        def picked(nodes: Nodes) -> Iterator[Chunk | Break]:
            for node in nodes:
                if isinstance(node, Edit):
                    last = (node.when - (first > 0)) * steps if node.fraction else node.when - first
                    yield from picked(node.before if step + 1 <= int(last) else node.after)
                elif isinstance(node, Alternate):
                    yield from picked(node.options[step % len(node.options)])
                else:
                    yield node

        def said(nodes: Nodes) -> tuple[Chunk | Break, ...]:
            chunks = tuple(picked(nodes))  # only A1111 has what to pick, and so what meets only now
            return (_merged(chunks, "") if self.dialect == "a1111" else chunks) or (Chunk(""),)

        return tuple(Resolved(said(part.nodes), part.weight, part.regions) for part in self.parts)


def parse(text: str, dialect: str = "a1111") -> Prompt:
    """Text → tree. Raises UnknownName for a dialect that is not there and, in compel only, BadInput."""
    pattern, read, _ = _dialect(dialect)
    tags: list[Network] = []

    def cut(found: re.Match[str]) -> str:
        kind, arguments, *lora = found.groups()
        tags.append(_network(kind, arguments.split(":")) if kind else _network("lora", [lora[0], lora[1] or "1"]))
        return ""

    while (rest := pattern.sub(cut, text)) != text:  # to the last: cutting one out can close another around it
        text = rest
    return read(text, tuple(tags))


def schedule(prompt: Prompt, steps: int, first: int = 0) -> list[tuple[int, tuple[Resolved, ...]]]:
    """(last step, counted from 1; the parts until then), in order: A1111's schedule, with equal neighbours as one."""
    stages: list[tuple[int, tuple[Resolved, ...]]] = []
    for step in range(steps):
        now = prompt.at(step, steps, first)
        if stages and stages[-1][1] == now:
            stages.pop()
        stages.append((step + 1, now))
    return stages


def write(prompt: Prompt) -> str:
    """Tree → a text that parses to the same tree. Raises BadInput where the dialect has no such text."""
    text = ""  # tags first: words may have the beginning of one, which the end of another would close
    for tag in prompt.tags:
        rest = [_said(tag.unet)] if tag.extra or tag.unet != tag.text else []
        text += f"<{':'.join((tag.kind, tag.name, _said(tag.text), *rest, *tag.extra))}>"
    text += _dialect(prompt.dialect)[2](prompt)
    if parse(text, prompt.dialect) != prompt:
        raise BadInput(
            f"the prompt dialect {prompt.dialect!r} has no text for this tree",
            "edits, breaks and regions are a1111's alone; no chunk may be empty, nor like its neighbour in weight, nor "
            "infinite",
        )
    return text


def _dialect(name: str) -> "tuple[re.Pattern[str], Reader, Writer]":
    if name not in DIALECTS:
        raise UnknownName("prompt dialect", name, DIALECTS)
    return DIALECTS[name]


# what the dialects share

NUMBER = r"(?:\d+\.?\d*|\.\d+)"
SIGNED = rf"[+-]?{NUMBER}"
BOUND = 1e30  # of weights: finite in float32 too
DEEPEST = 100  # brackets within brackets that are followed; at 300 A1111 ends in a RecursionError, at 1500 ComfyUI
Reader: TypeAlias = Callable[[str, tuple[Network, ...]], Prompt]
Writer: TypeAlias = Callable[[Prompt], str]


def _bounded(weight: float) -> float:
    return min(max(weight, -BOUND), BOUND)


def _number(text: str) -> float | None:
    """As Python reads it, which is how ComfyUI and A1111's tags do."""
    try:
        return _bounded(float(text)) if math.isfinite(float(text)) else None
    except ValueError:
        return None


def _said(number: float) -> str:
    """A text without exponent that reads as this number again."""
    return f"{Decimal(repr(number)):f}".removesuffix(".0")


def _network(kind: str, arguments: list[str]) -> Network:
    """As A1111 reads a LoRA: its name, the text encoder's weight (or te=), the U-Net's, else the same (or unet=)."""
    name, *rest = arguments
    free, weights, extra = iter(("te", "unet")), {"te": 1.0}, []
    for argument in sorted(rest, key=lambda argument: "=" in argument):  # the named ones go before
        key, named, value = argument.rpartition("=")
        key = key if named else next(free, "")
        if key not in ("te", "unet") or (number := _number(value)) is None:
            extra.append(argument)
        else:
            weights[key] = number
    return Network(kind, name, weights["te"], weights.get("unet", weights["te"]), tuple(extra))


def _merged(nodes: Iterable[N], glue: str) -> tuple[N | Chunk, ...]:
    """Neighbouring chunks of one weight as one, since they are tokenized as one; no empty ones."""
    merged: list[N | Chunk] = []
    for node in nodes:
        last = merged[-1] if merged else None
        if isinstance(node, Chunk) and isinstance(last, Chunk) and last.weight == node.weight:
            merged[-1] = Chunk(last.text + glue + node.text, node.weight)
        elif not isinstance(node, Chunk) or node.text:
            merged.append(node)
    return tuple(merged)


# a1111

SIGNS = tuple("()[]:|")
LEXEME = re.compile(r"\\.|[()\[\]:|]|[^\\()\[\]:|]+|\\")
WHEN = re.compile(rf"\s*({SIGNED}(?:[eE][+-]?\d+)?)\s*")
TOKEN = re.compile(rf"\\[\\()\[\]]?|[(\[\])]|:\s*({SIGNED})\s*\)|:|[^\\()\[\]:]+")
SPAN = rf"(?:({NUMBER})(?:\s++({NUMBER}))?)?\s*+"
SHARE = rf"(?:,\s*+({SIGNED})\s*+)?"
REGION = re.compile(rf"\bMASK\(\s*+{SPAN}(?:,\s*+{SPAN})?{SHARE}\)|\bIMASK\(\s*+([\w.-]+)\s*+{SHARE}\)")
Piece: TypeAlias = str | Edit | Alternate


def _a1111(text: str, tags: tuple[Network, ...]) -> Prompt:
    parts: list[Part] = []
    for said in re.split(r"\bAND\b", text):
        regions = [region for found in REGION.finditer(said) if (region := _region(found))]
        said = REGION.sub(lambda found: "" if _region(found) else found[0], said)
        before, colon, after = said.rpartition(":")
        weighted = colon and re.fullmatch(rf"\s*{SIGNED}\s*", after)
        nodes = _weigh(_pieces((before if weighted else said).strip()))  # A1111 keeps the spaces in front, to no effect
        parts.append(Part(nodes, _bounded(float(after)) if weighted else 1.0, tuple(regions)))
    return Prompt(tuple(parts), tags)


def _region(found: re.Match[str]) -> Box | Mask | None:
    """prompt-control's notation; None for a mixture of fractions and pixels, which stays words."""
    *spans, weight, name, share = found.groups()
    if name:
        return Mask(name, _bounded(float(share or 1)))
    x1, x2, y1, y2 = sides = [_bounded(float(given or other)) for given, other in zip(spans, "0101", strict=True)]
    pixels = max(sides) > 1
    if pixels and any(0 < side <= 1 for side in sides):
        return None
    return Box((x1, x2), (y1, y2), _bounded(float(weight or 1)), pixels)


def _pieces(raw: str) -> list[Piece]:
    """A1111's first pass: edits and alternations are found, all else stays text. Its grammar has room for stray
    brackets outside of others only, so one inside makes all around it stray. It has none for a stray "|" or a backslash
    before nothing: with one of these, nothing is edited."""
    pieces: list[Piece] = []
    opened: list[list[int]] = []  # of each bracket that is open, where it and the signs directly in it are
    for lexeme in LEXEME.findall(raw):
        if lexeme == "\\":
            return [raw]
        if lexeme in ("(", "["):
            if len(opened) >= DEEPEST + (lexeme == "("):  # the deepest edit may have emphasis in it, for `write`
                opened.clear()
            opened.append([])
        if opened and lexeme in SIGNS:
            opened[-1].append(len(pieces))
        pieces.append(lexeme)
        if opened and lexeme in (")", "]"):
            places = opened.pop()
            signs = "".join(str(pieces[place]) for place in places)
            if edit := _edit(signs, [pieces[a + 1 : b] for a, b in pairwise(places)]):
                pieces[places[0] :] = [edit]
            elif signs not in ("()", "(:)", "[]"):
                opened.clear()
    return [raw] if "|" in pieces else pieces


def _edit(signs: str, parts: list[list[Piece]]) -> Edit | Alternate | None:
    """What a bracket of these signs is, with these parts between them; None for emphasis and for a stray one."""
    if re.fullmatch(r"\[\|+\]", signs):
        return Alternate(tuple(map(_weigh, parts)))
    last = "".join(piece if isinstance(piece, str) else "[" for piece in parts[-1])
    if signs not in ("[:]", "[::]") or not (when := WHEN.fullmatch(last)):
        return None
    before, after = ([], *parts[:-1])[-2:]
    number, fraction = _bounded(float(when[1])), "." in when[1]
    return Edit(_weigh(before), _weigh(after), number if fraction else float(int(number)), fraction)


def _weigh(pieces: Iterable[Piece]) -> Nodes:
    """A1111's second pass, `parse_prompt_attention`: a closing bracket multiplies all since its opening one, whatever
    brackets of the other kind are open between. An edit is multiplied leaf by leaf, in that order, so to the same bits.
    Unlike A1111, BREAK inside emphasis is a break; there it becomes a word of negative weight."""
    nodes: list[Node] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def times(start: int, factor: float) -> None:
        nodes[start:] = [_scaled(node, factor) for node in nodes[start:]]

    for is_text, run in groupby(pieces, lambda piece: isinstance(piece, str)):
        if not is_text:
            nodes.extend(piece for piece in run if not isinstance(piece, str))
            continue
        for found in TOKEN.finditer("".join(map(str, run))):
            token, weight = found[0], found[1]
            if token[0] == "\\":
                nodes.append(Chunk(token[1:]))
            elif token in opened and len(opened["("] + opened["["]) < DEEPEST:
                opened[token].append(len(nodes))
            elif (weight or token == ")") and opened["("]:
                start = opened["("].pop()
                edited = None if weight else _by_edit(nodes[start:])
                times(start, float(weight or 1.1))
                nodes[start:] = [edited] if edited else nodes[start:]
            elif token == "]" and opened["["]:
                times(opened["["].pop(), 1 / 1.1)
            else:
                for i, words in enumerate(re.split(r"\s*\bBREAK\b\s*", token)):
                    nodes.extend((Break(), Chunk(words)) if i else (Chunk(words),))
    for sign, factor in (("(", 1.1), ("[", 1 / 1.1)):  # what is still open lasts to the end
        for start in opened[sign]:
            times(start, factor)
    return _merged(nodes, "")


def _mapped(node: Edit | Alternate, change: Callable[[Nodes], Nodes]) -> Edit | Alternate:
    if isinstance(node, Edit):
        return Edit(change(node.before), change(node.after), node.when, node.fraction)
    return Alternate(tuple(map(change, node.options)))


def _scaled(node: Node, factor: float) -> Node:
    if isinstance(node, Chunk):
        return Chunk(node.text, _bounded(node.weight * factor))
    return node if isinstance(node, Break) else _mapped(node, lambda nodes: tuple(_scaled(n, factor) for n in nodes))


def _by_edit(nodes: list[Node]) -> Node | None:
    """`(words:[1.1:1.5:3])`, emphasis whose weight is edited: an edit of the words. None: it is not that."""
    *words, colon, last = [Break(), Break(), *nodes][-max(2, len(nodes)) :]
    if colon != Chunk(":") or isinstance(last, Chunk | Break) or any(isinstance(n, Edit | Alternate) for n in words):
        return None

    def times(weight: Nodes) -> Nodes:
        only = weight[0] if len(weight) == 1 else Break()
        if isinstance(only, Edit | Alternate):
            return (_mapped(only, times),)
        if isinstance(only, Chunk) and re.fullmatch(rf"\s*{SIGNED}\s*", only.text):
            return _merged((_scaled(node, float(only.text)) for node in words), "")
        return _merged((_scaled(node, 1.1) for node in (*words, colon, *weight)), "")

    return _mapped(last, times)


def _write_a1111(prompt: Prompt) -> str:
    texts: list[str] = []
    for part in prompt.parts:
        text = words = _write_nodes(part.nodes, Break())
        for region in part.regions:
            numbers = map(_said, (*region.x, *region.y) if isinstance(region, Box) else ())
            where = "MASK({} {}, {} {}".format(*numbers) if isinstance(region, Box) else f"IMASK({region.name}"
            text += f" {where}, {_said(region.weight)})"
        if part.weight != 1 or re.search(rf":\s*{SIGNED}$", words):  # or the words would end in a weight
            text += f" :{_said(part.weight)}"
        texts.append(text)
    return " AND ".join(texts)


def _write_nodes(nodes: Nodes, edge: Node) -> str:
    """`edge`: what is on either side. Spaces beside a break or an end of the part last only in brackets."""
    texts: list[str] = []
    around = (edge, *nodes, edge)
    for before, node, after in zip(around[:-2], nodes, around[2:], strict=True):
        if isinstance(node, Break):
            texts.append(" BREAK ")
        elif isinstance(node, Alternate):
            texts.append("[" + "|".join(_write_nodes(option, Chunk("")) for option in node.options) + "]")
        elif isinstance(node, Edit):
            when = _said(node.when)
            when += "." * (node.fraction and "." not in when)
            texts.append(f"[{_write_nodes(node.before, Chunk(''))}:{_write_nodes(node.after, Chunk(''))}:{when}]")
        else:
            words = re.sub(r"([\\()\[\]:|])", r"\\\1", node.text)
            words = re.sub(r"(<(?=\w)|\bA(?=ND\b)|\bB(?=REAK\b))", r"\1\\", words)  # a lone backslash says nothing
            ends = words[:1] * isinstance(before, Break) + words[-1:] * isinstance(after, Break)
            lost = re.search(r"\s", ends)
            texts.append(words if node.weight == 1 and not lost else f"({words}:{_said(node.weight)})")
    return "".join(texts)


# comfy

EMBEDDING = re.compile(r"(?<!\S)embedding:([^\s,<\[]+)")


def _comfy(text: str, tags: tuple[Network, ...]) -> Prompt:
    """ComfyUI's `token_weights`. Its chunks are tokenized one by one, and so not merged."""
    nodes: list[Chunk] = []

    def walk(text: str, weight: float, depth: int) -> None:
        for piece, bracketed in _outermost(text):
            if bracketed and depth < DEEPEST:
                before, _, after = piece[1:-1].rpartition(":")
                number = _number(after) if before else None
                walk(*(piece[1:-1], _bounded(weight * 1.1)) if number is None else (before, number), depth + 1)
                continue
            words, at = re.sub(r"\\([()])", r"\1", piece), 0
            for found in EMBEDDING.finditer(words):
                nodes.extend((Chunk(words[at : found.start()], weight), Chunk(found[1], weight, True)))
                at = found.end()
            nodes.append(Chunk(words[at:], weight))

    walk(text, 1.0, 0)
    return Prompt((Part(tuple(node for node in nodes if node.text)),), tags, "comfy")


def _outermost(text: str) -> Iterator[tuple[str, bool]]:
    """Its pieces, and whether each is a bracket from "(" to ")". After a stray ")" the next "(" opens nothing."""
    piece: list[str] = []
    level = 0
    for token in re.findall(r"\\[()]|[()]|[^\\()]+|\\", text):
        if token == "(" and level == 0 and piece:
            yield "".join(piece), False
            piece = []
        piece.append(token)
        level += (token == "(") - (token == ")")
        if token == ")" and level == 0:
            yield "".join(piece), True
            piece = []
    if piece:  # not closed; it is a bracket all the same if it ends in one that is
        yield "".join(piece), len(piece) > 1 and piece[0] == "(" and piece[-1] == ")"


def _write_comfy(prompt: Prompt) -> str:
    text, bare = "", None  # the chunk before, if it is not in brackets
    for node in (node for part in prompt.parts for node in part.nodes if isinstance(node, Chunk)):
        words = "embedding:" * node.embedding + re.sub(r"([()])", r"\\\1", node.text)
        meets = re.search(r"\s$", text) if node.embedding else re.match(r"[\s,<\[]", words)
        alone = bare is None or (bare.embedding != node.embedding and meets)
        bare = node if node.weight == 1 and alone and not words.endswith("\\") else None
        text += words if bare else f"({words}:{_said(node.weight)})"
    return text


# compel

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
Leaves: TypeAlias = list[tuple[str, tuple[float, ...]]]  # words, and the weights around them, outermost first


def _compel(text: str, tags: tuple[Network, ...]) -> Prompt:
    text = re.sub(r"(?<!\\),(?=\S)", ", ", text)
    call = CALL.fullmatch(text)
    items = _items(call[1]) if call else []
    if not call or not items:
        return Prompt((Part(_Compel(text).prompt()),), tags, "compel")
    method, given = call[2], [word.strip() for word in call[3].split(",") if word.strip()]
    raw = method == "blend" and given[-1:] == ["no_normalize"]
    numbers = [_number(word) for word in (given[:-1] if raw else given)] or [1.0] * len(items)
    weights = [number for number in numbers if number is not None]
    if not len(weights) == len(numbers) == len(items):
        what = f".{method}({call[3]}) does not fit {len(items)} prompts"
        raise BadInput(what, f"give {len(items)} numbers, or none for 1 each")
    total = sum(weights) if method == "blend" and not raw else 1.0
    if not total:
        raise BadInput(f"the weights of .blend({call[3]}) add up to 0", "change one, or add no_normalize")
    parts = (Part(_Compel(item).prompt(), _bounded(w / total)) for item, w in zip(items, weights, strict=True))
    return Prompt(tuple(parts), tags, "compel", method == "blend")


def _items(text: str) -> list[str]:
    """What is between the commas, out of its quotation marks; nothing if a bracket is closed that is not open."""
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


class _Compel:
    """compel's grammar on one text. The methods give what begins at a position, and the position after it."""

    def __init__(self, text: str):
        self.text = text
        self.known: dict[int, tuple[Leaves, int] | None] = {}  # brackets by where they begin: each is read once

    def prompt(self) -> Nodes:
        leaves, _ = self.body(0, free=True)
        return _merged((Chunk(words, _bounded(math.prod(around, start=1.0))) for words, around in leaves), " ")

    def body(self, at: int, depth: int = 0, free: bool = False) -> tuple[Leaves, int]:
        """As many elements as there are. If they are `free`, what is none is a word, up to the next space; else commas
        and full stops are words of their own."""
        leaves: Leaves = []
        while True:
            while self.text[at : at + 1].isspace():
                at += 1
            sign = self.text[at : at + 1]
            found = ([(sign, ())], at + 1) if sign in (",", ".") and not free else self.element(at, depth, free)
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
            if by := ATTEND.match(self.text, end) or (TIMES if group else MORE).match(self.text, end):
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
            leaves, end = _Compel(quoted[1]).body(0, depth)
            return (leaves, quoted.end()) if end == len(quoted[1]) else None
        if self.text.startswith("(", at) and at not in self.known:
            leaves, end = self.body(at + 1, depth + 1) if depth < DEEPEST else ([], at)
            self.known[at] = (leaves, end + 1) if self.text.startswith(")", end) else None
        return self.known.get(at)


def _plain(words: str) -> str:
    return re.sub(rf"\\({SIGN})", r"\1", words)


def _write_compel(prompt: Prompt) -> str:
    texts: list[str] = []
    for part in prompt.parts:
        words: list[str] = []
        for node in (node for node in part.nodes if isinstance(node, Chunk)):
            text = re.sub(rf"({SIGN})", r"\\\1", node.text)
            text += " " * text.endswith("\\")  # so that it escapes nothing after it
            words.append(text if node.weight == 1 else f"({text}){_said(node.weight)}")
        texts.append(" ".join(words))
    weights = ", ".join(_said(part.weight) for part in prompt.parts)
    if weights == "1" and not prompt.blend:
        return texts[0]
    call = f".blend({weights}, no_normalize)" if prompt.blend else f".and({weights})"
    return "(" + ", ".join(f'"{text}"' for text in texts) + ")" + call


TAG = r"<({}):([^>]+)>"
LORA = rf"\b(?:use|with)Lora\(\s*([\w-]+)\s*(?:,\s*({SIGNED})\s*)?\)"
DIALECTS: dict[str, tuple[re.Pattern[str], Reader, Writer]] = {  # tags to cut out first, reader, writer
    "a1111": (re.compile(TAG.format(r"\w+")), _a1111, _write_a1111),
    "comfy": (re.compile(TAG.format("lora|lyco|hypernet")), _comfy, _write_comfy),
    "compel": (re.compile(TAG.format("lora|lyco|hypernet") + "|" + LORA), _compel, _write_compel),
}
