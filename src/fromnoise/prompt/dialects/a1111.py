"""The dialect of the AUTOMATIC1111 web UI 1.10, `modules/prompt_parser.py`: (a:1.3), [a:b:0.5],
[a|b], BREAK, AND.

(a) and [a] weigh 1.1 and 1/1.1; <lora:name:1> is a network. From ComfyUI's prompt-control, in each
part of AND: MASK(x1 x2, y1 y2, weight), IMASK(name, weight)."""

import re
from collections.abc import Callable, Iterable, Iterator
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
# an even number of backslashes, or none, before a colon: odd ones make it a plain colon
WEIGHT = re.compile(rf"(?<!\\)((?:\\\\)*+):\s*+({SIGNED})\s*+\Z")
SPACE = " \t\n\r\f\v"  # what the tokenizer takes for space: other signs may be tokens
Piece: TypeAlias = str | Edit | Alternate


def _read(text: str, tags: tuple[Network, ...]) -> Prompt:
    """Reads as A1111's `get_multicond_prompt_list`: the parts that AND joins, and their weights.

    A1111 reads ":9" at the end of a prompt without AND as a weight too, which makes 9 of "ratio
    16:9". Here a part has a weight only beside other parts or with a region."""
    parts: list[Part] = []
    texts = re.split(r"\bAND\b", text)
    for words in texts:
        regions = [region for match in REGION.finditer(words) if (region := _read_region(match))]
        words = REGION.sub(lambda match: "" if _read_region(match) else match[0], words)
        weight = 1.0
        # from the last colon on: a pattern that searches the whole text would be quadratic in it
        start = words.rfind(":")
        while start > 0 and words[start - 1] == "\\":
            start -= 1
        match = WEIGHT.match(words, max(start, 0)) if len(texts) > 1 or regions else None
        if match:
            words, weight = words[: match.end(1)], bound_weight(float(match[2]))
        # A1111 keeps the spaces in front, to no effect
        parts.append(Part(_weigh(_split_pieces(words.strip(SPACE))), weight, tuple(regions)))
    return Prompt(tuple(parts), tags)


def _read_region(match: re.Match[str]) -> Box | Mask | None:
    """Reads prompt-control's notation; None for a mixture of fractions and pixels, which stays
    words."""
    *spans, weight, name, share = match.groups()
    if name:
        return Mask(name, bound_weight(float(share or 1)))
    x1, x2, y1, y2 = sides = [
        bound_weight(float(side or default)) for side, default in zip(spans, "0101", strict=True)
    ]
    pixels = max(sides) > 1
    if pixels and any(0 < side <= 1 for side in sides):
        return None
    return Box((x1, x2), (y1, y2), bound_weight(float(weight or 1)), pixels)


def _split_pieces(raw: str) -> list[Piece]:
    """A1111's first pass: finds edits and alternations; all else stays text.

    A1111's grammar allows a stray bracket only outside of others, so a stray one inside makes all
    brackets around it stray. It allows no stray "|" and no backslash before nothing: with one of
    these, nothing is edited."""
    pieces: list[Piece] = []
    # for each open bracket the places of itself and of the signs directly in it
    opened: list[list[int]] = []
    for lexeme in LEXEME.findall(raw):
        if lexeme == "\\":
            return [raw]
        if lexeme in ("(", "["):
            # the deepest edit may hold emphasis, which `_write` needs
            if len(opened) >= DEEPEST + (lexeme == "("):
                opened.clear()
            opened.append([])
        if opened and lexeme in SIGNS:
            opened[-1].append(len(pieces))
        pieces.append(lexeme)
        if opened and lexeme in (")", "]"):
            places = opened.pop()
            signs = "".join(str(pieces[place]) for place in places)
            if edit := _read_edit(signs, [pieces[a + 1 : b] for a, b in pairwise(places)]):
                pieces[places[0] :] = [edit]
            elif signs not in ("()", "(:)", "[]"):
                opened.clear()
    return [raw] if "|" in pieces else pieces


def _read_edit(signs: str, parts: list[list[Piece]]) -> Edit | Alternate | None:
    """The edit or alternation of a bracket with these signs, and these parts between them; None for
    emphasis and for a stray bracket."""
    if re.fullmatch(r"\[\|+\]", signs):
        return Alternate(tuple(map(_weigh, parts)))
    if signs not in ("[:]", "[::]"):
        return None
    last = "".join(piece if isinstance(piece, str) else "[" for piece in parts[-1])
    if not (when := WHEN.fullmatch(last)):
        return None
    before, after = ([], *parts[:-1])[-2:]
    number, fraction = bound_weight(float(when[1])), "." in when[1]
    return Edit(_weigh(before), _weigh(after), number if fraction else float(int(number)), fraction)


