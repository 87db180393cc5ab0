"""The dialect of ComfyUI, `comfy/sd1_clip.py`: (a), (a:1.3), where an explicit weight replaces the
outer one.

embedding:name is a textual inversion. LoRAs are A1111's tags: ComfyUI itself has nodes for them.
"""

import re
from collections.abc import Iterator

from fromnoise.prompt.dialects.base import (
    DEEPEST,
    TAG,
    Dialect,
    bound_weight,
    read_number,
    write_number,
)
from fromnoise.prompt.tree import Chunk, Network, Part, Prompt

EMBEDDING = re.compile(r"(?<!\S)embedding:([^\s,<\[]+)")


def _read(text: str, tags: tuple[Network, ...]) -> Prompt:
    """Reads as ComfyUI's `token_weights`. Its chunks are tokenized one by one, so they are not
    merged."""
    nodes: list[Chunk] = []

    def walk(text: str, weight: float, depth: int) -> None:
        for piece, bracketed in _split_brackets(text):
            if bracketed and depth < DEEPEST:
                before, _, after = piece[1:-1].rpartition(":")
                number = read_number(after) if before else None
                if number is None:
                    walk(piece[1:-1], bound_weight(weight * 1.1), depth + 1)
                else:
                    walk(before, number, depth + 1)
                continue
            words, end = re.sub(r"\\([()])", r"\1", piece), 0
            for match in EMBEDDING.finditer(words):
                nodes.append(Chunk(words[end : match.start()], weight))
                nodes.append(Chunk(match[1], weight, True))
                end = match.end()
            nodes.append(Chunk(words[end:], weight))

    walk(text, 1.0, 0)
    return Prompt((Part(tuple(node for node in nodes if node.text)),), tags, "comfy")


def _split_brackets(text: str) -> Iterator[tuple[str, bool]]:
    """Splits as ComfyUI's `parse_parentheses`: the pieces, and whether each is a bracket from "("
    to ")". After a stray ")" the next "(" opens nothing."""
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


def _write(prompt: Prompt) -> str:
    """Writes as few brackets as the tree needs."""
    text, bare = "", None  # bare: the chunk before, if it is not in brackets
    for node in (node for part in prompt.parts for node in part.nodes if isinstance(node, Chunk)):
        words = "embedding:" * node.embedding + re.sub(r"([()])", r"\\\1", node.text)
        joins = re.search(r"\s$", text) if node.embedding else re.match(r"[\s,<\[]", words)
        alone = bare is None or (bare.embedding != node.embedding and joins)
        bare = node if node.weight == 1 and alone and not words.endswith("\\") else None
        text += words if bare else f"({words}:{write_number(node.weight)})"
    return text


COMFY = Dialect(re.compile(TAG.format("lora|lyco|hypernet")), _read, _write)
