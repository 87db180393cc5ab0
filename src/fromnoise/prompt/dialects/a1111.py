"""The dialect of the AUTOMATIC1111 web UI 1.10, `modules/prompt_parser.py`: (a:1.3), [a:b:0.5],
[a|b], BREAK, AND.

(a) and [a] weigh 1.1 and 1/1.1; <lora:name:1> is a network. From ComfyUI's prompt-control, in each
part of AND: MASK(x1 x2, y1 y2, weight), IMASK(name, weight)."""

import re
from collections.abc import Callable, Iterable
from itertools import groupby, pairwise
from typing import TypeAlias

from fromnoise.prompt.dialects.base import (
    DEEPEST,
    NUMBER,
    SIGNED,
    TAG,
    Dialect,
    bound_weight,
    write_number,
)
from fromnoise.prompt.tree import (
    Alternate,
    Box,
    Break,
    Chunk,
    Edit,
    Mask,
    Network,
    Node,
    Nodes,
    Part,
    Prompt,
    merge_chunks,
)

SIGNS = tuple("()[]:|")
LEXEME = re.compile(r"\\.|[()\[\]:|]|[^\\()\[\]:|]+|\\")
WHEN = re.compile(rf"\s*({SIGNED}(?:[eE][+-]?\d+)?)\s*")
TOKEN = re.compile(rf"\\[\\()\[\]]?|[(\[\])]|:\s*({SIGNED})\s*\)|:|[^\\()\[\]:]+")
SPAN = rf"(?:({NUMBER})(?:\s++({NUMBER}))?)?\s*+"
SHARE = rf"(?:,\s*+({SIGNED})\s*+)?"
REGION = re.compile(
    rf"\bMASK\(\s*+{SPAN}(?:,\s*+{SPAN})?{SHARE}\)|\bIMASK\(\s*+([\w.-]+)\s*+{SHARE}\)"
)
Piece: TypeAlias = str | Edit | Alternate


def _read(text: str, tags: tuple[Network, ...]) -> Prompt:
    """A1111's `get_multicond_prompt_list`: the parts that AND joins, and their weights."""
    parts: list[Part] = []
    for said in re.split(r"\bAND\b", text):
        regions = [region for found in REGION.finditer(said) if (region := _region(found))]
        said = REGION.sub(lambda found: "" if _region(found) else found[0], said)
        before, colon, after = said.rpartition(":")
        weighted = colon and re.fullmatch(rf"\s*{SIGNED}\s*", after)
        nodes = _weigh(
            _pieces((before if weighted else said).strip())
        )  # A1111 keeps the spaces in front, to no effect
        parts.append(Part(nodes, bound_weight(float(after)) if weighted else 1.0, tuple(regions)))
    return Prompt(tuple(parts), tags)


def _region(found: re.Match[str]) -> Box | Mask | None:
    """prompt-control's notation; None for a mixture of fractions and pixels, which stays words."""
    *spans, weight, name, share = found.groups()
    if name:
        return Mask(name, bound_weight(float(share or 1)))
    x1, x2, y1, y2 = sides = [
        bound_weight(float(given or other)) for given, other in zip(spans, "0101", strict=True)
    ]
    pixels = max(sides) > 1
    if pixels and any(0 < side <= 1 for side in sides):
        return None
    return Box((x1, x2), (y1, y2), bound_weight(float(weight or 1)), pixels)


def _pieces(raw: str) -> list[Piece]:
    """A1111's first pass: edits and alternations are found, all else stays text. Its grammar has
    room for stray brackets outside of others only, so one inside makes all around it stray. It has
    none for a stray "|" or a backslash before nothing: with one of these, nothing is edited."""
    pieces: list[Piece] = []
    opened: list[
        list[int]
    ] = []  # of each bracket that is open, where it and the signs directly in it are
    for lexeme in LEXEME.findall(raw):
        if lexeme == "\\":
            return [raw]
        if lexeme in ("(", "["):
            if len(opened) >= DEEPEST + (
                lexeme == "("
            ):  # the deepest edit may have emphasis in it, for `write`
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
    """What a bracket of these signs is, with these parts between them; None for emphasis and for a
    stray one."""
    if re.fullmatch(r"\[\|+\]", signs):
        return Alternate(tuple(map(_weigh, parts)))
    last = "".join(piece if isinstance(piece, str) else "[" for piece in parts[-1])
    if signs not in ("[:]", "[::]") or not (when := WHEN.fullmatch(last)):
        return None
    before, after = ([], *parts[:-1])[-2:]
    number, fraction = bound_weight(float(when[1])), "." in when[1]
    return Edit(_weigh(before), _weigh(after), number if fraction else float(int(number)), fraction)