def _weigh(pieces: Iterable[Piece]) -> Nodes:
    """A1111's second pass, `parse_prompt_attention`: a closing bracket multiplies all nodes since
    its opening one, also where brackets of the other kind are open between. The leaves of an edit
    are multiplied one by one, in that order, so to the same bits. Unlike in A1111, BREAK inside
    emphasis is a break; there it becomes a word of negative weight."""
    nodes: list[Node] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def multiply(start: int, factor: float) -> None:
        """Scales all nodes from `start` on. Joins neighbours first, so that a hundred brackets
        around thousands of nodes take no longer than one; but none across an open bracket."""
        places = sorted({place for sign in opened.values() for place in sign if place > start})
        moved, scaled = {}, list[Node]()
        for a, b in pairwise((start, *places, len(nodes))):
            moved[a] = start + len(scaled)
            scaled += [_scale(node, factor) for node in merge_chunks(nodes[a:b], "")]
        nodes[start:] = scaled
        for sign, starts in opened.items():
            opened[sign] = [moved.get(place, place) for place in starts]

    for is_text, run in groupby(pieces, lambda piece: isinstance(piece, str)):
        if not is_text:
            nodes.extend(piece for piece in run if not isinstance(piece, str))
            continue
        for match in TOKEN.finditer("".join(map(str, run))):
            token, weight = match[0], match[1]
            if token[0] == "\\":
                nodes.append(Chunk(token[1:]))
            elif token in opened and len(opened["("] + opened["["]) < DEEPEST:
                opened[token].append(len(nodes))
            elif (weight or token == ")") and opened["("]:
                start = opened["("].pop()
                edited = None if weight else _edit_weight(nodes[start:])
                multiply(start, float(weight or 1.1))
                if edited:
                    nodes[start:] = [edited]
                    for sign, starts in opened.items():  # brackets that were opened inside of it
                        opened[sign] = [min(place, len(nodes)) for place in starts]
            elif token == "]" and opened["["]:
                multiply(opened["["].pop(), 1 / 1.1)
            else:
                nodes.extend(_split_breaks(token))
    for sign, factor in (("(", 1.1), ("[", 1 / 1.1)):  # an open bracket lasts to the end
        for i in range(len(opened[sign])):  # `multiply` moves the later ones
            multiply(opened[sign][i], factor)
    return merge_chunks(nodes, "")


def _split_breaks(words: str) -> Iterator[Chunk | Break]:
    """The words between BREAKs; the spaces around a BREAK belong to it."""
    texts = re.split(r"\bBREAK\b", words)
    for i, text in enumerate(texts):
        if i:
            yield Break()
            text = text.lstrip()
        yield Chunk(text.rstrip() if i + 1 < len(texts) else text)


def _map_options(node: Edit | Alternate, change: Callable[[Nodes], Nodes]) -> Edit | Alternate:
    if isinstance(node, Edit):
        return Edit(change(node.before), change(node.after), node.when, node.fraction)
    return Alternate(tuple(map(change, node.options)))


def _scale(node: Node, factor: float) -> Node:
    if isinstance(node, Chunk):
        return Chunk(node.text, bound_weight(node.weight * bound_weight(factor)))
    if isinstance(node, Break):
        return node
    return _map_options(node, lambda nodes: tuple(_scale(n, factor) for n in nodes))


def _edit_weight(nodes: list[Node]) -> Node | None:
    """`(words:[1.1:1.5:3])`, emphasis whose weight is edited, becomes an edit of the words; None
    for other emphasis."""
    *words, colon, last = [Break(), Break(), *nodes][-max(2, len(nodes)) :]
    if (
        colon != Chunk(":")
        or isinstance(last, Chunk | Break)
        or any(isinstance(node, Edit | Alternate) for node in words)
    ):
        return None

    def weigh_words(weight: Nodes) -> Nodes:
        only = weight[0] if len(weight) == 1 else Break()
        if isinstance(only, Edit | Alternate):
            return (_map_options(only, weigh_words),)
        if isinstance(only, Chunk) and re.fullmatch(rf"\s*{SIGNED}\s*", only.text):
            return merge_chunks((_scale(node, float(only.text)) for node in words), "")
        return merge_chunks((_scale(node, 1.1) for node in (*words, colon, *weight)), "")

    return _map_options(last, weigh_words)


def _write(prompt: Prompt) -> str:
    """Writes parts, regions and weights: all that A1111 and prompt-control read."""
    texts: list[str] = []
    for part in prompt.parts:
        text = _write_nodes(part.nodes, Break())
        for region in part.regions:
            numbers = map(write_number, (*region.x, *region.y) if isinstance(region, Box) else ())
            place = (
                "MASK({} {}, {} {}".format(*numbers)
                if isinstance(region, Box)
                else f"IMASK({region.name}"
            )
            text += f" {place}, {write_number(region.weight)})"
        if part.weight != 1:
            text += f" :{write_number(part.weight)}"
        texts.append(text)
    return " AND ".join(texts)


def _write_nodes(nodes: Nodes, edge: Node) -> str:
    """edge: what stands on either side. Spaces beside a break or an end of the part last only in
    brackets."""
    texts: list[str] = []
    around = (edge, *nodes, edge)
    for before, node, after in zip(around[:-2], nodes, around[2:], strict=True):
        if isinstance(node, Break):
            texts.append(" BREAK ")
        elif isinstance(node, Alternate):
            options = (_write_nodes(option, Chunk("")) for option in node.options)
            texts.append(f"[{'|'.join(options)}]")
        elif isinstance(node, Edit):
            when = write_number(node.when)
            when += "." * (node.fraction and "." not in when)
            first, then = (_write_nodes(side, Chunk("")) for side in (node.before, node.after))
            texts.append(f"[{first}:{then}:{when}]")
        else:
            words = re.sub(r"([\\()\[\]:|])", r"\\\1", node.text)
            # a lone backslash says nothing
            words = re.sub(r"(<(?=\w)|\bA(?=ND\b)|\bB(?=REAK\b))", r"\1\\", words)
            ends = words[:1] * isinstance(before, Break) + words[-1:] * isinstance(after, Break)
            bare = node.weight == 1 and not re.search(r"\s", ends)
            texts.append(words if bare else f"({words}:{write_number(node.weight)})")
    return "".join(texts)


A1111 = Dialect(re.compile(TAG.format(r"\w+")), _read, _write)
