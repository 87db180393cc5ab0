"""A prompt's words in blocks of as many tokens as the text encoder reads at once."""

from collections.abc import Callable, Sequence

from torch import Tensor

from fromnoise.diffusion.samplers.base import Query
from fromnoise.prompt.tokenizer import Tokenizer
from fromnoise.prompt.tree import Break, Chunk

# a block ends behind a comma that lies within so many tokens of its end: A1111's default
BACKTRACK = 20
LONG_WORD = 8  # tokens from which ComfyUI lets a word begin in one block and end in the next
Chunks = tuple[Chunk | Break, ...]
Texts = tuple[
    tuple[Chunks, float], ...
]  # what the network is shown as one: a text, or what compel joins, by weight
Observer = Callable[
    [list[str] | Texts, Query, tuple[int, ...], Tensor, Tensor | None, dict[str, Tensor]], None
]
Block = list[tuple[int, float]]  # token ids and their weights, without start, end and padding


def split_blocks(
    words: Tokenizer, chunks: Sequence[Chunk | Break], dialect: str = "a1111"
) -> list[Block]:
    """The tokens of a prompt of any length, in blocks of what the text encoder reads at once (CLIP:
    75, and start and end). A block that is full ends behind its last comma (a1111) or before a word
    (comfy), or anywhere (compel)."""
    room, comma = words.max_length - 2, words.ids(",")
    found: list[Block] = [[]]
    for chunk in chunks:
        if isinstance(chunk, Break):
            found.append([])
            continue
        texts = chunk.text.replace("\n", " ").split(" ") if dialect == "comfy" else [chunk.text]
        ids = [words.ids(text) for text in texts]
        for unit in ids if dialect == "comfy" else [[token] for token in ids[0]]:
            now = found[-1]
            if dialect == "comfy" and len(now) + len(unit) > room and len(unit) < LONG_WORD:
                found.append([])
            elif dialect == "a1111" and len(now) == room and unit != comma:
                ends = [
                    at + 1
                    for at in range(room - BACKTRACK, room)
                    if at >= 0 and [now[at][0]] == comma
                ]
                if ends:
                    found[-1:] = [now[: ends[-1]], now[ends[-1] :]]
            for token in unit:
                if len(found[-1]) == room:
                    found.append([])
                found[-1].append((token, chunk.weight))
    return found if found[-1] or len(found) == 1 else found[:-1]