def _weigh(pieces: Iterable[Piece]) -> Nodes:
    """A1111's second pass, `parse_prompt_attention`: a closing bracket multiplies all since its
    opening one, whatever brackets of the other kind are open between. An edit is multiplied leaf by
    leaf, in that order, so to the same bits. Unlike A1111, BREAK inside emphasis is a break; there
    it becomes a word of negative weight."""
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
    return merge_chunks(nodes, "")


def _mapped(node: Edit | Alternate, change: Callable[[Nodes], Nodes]) -> Edit | Alternate:
    if isinstance(node, Edit):
        return Edit(change(node.before), change(node.after), node.when, node.fraction)
    return Alternate(tuple(map(change, node.options)))


def _scaled(node: Node, factor: float) -> Node:
    if isinstance(node, Chunk):
        return Chunk(node.text, bound_weight(node.weight * factor))
    return (
        node
        if isinstance(node, Break)
        else _mapped(node, lambda nodes: tuple(_scaled(n, factor) for n in nodes))
    )


def _by_edit(nodes: list[Node]) -> Node | None:
    """`(words:[1.1:1.5:3])`, emphasis whose weight is edited: an edit of the words. None: it is not
    that."""
    *words, colon, last = [Break(), Break(), *nodes][-max(2, len(nodes)) :]
    if (
        colon != Chunk(":")
        or isinstance(last, Chunk | Break)
        or any(isinstance(n, Edit | Alternate) for n in words)
    ):
        return None

    def times(weight: Nodes) -> Nodes:
        only = weight[0] if len(weight) == 1 else Break()
        if isinstance(only, Edit | Alternate):
            return (_mapped(only, times),)
        if isinstance(only, Chunk) and re.fullmatch(rf"\s*{SIGNED}\s*", only.text):
            return merge_chunks((_scaled(node, float(only.text)) for node in words), "")
        return merge_chunks((_scaled(node, 1.1) for node in (*words, colon, *weight)), "")

    return _mapped(last, times)


def _write(prompt: Prompt) -> str:
    """Parts, regions, weights: all that A1111 and prompt-control read."""
    texts: list[str] = []
    for part in prompt.parts:
        text = words = _write_nodes(part.nodes, Break())
        for region in part.regions:
            numbers = map(write_number, (*region.x, *region.y) if isinstance(region, Box) else ())
            where = (
                "MASK({} {}, {} {}".format(*numbers)
                if isinstance(region, Box)
                else f"IMASK({region.name}"
            )
            text += f" {where}, {write_number(region.weight)})"
        if part.weight != 1 or re.search(
            rf":\s*{SIGNED}$", words
        ):  # or the words would end in a weight
            text += f" :{write_number(part.weight)}"
        texts.append(text)
    return " AND ".join(texts)


def _write_nodes(nodes: Nodes, edge: Node) -> str:
    """`edge`: what is on either side. Spaces beside a break or an end of the part last only in
    brackets."""
    texts: list[str] = []
    around = (edge, *nodes, edge)
    for before, node, after in zip(around[:-2], nodes, around[2:], strict=True):
        if isinstance(node, Break):
            texts.append(" BREAK ")
        elif isinstance(node, Alternate):
            texts.append(
                "[" + "|".join(_write_nodes(option, Chunk("")) for option in node.options) + "]"
            )
        elif isinstance(node, Edit):
            when = write_number(node.when)
            when += "." * (node.fraction and "." not in when)
            texts.append(
                f"[{_write_nodes(node.before, Chunk(''))}:{_write_nodes(node.after, Chunk(''))}:{when}]"
            )
        else:
            words = re.sub(r"([\\()\[\]:|])", r"\\\1", node.text)
            words = re.sub(
                r"(<(?=\w)|\bA(?=ND\b)|\bB(?=REAK\b))", r"\1\\", words
            )  # a lone backslash says nothing
            ends = words[:1] * isinstance(before, Break) + words[-1:] * isinstance(after, Break)
            lost = re.search(r"\s", ends)
            texts.append(
                words if node.weight == 1 and not lost else f"({words}:{write_number(node.weight)})"
            )
    return "".join(texts)


A1111 = Dialect(re.compile(TAG.format(r"\w+")), _read, _write)
